//! What is done around every request: it is counted, timed, logged if it fails, and its error gets its body.

use std::convert::Infallible;
use std::future::ready;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::HttpBody as _;
use axum::extract::{MatchedPath, Request};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use db::Usage;
use futures_util::FutureExt as _;
use tower_layer::Layer;
use tower_service::Service;

use crate::error::problem::{self, Problem};
use crate::error::{self, Cause};
use crate::http::identity::Identity;
use crate::http::lines::{Line, Lines};
use crate::http::own_writes::Client;
use crate::http::request;
use crate::http::writes::Writes;
use crate::metrics::requests::{self, Active};
use crate::settings::{Limits, Settings};

/// A request that its own deadline cannot end is cut off so much later: the pool, which says what it was busy with, speaks
/// first.
const MARGIN: Duration = Duration::from_millis(100);

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Puts everything around a route, as one layer: axum boxes and clones each layer again for every request.
#[derive(Clone)]
pub(crate) struct Around {
    limits: Limits,
    /// Whether answers carry `Server-Timing`.
    timing: bool,
    pub(crate) lines: Arc<Lines>,
    /// What the shutdown waits for.
    pub(crate) writes: Writes,
    /// The pool, if it has replicas: then clients carry what they have seen.
    replicated: Option<db::Pool>,
    /// Knows of the time in which the process did not run.
    pool: db::Pool,
}

impl Around {
    pub(crate) fn new(settings: &Settings, pool: &db::Pool) -> Self {
        Self {
            limits: settings.limits,
            timing: settings.server_timing(),
            lines: Arc::new(Lines::new(settings.environment)),
            writes: Writes::default(),
            replicated: (!pool.config().replicas.is_empty()).then(|| pool.clone()),
            pool: pool.clone(),
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

    fn call(&mut self, mut request: Request) -> Answer {
        let exchange = Exchange::begin(&mut request, &self.around);
        if let Some(refused) = request::refusal(&request) {
            return Box::pin(ready(Ok(exchange.end(refused))));
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
        let pool = self.around.pool.clone();
        if request.body().is_end_stream() {
            let answer = db::with_work(work, self.route.call(request));
            let answer = bounded(pool, request_timeout, reads, answer);
            return self.finish(reads, exchange.run(answer));
        }
        // The one that is ready is used; what is left for the next request is its clone.
        let clone = self.route.clone();
        let mut route = std::mem::replace(&mut self.route, clone);
        let answer = async move {
            match request::read(request, body_timeout).await {
                Ok(request) => {
                    let answer = db::with_work(work, route.call(request));
                    bounded(pool, request_timeout, reads, answer).await
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
    pool: db::Pool,
    limit: Duration,
    reads: bool,
    answer: impl Future<Output = Result<Response, Infallible>>,
) -> Response {
    let deadline = Instant::now() + limit;
    let answer = AssertUnwindSafe(answer).catch_unwind();
    let answer = pin!(db::with_deadline(deadline, answer));
    match pool.within(limit + MARGIN, answer).await {
        Some(Ok(Ok(response))) => response,
        // The panic itself has been logged by the panic hook, with its place.
        Some(Err(_)) => panicked(),
        None => too_slow(limit, reads),
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
    identity: Identity,
    lines: Arc<Lines>,
    timing: bool,
    /// What it takes of the pool.
    usage: Arc<Usage>,
    /// How far the client has to see, where there are replicas.
    seen: Option<Client>,
    uri: Uri,
    route: Option<MatchedPath>,
    started: Instant,
    /// Whether there is an answer.
    ended: bool,
}

impl Exchange {
    fn begin(request: &mut Request, around: &Around) -> Self {
        let active = Active::begin(request.method());
        Self {
            identity: Identity::of(request, active.method()),
            active,
            lines: around.lines.clone(),
            timing: around.timing,
            usage: Arc::default(),
            seen: around
                .replicated
                .clone()
                .map(|pool| Client::of(pool, request.headers())),
            uri: request.uri().clone(),
            route: request.extensions().get().cloned(),
            started: Instant::now(),
            ended: false,
        }
    }

    /// Waits for the answer and does what belongs to its end.
    async fn run(self, answer: impl Future<Output = Response>) -> Response {
        let answer = db::with_usage(self.usage.clone(), answer);
        let mut response = match &self.seen {
            Some(client) => self.identity.around(client.around(answer)).await,
            None => self.identity.around(answer).await,
        };
        if problem::is_lacking(&response) {
            response = problem::rewrite(response).await;
        }
        self.end(response)
    }

    fn end(mut self, mut response: Response) -> Response {
        self.ended = true;
        let status = response.status();
        let line = self.record(Some(status));
        if status.is_server_error() {
            let span = &self.identity.span;
            span.in_scope(|| log_failure(line.method, &self.uri, &response));
        }
        let headers = response.headers_mut();
        self.identity.sign(headers);
        if self.timing
            && line.is_work
            && let Ok(times) = HeaderValue::from_str(&line.server_timing())
        {
            headers.insert(SERVER_TIMING, times);
        }
        response
    }

    /// Counts the request and logs its line, which is given back.
    fn record(&self, status: Option<StatusCode>) -> Line<'_> {
        let route = self.route.as_ref().map(MatchedPath::as_str);
        let path = self.uri.path();
        let line = Line {
            method: self.active.method(),
            path,
            // Paths that no route knows are one series together: a scanner must not make thousands.
            route: route.unwrap_or(if path == "/" { "/" } else { "unmatched" }),
            is_work: !requests::is_for_operators(route, path),
            status,
            total: self.started.elapsed(),
            pool: self.usage.waited(),
            database: self.usage.ran(),
            statements: self.usage.statements(),
        };
        self.identity.trace.ended(status);
        requests::record(line.method, line.route, status, line.total);
        if let Some(status) = status
            && line.is_work
        {
            requests::count(status, line.total);
        }
        self.identity.span.in_scope(|| self.lines.log(&line));
        line
    }
}

impl Drop for Exchange {
    /// Without an answer the client has gone, or the service has cut the request off at its end.
    fn drop(&mut self) {
        if !self.ended {
            self.record(None);
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
