//! Choosing a TCP port.

use std::net::TcpListener;

use crate::Error;
use crate::folder::random_hex;

/// A port below those that systems give to outgoing connections: none of them takes it while the server restarts, and no
/// client that dials a stopped server connects to itself.
pub(crate) fn free_port() -> Result<u16, Error> {
    for _ in 0..100 {
        let random = u16::from_str_radix(&random_hex()?[..4], 16).unwrap_or_default();
        let port = 15_000 + random % 17_000;
        if is_free(port) {
            return Ok(port);
        }
    }
    Err(Error::new(
        "no free port between 15000 and 32000 on 127.0.0.1",
    ))
}

/// Whether nothing listens there.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}
