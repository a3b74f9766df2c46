//! Accepts connections, serves HTTP/1.1 on them, and lets them end in good order.
//!
//! axum's own `serve` stops with connections still in the listener's backlog, arms no timeout for a request's head, and
//! waits for its connections without limit.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower_service::Service as _;

use crate::backlog;

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
    if let Err(error) = backlog::shut(&listener) {
        tracing::warn!(%error, "a connection that comes while the listener closes may be lost: {error}");
    }
    let handshakes = sleep(LAST_HANDSHAKES.min(limit));
    let drained = accept(&listener, &app, &drain, &mut connections, handshakes).await;
    let waiting = backlog::close(listener).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot read the listener's last connections: {error}");
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
                Err(error) if backlog::is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections: {error}");
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
        tracing::debug!(%error, "connection ended: {error}");
    }
}

async fn serve_connection(
    stream: TcpStream,
    app: Router,
    drain: &mut watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let spoken = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let (spoken, drain) = (Arc::clone(&spoken), drain.clone());
        move |request| {
            spoken.store(true, Ordering::Relaxed);
            respond(app.clone(), request, drain.clone())
        }
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
    mut app: Router,
    request: Request<Incoming>,
    drain: watch::Receiver<bool>,
) -> Result<Response, Infallible> {
    let mut response = app.call(request).await?;
    if *drain.borrow() {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}
