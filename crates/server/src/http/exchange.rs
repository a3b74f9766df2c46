//! A request, from its head to the head of its answer: its id, its line in the log, its time and its numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{MatchedPath, Request};
use axum::http::header::RETRY_AFTER;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use db::{Caller, Seen, Usage};

use crate::error::problem::{self, Problem};
use crate::error::{self, Cause};
use crate::http::identity::Identity;
use crate::http::lines::{Line, Lines};
use crate::http::own_writes;
use crate::http::writes::Writes;
use crate::metrics::requests::{self, Active, Times};
use crate::settings::{Limits, Settings};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What the requests of a service share.
pub(crate) struct Common {
    pub(crate) limits: Limits,
    /// Whether answers carry `Server-Timing`.
    timing: bool,
    /// Whether traces are exported.
    traces: bool,
    pub(crate) lines: Lines,
    /// What the shutdown waits for.
    pub(crate) writes: Writes,
    /// Knows of the time in which the process did not run. If it has replicas, clients carry what they have seen.
    pub(crate) pool: db::Pool,
    replicated: bool,
}

impl Common {
    pub(crate) fn new(settings: &Settings, pool: &db::Pool) -> Self {
        Self {
            limits: settings.limits,
            timing: settings.server_timing(),
            traces: settings.traces,
            lines: Lines::new(settings.environment),
            writes: Writes::default(),
            pool: pool.clone(),
            replicated: !pool.config().replicas.is_empty(),
        }
    }
}

/// What the requests of one route share.
#[derive(Default)]
pub(crate) struct Route {
    /// Each route is work of its own for the pool: one that is slow leaves connections to the others.
    work: Arc<db::Work>,
    /// As its router calls it; none for what no route knows.
    path: OnceLock<Option<MatchedPath>>,
    times: Times,
}

impl Route {
    /// Learns its path from its first request, and names its work by it, so that the pool can say who holds its connections, and
    /// for how long.
    fn learn(&self, request: &Request) -> Option<&str> {
        let learnt = self.path.get_or_init(|| {
            let path = request.extensions().get::<MatchedPath>()?;
            let method = match *request.method() {
                // What answers GET answers HEAD too.
                Method::HEAD => "GET",
                ref other => other.as_str(),
            };
            let route = path.as_str();
            let name = format!("{method} {route}");
            self.work.name(&name, ("http.route", route));
            Some(path.clone())
        });
        learnt.as_ref().map(MatchedPath::as_str)
    }

    fn path(&self) -> Option<&str> {
        self.path.get()?.as_ref().map(MatchedPath::as_str)
    }
}

/// A request, from its head to the head of its answer.
pub(crate) struct Exchange {
    active: Active,
    identity: Identity,
    common: Arc<Common>,
    /// As what it asks the pool; what it takes of it, and how far its client has to see where there are replicas, stand there.
    caller: Arc<Caller>,
    /// Whether it changes nothing.
    pub(crate) reads: bool,
    path: Option<PathAndQuery>,
    route: Arc<Route>,
    pub(crate) started: Instant,
    /// Whether there is an answer.
    ended: bool,
}

impl Exchange {
    pub(crate) fn begin(request: &mut Request, common: &Arc<Common>, route: &Arc<Route>) -> Self {
        let path = route.learn(request);
        let active = Active::begin(request.method());
        let identity = Identity::of(request, active.method(), path, common.traces);
        let mut caller = Caller::default();
        identity.name(&mut caller);
        caller.set_work(route.work.clone());
        caller.set_usage(Arc::default());
        if common.replicated {
            caller.set_seen(Arc::new(own_writes::seen(request.headers())));
        }
        Self {
            active,
            identity,
            common: common.clone(),
            caller: Arc::new(caller),
            reads: request.method().is_safe(),
            path: request.uri().path_and_query().cloned(),
            route: route.clone(),
            started: Instant::now(),
            ended: false,
        }
    }

    /// Its handler begins, and has its time from now on. Gives the caller that it is.
    pub(crate) fn start(&mut self, now: Instant) -> Arc<Caller> {
        let limit = self.common.limits.request_timeout;
        Arc::make_mut(&mut self.caller).set_deadline(now, limit);
        self.caller.clone()
    }

    /// Its span, if traces are exported.
    pub(crate) fn span(&self) -> Option<tracing::Span> {
        self.identity.trace.span.clone()
    }

    /// Whether its answer is not as it has to be: then [`Exchange::complete`] comes before its end.
    pub(crate) fn lacks(&self, response: &Response) -> bool {
        self.has_written() || problem::is_lacking(response)
    }

    /// Whether its client has to be told how far it has written.
    fn has_written(&self) -> bool {
        self.caller.seen().is_some_and(Seen::has_written)
    }

    /// Gives a client what it has written, and a problem its body.
    pub(crate) async fn complete(self, mut response: Response) -> Response {
        if let Some(seen) = self.caller.seen() {
            let signed = own_writes::sign(&self.common.pool, seen, &mut response);
            db::with_caller(self.caller.clone(), signed).await;
        }
        if problem::is_lacking(&response) {
            response = problem::rewrite(response).await;
        }
        self.end(response)
    }

    pub(crate) fn end(mut self, mut response: Response) -> Response {
        self.ended = true;
        let status = response.status();
        let line = self.record(Some(status));
        if status.is_server_error() {
            db::as_caller(self.caller.clone(), || {
                log_failure(line.method, line.path, &response);
            });
        }
        let headers = response.headers_mut();
        self.identity.sign(headers);
        if self.common.timing
            && line.is_work
            && let Ok(times) = HeaderValue::from_str(&line.server_timing())
        {
            headers.insert(SERVER_TIMING, times);
        }
        response
    }

    /// Counts the request and logs its line, which is given back.
    fn record(&self, status: Option<StatusCode>) -> Line<'_> {
        let (route, usage) = (self.route.path(), self.caller.usage());
        let path = self.path.as_ref().map_or("", PathAndQuery::path);
        let line = Line {
            caller: &self.caller,
            method: self.active.method(),
            path,
            // Paths that no route knows are one series together: a scanner must not make thousands.
            route: route.unwrap_or(if path == "/" { "/" } else { "unmatched" }),
            is_work: !requests::is_for_operators(route, path),
            status,
            total: self.started.elapsed(),
            pool: usage.map(Usage::waited).unwrap_or_default(),
            database: usage.map(Usage::ran).unwrap_or_default(),
            statements: usage.map(Usage::statements).unwrap_or_default(),
        };
        self.identity.trace.ended(status);
        let times = &self.route.times;
        times.record(line.method, line.route, status, line.total);
        if let Some(status) = status
            && line.is_work
        {
            requests::count(status, line.total);
        }
        self.common.lines.log(&line);
        line
    }

    /// The answer to one that has taken longer than it may.
    pub(crate) fn too_slow(&self) -> Response {
        let limit = self.common.limits.request_timeout;
        let what = match self.reads {
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
fn log_failure(method: &str, path: &str, response: &Response) {
    let Some(Cause(cause)) = response.extensions().get::<Cause>() else {
        return;
    };
    let status = response.status().as_u16();
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
