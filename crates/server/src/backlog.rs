//! The last connections of a listener: those whose handshake is done, but that nobody has accepted yet.
//!
//! Closing a listener resets them, although their clients believe to be connected and may have sent a request. So the
//! hall is emptied before the listener goes.

use std::io;

use tokio::net::{TcpListener, TcpStream};

/// Closes the listener and returns every connection that had been made. One that arrives in the microseconds between
/// the last look and the close is refused.
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
