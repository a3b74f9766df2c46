//! What is done around every request: it is counted, timed, logged if it fails, and its error gets its body.

use std::convert::Infallible;
use std::future::ready;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::HttpBody as _;
use axum::extract::{MatchedPath, Request};
use axum::http::header::RETRY_AFTER;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use futures_util::FutureExt as _;
use tokio::time::timeout_at;
use tower_layer::Layer;
use tower_service::Service;

use crate::error::problem::{self, Problem};
use crate::error::{self, Cause};
use crate::http::request;
use crate::http::writes::Writes;
use crate::metrics::requests::{self, Active};
use crate::settings::Limits;

/// A request that its own deadline cannot end is cut off so much later: the pool, which says what it was busy with, speaks
/// first.
const MARGIN: Duration = Duration::from_millis(100);

/// Puts everything around a route, as one layer: axum boxes and clones each layer again for every request.
#[derive(Clone)]
pub(crate) struct Around {
    limits: Limits,
    /// What the shutdown waits for.
    pub(crate) writes: Writes,
}

impl Around {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            writes: Writes::default(),
        }
    }
}

impl<S> Layer<S> for Around {
    type Service = Guarded<S>;

    fn layer(&self, route: S) -> Guarded<S> {
        Guarded {
            route,
            around: self.clone(),
            work: Arc::default(),
        }
    }
}

/// A route that is counted, timed and logged, has limits, and answers whatever happens with a problem.
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    route: S,
    around: Around,
    /// Each route is work of its own for the pool: one that is slow leaves connections to the others.
    work: Arc<db::Work>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

impl<S> Service<Request> for Guarded<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.route.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Answer {
        let exchange = Exchange::begin(&request);
        if let Some(refused) = request::refusal(&request) {
            exchange.end(&refused);
            return Box::pin(ready(Ok(refused)));
        }
        let Limits {
            body_timeout,
            request_timeout,
            ..
        } = self.around.limits;
        if !self.work.is_named() {
            name(&self.work, &request);
        }
        let (reads, work) = (request.method().is_safe(), self.work.clone());
        if request.body().is_end_stream() {
            let answer = db::with_work(work, self.route.call(request));
            let answer = bounded(request_timeout, reads, answer);
            return self.finish(reads, exchange.run(answer));
        }
        // The one that is ready is used; what is left for the next request is its clone.
        let clone = self.route.clone();
        let mut route = std::mem::replace(&mut self.route, clone);
        let answer = async move {
            match request::read(request, body_timeout).await {
                Ok(request) => {
                    let answer = db::with_work(work, route.call(request));
                    bounded(request_timeout, reads, answer).await
                }
                Err(refused) => refused,
            }
        };
        self.finish(reads, exchange.run(answer))
    }
}

impl<S> Guarded<S> {
    /// What only reads ends with its client. What may write is finished also when its client has gone: half of it would
    /// help nobody.
    fn finish(
        &self,
        reads: bool,
        answer: impl Future<Output = Response> + Send + 'static,
    ) -> Answer {
        if reads {
            Box::pin(answer.map(Ok))
        } else {
            let answer = self.around.writes.spawn(answer);
            Box::pin(answer.map(|answer| Ok(answer.unwrap_or_else(|_| panicked()))))
        }
    }
}

/// The work is named by its route, so that the pool can say who holds its connections, and for how long.
fn name(work: &db::Work, request: &Request) {
    let Some(route) = request.extensions().get::<MatchedPath>() else {
        return;
    };
    let method = match *request.method() {
        // What answers GET answers HEAD too.
        Method::HEAD => "GET",
        ref other => other.as_str(),
    };
    let route = route.as_str();
    work.name(&format!("{method} {route}"), ("http.route", route));
}

/// The handler's answer, within its time.
async fn bounded(
    limit: Duration,
    reads: bool,
    answer: impl Future<Output = Result<Response, Infallible>>,
) -> Response {
    let deadline = Instant::now() + limit;
    let answer = AssertUnwindSafe(answer).catch_unwind();
    match timeout_at(
        (deadline + MARGIN).into(),
        db::with_deadline(deadline, answer),
    )
    .await
    {
        Ok(Ok(Ok(response))) => response,
        // The panic itself has been logged by the panic hook, with its place.
        Ok(Err(_)) => panicked(),
        Err(_) => too_slow(limit, reads),
    }
}

fn panicked() -> Response {
    let problem = Problem::of(StatusCode::INTERNAL_SERVER_ERROR);
    error::with_cause(problem, "the handler panicked".to_owned())
}

fn too_slow(limit: Duration, reads: bool) -> Response {
    let what = match reads {
        true => "Try again later.",
        false => "Whether it took effect is not known: look before you try again.",
    };
    let problem = Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("The request took longer than {limit:?}. {what}"),
    );
    let cause = format!("the request took longer than REQUEST_TIMEOUT ({limit:?})");
    error::with_cause(([(RETRY_AFTER, "1")], problem), cause)
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

    /// Waits for the answer and does what belongs to its end.
    async fn run(self, answer: impl Future<Output = Response>) -> Response {
        let mut response = answer.await;
        if problem::is_lacking(&response) {
            response = problem::rewrite(response).await;
        }
        self.end(&response);
        response
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
