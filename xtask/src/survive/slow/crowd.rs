//! Many slow clients of one kind, and how each of them ends.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::kinds::Kind;
use crate::survive::times::Times;

/// How long it may take to connect.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

struct SlowClient {
    stream: TcpStream,
    port: u16,
    since: Instant,
}

pub(crate) struct Crowd {
    pub(crate) kind: Kind,
    waiting: Vec<SlowClient>,
    /// How long those that were closed had been open.
    pub(crate) closed: Times,
    /// So many of these were told 408.
    pub(crate) told: u64,
    pub(crate) not_connected: u64,
}

impl Crowd {
    /// Connects them all, one at once after the other.
    pub(crate) fn open(kind: Kind, count: usize, port: u16) -> Self {
        let request = kind.request();
        let clients = (0..count).map(|_| connect(port, &request));
        let waiting: Vec<_> = clients.filter_map(std::io::Result::ok).collect();
        Self {
            kind,
            not_connected: (count - waiting.len()) as u64,
            waiting,
            closed: Times::default(),
            told: 0,
        }
    }

    pub(crate) fn open_count(&self) -> usize {
        self.waiting.len()
    }

    /// Takes out those that the service does not hold any more.
    pub(crate) fn update(&mut self, held: &HashSet<u16>) {
        let is_held = |client: &SlowClient| held.contains(&client.port);
        let (waiting, closed) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(is_held);
        self.waiting = waiting;
        let closed: Vec<SlowClient> = closed;
        for client in closed {
            self.closed.record(client.since.elapsed());
            self.told += u64::from(self.kind.is_told() && was_told(&client.stream));
        }
    }
}

fn connect(port: u16, request: &[u8]) -> std::io::Result<SlowClient> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, LONGEST_WAIT)?;
    // What a service does not take in must not hold us.
    stream.set_nonblocking(true)?;
    let _ = stream.write(request)?;
    Ok(SlowClient {
        port: stream.local_addr()?.port(),
        stream,
        since: Instant::now(),
    })
}

/// Whether 408 came before the end.
fn was_told(mut stream: &TcpStream) -> bool {
    let mut answer = [0; 12];
    let count = stream.read(&mut answer).unwrap_or_default();
    answer[..count] == *b"HTTP/1.1 408"
}
