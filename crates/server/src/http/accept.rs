//! Listens, accepts connections, serves HTTP/1.1 on them, and lets them end in good order.
//!
//! axum's own `serve` stops with connections still in the listener's backlog, arms no timeout for a request's head, and
//! waits for its connections without limit.
//!
//! Closing a listener resets the connections whose handshake is done but that nobody has accepted yet, although their
//! clients may have sent a request. So first no handshake may begin, then what waits is accepted, and only then the
//! listener closes.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower_service::Service as _;

/// So many connections wait to be accepted; Linux takes less if `net.core.somaxconn` says so.
const BACKLOG: u32 = 4096;

/// How long a client may take to send a request's head, and how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// After the signal, a connection with nothing to do is kept this long: what its client had already sent gets its
/// answer, with `Connection: close`.
const GRACE: Duration = Duration::from_millis(500);

/// After the signal, handshakes that had begun get this long to end: a round trip and some.
const LAST_HANDSHAKES: Duration = Duration::from_millis(100);

/// The pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Tasks that were cut off get this long to notice.
const ABORT_TIMEOUT: Duration = Duration::from_millis(100);

/// How the service's last connections ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that ended by themselves after the signal.
    pub drained: usize,
    /// Connections that were cut off at the deadline.
    pub aborted: usize,
}

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

/// Serves until `shutdown`, then finishes what is running within `limit`.
pub(crate) async fn serve(
    listener: TcpListener,
    app: Router,
    shutdown: impl Future<Output = ()>,
    limit: Duration,
) -> Stopped {
    let (draining, drain) = watch::channel(false);
    let mut connections = JoinSet::new();
    accept(&listener, &app, &drain, &mut connections, shutdown).await;

    let deadline = Instant::now() + limit;
    draining.send_replace(true);
    if let Err(error) = stop_handshakes(&listener) {
        let text =
            format!("a connection that comes while the listener closes may be lost: {error}");
        match error.kind() {
            // Some systems let only root filter; its user can do nothing about it.
            io::ErrorKind::PermissionDenied => tracing::debug!("{text}"),
            _ => tracing::warn!("{text}"),
        }
    }
    let handshakes = sleep(LAST_HANDSHAKES.min(limit));
    let drained = accept(&listener, &app, &drain, &mut connections, handshakes).await;
    let waiting = close(listener).unwrap_or_else(|error| {
        tracing::warn!("connections that waited for the listener are lost: {error}");
        Vec::new()
    });
    for stream in waiting {
        connections.spawn(connection(stream, app.clone(), drain.clone()));
    }
    finish(connections, drained, deadline).await
}

/// Accepts connections until `end`, and returns how many ended meanwhile.
async fn accept(
    listener: &TcpListener,
    app: &Router,
    drain: &watch::Receiver<bool>,
    connections: &mut JoinSet<()>,
    end: impl Future<Output = ()>,
) -> usize {
    let mut end = pin!(end);
    let mut ended = 0;
    loop {
        tokio::select! {
            () = &mut end => return ended,
            Some(_) = connections.join_next() => ended += 1,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, app.clone(), drain.clone()));
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!("cannot accept connections: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn finish(mut connections: JoinSet<()>, mut drained: usize, deadline: Instant) -> Stopped {
    loop {
        tokio::select! {
            joined = connections.join_next() => match joined {
                Some(_) => drained += 1,
                None => return Stopped { drained, aborted: 0 },
            },
            () = sleep_until(deadline) => break,
        }
    }
    let aborted = connections.len();
    // A task that blocks its thread cannot be cut off: it is left behind.
    let _ = timeout(ABORT_TIMEOUT, connections.shutdown()).await;
    Stopped { drained, aborted }
}

async fn connection(stream: TcpStream, app: Router, mut drain: watch::Receiver<bool>) {
    if let Err(error) = serve_connection(stream, app, &mut drain).await {
        // Clients that vanish, send nonsense or nothing at all: of no interest until one looks for it.
        tracing::debug!("connection ended: {error}");
    }
}

async fn serve_connection(
    stream: TcpStream,
    app: Router,
    drain: &mut watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    // Each connection has its own: clones of what all share, made for every request, would slow the others down.
    let (spoken, draining) = (&AtomicBool::new(false), &drain.clone());
    let app = RefCell::new(app);
    let service = service_fn(move |request| {
        spoken.store(true, Ordering::Relaxed);
        respond(app.borrow_mut().call(request), draining)
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));

    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        _ = drain.wait_for(|draining| *draining) => {}
    }
    if let Ok(ended) = timeout(GRACE, connection.as_mut()).await {
        return Ok(ended?);
    }
    if !spoken.load(Ordering::Relaxed) {
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "no request came before the shutdown",
        )
        .into());
    }
    // hyper closes the connection now if it is idle, else after the answer.
    connection.as_mut().graceful_shutdown();
    Ok(connection.await?)
}

async fn respond(
    answer: impl Future<Output = Result<Response, Infallible>>,
    draining: &watch::Receiver<bool>,
) -> Result<Response, Infallible> {
    let mut response = answer.await?;
    // It is sent once: when the service begins to drain.
    if draining.has_changed().unwrap_or(true) {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Lets no further handshake begin, while those that run may end: clients that come now try again after a second, and
/// nobody listens then. Without it, a connection made between the last accept and the close would be reset.
///
/// # Errors
/// If the system takes no filter.
#[cfg(target_os = "linux")]
fn stop_handshakes(listener: &TcpListener) -> io::Result<()> {
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
fn stop_handshakes(_: &TcpListener) -> io::Result<()> {
    Ok(())
}

/// Closes the listener and returns every connection that had been made.
fn close(listener: TcpListener) -> io::Result<Vec<TcpStream>> {
    // tokio's accept may be pending although connections wait; the system's own says exactly when there is none.
    let listener = listener.into_std()?;
    let mut waiting = Vec::new();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                waiting.push(TcpStream::from_std(stream)?);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    tracing::warn!("connections that waited for the listener are lost: {error}");
                }
                return Ok(waiting);
            }
        }
    }
}

/// Whether the error is about the connection that was to be accepted, not about the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_that_closes_loses_no_connection_and_takes_no_new_one() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let made = TcpStream::connect(address).await.unwrap();
        stop_handshakes(&listener).unwrap();
        let mut late = Box::pin(TcpStream::connect(address));
        let early = timeout(Duration::from_millis(200), &mut late).await;
        assert!(early.is_err(), "{early:?}");

        let waiting = close(listener).unwrap();
        let [accepted] = waiting.as_slice() else {
            panic!("{waiting:?}");
        };
        assert_eq!(accepted.peer_addr().unwrap(), made.local_addr().unwrap());
        let late = late.await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::ConnectionRefused);
    }
}
