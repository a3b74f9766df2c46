//! What is done around every request: it is counted, timed, logged if it fails, and its error gets its body.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::body::HttpBody as _;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use futures_util::FutureExt as _;
use tower_layer::Layer;
use tower_service::Service;

use crate::error::problem::{self, Problem};
use crate::error::{self, Cause};
use crate::metrics::requests::{self, Active};

/// The largest body a request may have, in bytes; more is a 413.
const BODY_LIMIT: usize = 64 * 1024;

/// Puts everything around a route, as one layer: axum boxes and clones each layer again for every request.
#[derive(Clone, Copy)]
pub(crate) struct Around;

impl<S> Layer<S> for Around {
    type Service = Guarded<S>;

    fn layer(&self, route: S) -> Guarded<S> {
        Guarded(route)
    }
}

/// A route that is counted, timed and logged, has a limit for bodies, and answers whatever happens with a problem.
#[derive(Clone)]
pub(crate) struct Guarded<S>(S);

impl<S> Service<Request> for Guarded<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let exchange = Exchange::begin(&request);
        if !request.body().is_end_stream() {
            DefaultBodyLimit::max(BODY_LIMIT).apply(&mut request);
        }
        let answer = AssertUnwindSafe(self.0.call(request)).catch_unwind();
        Box::pin(async move {
            let mut response = match answer.await {
                Ok(Ok(response)) => response,
                // The panic itself has been logged by the panic hook, with its place.
                Err(_) => panicked(),
            };
            if problem::is_lacking(&response) {
                response = problem::rewrite(response).await;
            }
            exchange.end(&response);
            Ok(response)
        })
    }
}

fn panicked() -> Response {
    let problem = Problem::of(StatusCode::INTERNAL_SERVER_ERROR);
    error::with_cause(problem, "the handler panicked".to_owned())
}

/// A request, from its head to the head of its answer.
struct Exchange {
    active: Active,
    uri: Uri,
    route: Option<MatchedPath>,
    started: Instant,
}

impl Exchange {
    fn begin(request: &Request) -> Self {
        Self {
            active: Active::begin(request.method()),
            uri: request.uri().clone(),
            route: request.extensions().get().cloned(),
            started: Instant::now(),
        }
    }

    fn end(self, response: &Response) {
        let Self {
            active,
            uri,
            route,
            started,
        } = self;
        let (method, status, elapsed) = (active.method(), response.status(), started.elapsed());
        drop(active);
        // Paths that no route knows are one series together: a scanner must not make thousands.
        let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
        requests::record(method, route, status, elapsed);
        tracing::debug!(
            method,
            path = uri.path(),
            status = status.as_u16(),
            ?elapsed,
            "{method} {uri}: {status}"
        );
        if status.is_server_error() {
            log_failure(method, &uri, response);
        }
    }
}

/// Logs the cause of a 5xx, here and nowhere else. They come by the thousand: of each status, one a second is logged.
fn log_failure(method: &str, uri: &Uri, response: &Response) {
    let Some(Cause(cause)) = response.extensions().get::<Cause>() else {
        return;
    };
    let (path, status) = (uri.path(), response.status().as_u16());
    let Some(unlogged) = one_a_second(status) else {
        return;
    };
    let line = format!("{method} {path}: {status}: {cause}");
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        tracing::warn!(method, path, status, unlogged, "{line}");
    } else {
        tracing::error!(method, path, status, unlogged, "{line}");
    }
}

/// At the first call of a second with this status, the number of calls since the last such.
fn one_a_second(status: u16) -> Option<u64> {
    /// For each of 500 to 599, the second of the last line, and how many were not logged since.
    static LINES: [(AtomicU64, AtomicU64); 100] =
        [const { (AtomicU64::new(0), AtomicU64::new(0)) }; 100];
    let (second, unlogged) = &LINES[usize::from(status % 100)];
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs());
    if second.swap(now, Ordering::Relaxed) == now {
        unlogged.fetch_add(1, Ordering::Relaxed);
        return None;
    }
    Some(unlogged.swap(0, Ordering::Relaxed))
}
