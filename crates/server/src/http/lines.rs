//! The line of each request in the log; above fifty in a second, those beyond are one line together.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use db::Caller;

use crate::settings::Environment;

/// So many requests a second have a line of their own.
const LINES: u32 = 50;

/// What is said of one request.
pub(crate) struct Line<'a> {
    /// In whose name it is written.
    pub(crate) caller: &'a Arc<Caller>,
    pub(crate) method: &'static str,
    pub(crate) path: &'a str,
    pub(crate) route: &'a str,
    /// Not that of an operator: a probe, a scrape, the page.
    pub(crate) is_work: bool,
    /// None if the client went away before the answer.
    pub(crate) status: Option<StatusCode>,
    pub(crate) total: Duration,
    /// Of this, in the queue of the pool, and in statements.
    pub(crate) pool: Duration,
    pub(crate) database: Duration,
    pub(crate) statements: u32,
}

impl Line<'_> {
    fn outcome(&self) -> &str {
        self.status.as_ref().map_or("cancelled", StatusCode::as_str)
    }

    /// Logs what an operator asked, for whoever wants to see that.
    fn write_quietly(&self) {
        let Line { method, path, .. } = *self;
        let (status, total_ms) = (self.outcome(), milliseconds(self.total));
        tracing::debug!(
            target: "server::request",
            method,
            path,
            status,
            total_ms,
            "{method} {path} {status} in {total_ms} ms"
        );
    }

    /// The value of `Server-Timing`, in milliseconds.
    pub(crate) fn server_timing(&self) -> String {
        let [pool, database, total] =
            [self.pool, self.database, self.total].map(|time| time.as_secs_f64() * 1000.0);
        format!("pool;dur={pool:.2}, db;dur={database:.2}, total;dur={total:.2}")
    }
}

/// The lines of a service, and what was not logged line by line.
#[derive(Default)]
pub(crate) struct Lines {
    environment: Environment,
    /// Lines of the current second.
    written: AtomicU32,
    /// Of the others: how many there were of each class of status, those without an answer first, and how long they took.
    classes: [AtomicU32; 6],
    times: db::Histogram,
    /// `times`, as it was when they were last summed up.
    before: Mutex<db::HistogramSnapshot>,
    /// How long the slowest took and its route; the number alone, in nanoseconds, is looked at before the lock is taken.
    slowest_nanos: AtomicU64,
    slowest: Mutex<(Duration, String)>,
}

impl Lines {
    pub(crate) fn new(environment: Environment) -> Self {
        Self {
            environment,
            ..Self::default()
        }
    }

    /// Logs a request, or counts it for the line of this second.
    pub(crate) fn log(&self, line: &Line<'_>) {
        if !line.is_work {
            db::as_caller(line.caller.clone(), || line.write_quietly());
        } else if tracing::enabled!(target: "server::request", tracing::Level::INFO) {
            if self.written.load(Relaxed) < LINES && self.written.fetch_add(1, Relaxed) < LINES {
                db::as_caller(line.caller.clone(), || self.write(line));
            } else {
                self.count(line);
            }
        }
    }

    fn count(&self, line: &Line<'_>) {
        // Before its class: whoever has counted a request finds its time.
        self.times.record(line.total);
        let nanos = u64::try_from(line.total.as_nanos()).unwrap_or(u64::MAX);
        if self.slowest_nanos.load(Relaxed) < nanos {
            let mut slowest = self.slowest.lock().unwrap_or_else(PoisonError::into_inner);
            if slowest.0 < line.total {
                slowest.0 = line.total;
                line.route.clone_into(&mut slowest.1);
                self.slowest_nanos.store(nanos, Relaxed);
            }
        }
        let class = line.status.map_or(0, |status| status.as_u16() / 100);
        self.classes[usize::from(class.min(5))].fetch_add(1, Release);
    }

    fn write(&self, line: &Line<'_>) {
        let Line {
            method,
            path,
            route,
            status,
            statements,
            ..
        } = *line;
        let (status, outcome) = (status.map(|status| status.as_u16()), line.outcome());
        let [total_ms, pool_ms, db_ms] = [line.total, line.pool, line.database].map(milliseconds);
        match self.environment {
            Environment::Development => tracing::info!(
                target: "server::request",
                "{method} {path} {outcome} in {total_ms} ms (pool {pool_ms} ms, database {db_ms} ms)"
            ),
            Environment::Production => tracing::info!(
                target: "server::request",
                method,
                path,
                route,
                status,
                total_ms,
                pool_ms,
                db_ms,
                statements,
                "{method} {path} {outcome}"
            ),
        }
    }

    /// Sums up once a second for as long as it is polled.
    pub(crate) async fn run(&self) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            second.tick().await;
            self.sum_up();
        }
    }

    /// Ends a second: those of it that have no line of their own get one together.
    pub(crate) fn sum_up(&self) {
        self.written.store(0, Relaxed);
        let classes: [u32; 6] = std::array::from_fn(|class| self.classes[class].swap(0, Acquire));
        let [cancelled, _, ok, redirected, refused, failed] = classes;
        let requests: u32 = classes.iter().sum();
        if requests == 0 {
            return;
        }
        let (times, slowest, route) = self.of_this_second();
        let percentile = |share| times.quantile(share).map_or(0.0, milliseconds);
        let (p50_ms, p99_ms) = (percentile(0.5), percentile(0.99));
        let slowest_ms = milliseconds(slowest);
        tracing::info!(
            target: "server::request",
            event = "summed_up",
            requests,
            ok,
            redirected,
            refused,
            failed,
            cancelled,
            p50_ms,
            p99_ms,
            slowest_ms,
            route,
            "{requests} more requests in this second"
        );
    }

    /// How long those without a line took, and the slowest of them with its route.
    fn of_this_second(&self) -> (db::HistogramSnapshot, Duration, String) {
        let mut slowest = self.slowest.lock().unwrap_or_else(PoisonError::into_inner);
        self.slowest_nanos.store(0, Relaxed);
        let (slowest, route) = std::mem::take(&mut *slowest);
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.times.snapshot();
        let times = now.since(&before);
        *before = now;
        (times, slowest, route)
    }
}

/// With one place, as people read them.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}
