//! The listening socket, from its first connection to its last.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// So many connections wait to be accepted; Linux takes less if `net.core.somaxconn` says so.
const BACKLOG: u32 = 4096;

/// Listens. The address may be in use by connections of a process that has ended, but not by another listener.
///
/// # Errors
/// If the address is not free.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Closes the listener and returns every connection that had been made: closing resets those that nobody has accepted,
/// although their clients may have sent a request.
pub(crate) fn close(listener: TcpListener) -> Vec<TcpStream> {
    // tokio's accept may be pending although connections wait; the system's own says exactly when there is none.
    let mut waiting = Vec::new();
    let end = listener.into_std().and_then(|listener| {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    waiting.push(TcpStream::from_std(stream)?);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    });
    if let Err(error) = end {
        tracing::warn!("connections that waited for the listener are lost: {error}");
    }
    waiting
}

/// Whether the error is about the connection that was to be accepted, not about the listener.
pub(crate) fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_that_closes_hands_over_the_connections_that_wait() {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let made = TcpStream::connect(address).await.unwrap();
        let waiting = close(listener);
        let [accepted] = waiting.as_slice() else {
            panic!("{waiting:?}");
        };
        assert_eq!(accepted.peer_addr().unwrap(), made.local_addr().unwrap());
        let late = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::ConnectionRefused);
    }
}
