//! The last connections of a listener: those whose handshake is done, but that nobody has accepted yet.
//!
//! Closing a listener resets them, although their clients believe to be connected and may have sent a request. So the
//! door is shut first, then the hall is emptied, and only then the listener goes.

use std::io;

use tokio::net::{TcpListener, TcpStream};

/// Lets no further handshake begin, while those that run may end: clients that come now try again after a second and
/// are refused then. Without it, a connection made between the last accept and the close would be reset.
///
/// # Errors
/// If the system takes no filter.
#[cfg(target_os = "linux")]
pub(crate) fn shut(listener: &TcpListener) -> io::Result<()> {
    use socket2::{SockFilter, SockRef};
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const SKIP_UNLESS_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    // In the system's own filter language, whose packets begin with the TCP header: is it SYN without ACK?
    let flags = SockFilter::new(LOAD_BYTE, 0, 0, 13);
    let handshake = SockFilter::new(AND, 0, 0, SYN | ACK);
    let is_first = SockFilter::new(SKIP_UNLESS_EQUAL, 0, 1, SYN);
    let drop = SockFilter::new(RETURN, 0, 0, 0);
    let pass = SockFilter::new(RETURN, 0, 0, u32::MAX);
    SockRef::from(listener).attach_filter(&[flags, handshake, is_first, drop, pass])
}

/// Elsewhere there is no such filter, and a connection that arrives in the microseconds between the last accept and
/// the close is reset.
#[cfg(not(target_os = "linux"))]
pub(crate) fn shut(_: &TcpListener) -> io::Result<()> {
    Ok(())
}

/// Closes the listener and returns every connection that had been made.
///
/// # Errors
/// If the listener cannot be read; what waits in it is then lost.
pub(crate) async fn close(listener: TcpListener) -> io::Result<Vec<TcpStream>> {
    // tokio's accept may be pending although connections wait; the system's own says exactly when there is none.
    let listener = listener.into_std()?;
    let mut waiting = Vec::new();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                waiting.push(TcpStream::from_std(stream)?);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(waiting),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "connections that were waiting are lost: {error}");
                return Ok(waiting);
            }
        }
    }
}

/// Whether the error is about the connection that was to be accepted, not about the listener.
pub(crate) fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn after_the_door_is_shut_nobody_comes_in_and_nobody_inside_is_lost() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let inside = TcpStream::connect(address).await.unwrap();
        shut(&listener).unwrap();
        let mut outside = Box::pin(TcpStream::connect(address));
        let early = timeout(Duration::from_millis(200), &mut outside).await;
        assert!(early.is_err(), "{early:?}");

        let waiting = close(listener).await.unwrap();
        let [accepted] = waiting.as_slice() else {
            panic!("{waiting:?}");
        };
        assert_eq!(accepted.peer_addr().unwrap(), inside.local_addr().unwrap());
        let late = outside.await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::ConnectionRefused);
    }
}
