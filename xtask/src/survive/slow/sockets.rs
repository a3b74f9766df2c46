//! The system's table of connections (`/proc`): a client that does not read cannot see that its service has closed.

use std::collections::HashSet;
use std::fs;

use crate::output::Result;

const TABLE: &str = "/proc/net/tcp";

/// The states in which a service still holds a connection: established, and closed by the client alone.
const HELD: [&str; 2] = ["01", "08"];

/// What the service holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// The clients' ports.
    pub(crate) clients: HashSet<u16>,
    /// Bytes that it has sent and that no client has taken.
    pub(crate) unread: u64,
}

/// The connections that the service on `port` holds.
pub(crate) fn held(port: u16) -> Result<Held> {
    let table = fs::read_to_string(TABLE).map_err(|error| format!("{TABLE}: {error}"))?;
    Ok(parse(&table, port))
}

fn parse(table: &str, port: u16) -> Held {
    let port = format!(":{port:04X}");
    let mut held = Held::default();
    for (client, unread) in table.lines().filter_map(|line| parse_line(line, &port)) {
        held.clients.insert(client);
        held.unread += unread;
    }
    held
}

/// A line has a number, both addresses as `0100007F:1F90`, the state, and what waits to be sent and to be read, in
/// hexadecimal digits.
fn parse_line(line: &str, port: &str) -> Option<(u16, u64)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (fields.next()?, fields.next()?);
    let (state, queues) = (fields.next()?, fields.next()?);
    let is_held = local.ends_with(port) && HELD.contains(&state);
    let (_, client) = remote.rsplit_once(':').filter(|_| is_held)?;
    let (unread, _) = queues.split_once(':')?;
    let client = u16::from_str_radix(client, 16).ok()?;
    Some((client, u64::from_str_radix(unread, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_are_held_are_found_by_their_port() {
        let table = "  sl  local_address rem_address   st tx_queue
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000
   1: 0100007F:1F90 0100007F:C47C 01 00000100:00000000
   2: 0100007F:1F90 0100007F:C47D 08 00000002:00000000
   3: 0100007F:1F90 0100007F:C47E 05 00000000:00000000
   4: 0100007F:C47C 0100007F:1F90 01 00000000:00000000
   5: 0100007F:1F91 0100007F:C47F 01 00000000:00000000";
        let expected = Held {
            clients: HashSet::from([0xC47C, 0xC47D]),
            unread: 258,
        };
        assert_eq!(parse(table, 0x1F90), expected);
    }
}
