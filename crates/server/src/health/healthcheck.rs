//! The `healthcheck` subcommand: asks the running service whether it is ready, where an image has neither shell nor curl.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::settings::Settings;

/// Longer than the service needs for its own bounded check of the database.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks `/readyz`.
///
/// # Errors
/// What the service said if it is not ready, or why it could not be asked.
pub(crate) fn run(settings: &Settings) -> Result<(), String> {
    let address = SocketAddr::new(reachable(settings.host), settings.port);
    let answer = ask(address).map_err(|error| format!("no answer from {address}: {error}"))?;
    match answer.split_once("\r\n") {
        Some((status, _)) if status.contains(" 200 ") => Ok(()),
        _ => Err(answer
            .rsplit("\r\n\r\n")
            .next()
            .unwrap_or_default()
            .to_owned()),
    }
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A service that listens on every address is reached on loopback.
fn reachable(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        host => host,
    }
}
