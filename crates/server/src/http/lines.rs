//! The line of each request in the log; above fifty in a second, those beyond are one line together.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;

use crate::settings::Environment;

/// So many requests a second have a line of their own.
const LINES: u32 = 50;

/// What is said of one request.
pub(crate) struct Line<'a> {
    pub(crate) method: &'static str,
    pub(crate) path: &'a str,
    pub(crate) route: &'a str,
    pub(crate) status: StatusCode,
    pub(crate) total: Duration,
    /// Of this, in the queue of the pool, and in statements.
    pub(crate) pool: Duration,
    pub(crate) database: Duration,
    pub(crate) statements: u32,
}

impl Line<'_> {
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
    /// Of the others: how many there were of each class of status, 1xx to 5xx, and how long they took.
    classes: [AtomicU32; 5],
    times: db::Histogram,
    /// The slowest, in nanoseconds and with its route; the number is looked at before the lock is taken.
    slowest: AtomicU64,
    slowest_route: Mutex<String>,
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
        if !tracing::enabled!(target: "server::request", tracing::Level::INFO) {
            return;
        }
        if self.written.load(Relaxed) < LINES && self.written.fetch_add(1, Relaxed) < LINES {
            return self.write(line);
        }
        let class = usize::from(line.status.as_u16() / 100).clamp(1, 5) - 1;
        self.classes[class].fetch_add(1, Relaxed);
        self.times.record(line.total);
        let nanos = u64::try_from(line.total.as_nanos()).unwrap_or(u64::MAX);
        if self.slowest.fetch_max(nanos, Relaxed) < nanos {
            let route = self.slowest_route.lock();
            let mut route = route.unwrap_or_else(PoisonError::into_inner);
            line.route.clone_into(&mut route);
        }
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
        let status = status.as_u16();
        let [total_ms, pool_ms, db_ms] = [line.total, line.pool, line.database].map(milliseconds);
        match self.environment {
            Environment::Development => tracing::info!(
                target: "server::request",
                "{method} {path} {status} in {total_ms} ms (pool {pool_ms} ms, database {db_ms} ms)"
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
                "{method} {path} {status}"
            ),
        }
    }

    /// Sums up once a second for as long as it is polled.
    pub(crate) async fn run(&self) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut before = self.times.snapshot();
        loop {
            second.tick().await;
            self.written.store(0, Relaxed);
            let now = self.times.snapshot();
            let times = now.since(&before);
            before = now;
            if times.count() > 0 {
                self.sum_up(&times);
            }
        }
    }

    fn sum_up(&self, times: &db::HistogramSnapshot) {
        let [_, ok, redirected, refused, failed] =
            std::array::from_fn(|class| self.classes[class].swap(0, Relaxed));
        let slowest = Duration::from_nanos(self.slowest.swap(0, Relaxed));
        let route = self.slowest_route.lock();
        let route = route.unwrap_or_else(PoisonError::into_inner).clone();
        let percentile = |share| times.quantile(share).map_or(0.0, milliseconds);
        let (requests, p50_ms, p99_ms) = (times.count(), percentile(0.5), percentile(0.99));
        let slowest_ms = milliseconds(slowest);
        tracing::info!(
            target: "server::request",
            event = "summed_up",
            requests,
            ok,
            redirected,
            refused,
            failed,
            p50_ms,
            p99_ms,
            slowest_ms,
            route,
            "{requests} more requests in this second"
        );
    }
}

/// With one place, as people read them.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}
