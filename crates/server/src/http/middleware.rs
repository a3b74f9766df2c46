//! What is done around every request: it is counted, timed, logged if it fails, and its error gets its body.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{MatchedPath, Request};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::Response;
use metrics::{Gauge, gauge, histogram};

use crate::error::problem::{self, Problem};
use crate::error::{self, Cause};
use crate::metrics::{ACTIVE_REQUESTS, REQUEST_DURATION};

/// Counts, times and logs a request, and turns axum's own rejections into problems.
pub(crate) async fn request(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = known_method(request.method());
    let uri = request.uri().clone();
    // Paths that no route knows are one series together: a scanner must not make thousands.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let active = Active::begin(method);

    let response = problem::rewrite(next.run(request).await).await;

    drop(active);
    let elapsed = started.elapsed();
    let status = response.status();
    histogram!(
        REQUEST_DURATION,
        "http.request.method" => method,
        "http.route" => route,
        "http.response.status_code" => status.as_str().to_owned()
    )
    .record(elapsed);
    tracing::debug!(
        method,
        path = uri.path(),
        status = status.as_u16(),
        ?elapsed,
        "{method} {uri}: {status}"
    );
    if status.is_server_error() {
        log_failure(method, &uri, &response);
    }
    response
}

/// A request that waits for its answer; also one whose client gives up is counted down.
struct Active(Gauge);

impl Active {
    fn begin(method: &'static str) -> Self {
        let gauge = gauge!(ACTIVE_REQUESTS, "http.request.method" => method);
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// The methods of RFC 9110 and PATCH; clients can invent others, which are one label together.
fn known_method(method: &Method) -> &'static str {
    let known = "GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT";
    let mut known = known.split(' ');
    known
        .find(|known| *known == method.as_str())
        .unwrap_or("_OTHER")
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

/// The answer of a handler that panicked; the panic itself has been logged by the panic hook, with its place.
pub(crate) fn panicked(_: Box<dyn Any + Send>) -> Response {
    let problem = Problem::of(StatusCode::INTERNAL_SERVER_ERROR);
    error::with_cause(problem, "the handler panicked".to_owned())
}
