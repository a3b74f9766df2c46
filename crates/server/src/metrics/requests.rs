//! What is counted of every request. The handles are kept: to look one up by its labels takes several allocations.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use db::HistogramSnapshot;
use metrics::{Gauge, Histogram, Label, gauge, histogram};

use crate::metrics::recorder::{ACTIVE_REQUESTS, REQUEST_DURATION, install_metrics};

/// The methods of RFC 9110 and PATCH; clients can invent others, which are one label together.
const METHODS: [&str; 10] = [
    "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "_OTHER",
];

/// A request that waits for its answer; also one whose client gives up is counted down.
pub(crate) struct Active {
    gauge: &'static Gauge,
    method: &'static str,
}

impl Active {
    pub(crate) fn begin(method: &Method) -> Self {
        static GAUGES: [OnceLock<Gauge>; METHODS.len()] =
            [const { OnceLock::new() }; METHODS.len()];
        let index = METHODS.iter().position(|known| method == *known);
        let index = index.unwrap_or(METHODS.len() - 1);
        let method = METHODS[index];
        let gauge = GAUGES[index].get_or_init(|| {
            install_metrics();
            gauge!(ACTIVE_REQUESTS, "http.request.method" => method, "url.scheme" => "http")
        });
        gauge.increment(1.0);
        Self { gauge, method }
    }

    /// The label of its method.
    pub(crate) fn method(&self) -> &'static str {
        self.method
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.gauge.decrement(1.0);
    }
}

/// The histograms of one route, of each method and status: a list that only grows, so that nobody waits for a lock. There is no
/// status where there was no answer.
#[derive(Default)]
pub(crate) struct Times(OnceLock<Box<Kept>>);

struct Kept {
    method: &'static str,
    /// A route that is none of the service's answers for two labels.
    route: String,
    status: Option<StatusCode>,
    histogram: Histogram,
    next: Times,
}

impl Times {
    /// Records how long a request waited for the head of its answer, or until its client went away.
    pub(crate) fn record(
        &self,
        method: &'static str,
        route: &str,
        status: Option<StatusCode>,
        elapsed: Duration,
    ) {
        let mut times = self;
        loop {
            let kept = times.0.get_or_init(|| {
                Box::new(Kept {
                    method,
                    route: route.to_owned(),
                    status,
                    histogram: look_up(method, route, status),
                    next: Self::default(),
                })
            });
            if (kept.method, kept.status) == (method, status) && kept.route == route {
                return kept.histogram.record(elapsed);
            }
            times = &kept.next;
        }
    }
}

/// What the process has answered on its services' own routes.
#[derive(Clone, Default)]
pub(crate) struct Served {
    pub(crate) times: HistogramSnapshot,
    /// Of these, answers of 5xx.
    pub(crate) errors: u64,
}

static TIMES: LazyLock<db::Histogram> = LazyLock::new(db::Histogram::default);
static ERRORS: AtomicU64 = AtomicU64::new(0);

pub(crate) fn served() -> Served {
    Served {
        // Errors first: each is counted after its time.
        errors: ERRORS.load(Relaxed),
        times: TIMES.snapshot(),
    }
}

/// Whether a request is an operator's: probes, scrapes and the pages that every service has are no work of this one.
pub(crate) fn is_for_operators(route: Option<&str>, path: &str) -> bool {
    match route {
        Some(route) => {
            matches!(route, "/livez" | "/readyz" | "/metrics" | "/metrics/json")
                || route.starts_with("/pool")
        }
        None => path == "/",
    }
}

/// What OpenTelemetry calls `error.type`: the status of an answer that is 5xx, or that the client went away before there was
/// one.
pub(crate) fn error_type(status: Option<&StatusCode>) -> Option<&str> {
    match status {
        None => Some("cancelled"),
        Some(status) => status.is_server_error().then(|| status.as_str()),
    }
}

/// Counts a request as work of the service.
pub(crate) fn count(status: StatusCode, elapsed: Duration) {
    TIMES.record(elapsed);
    ERRORS.fetch_add(u64::from(status.is_server_error()), Relaxed);
}

fn look_up(method: &'static str, route: &str, status: Option<StatusCode>) -> Histogram {
    install_metrics();
    let mut labels = vec![
        Label::from_static_parts("http.request.method", method),
        Label::from_static_parts("url.scheme", "http"),
        Label::new("http.route", route.to_owned()),
    ];
    let code = status.as_ref().map(StatusCode::as_str);
    let error = error_type(status.as_ref());
    let label = |key, value: &str| Label::new(key, value.to_owned());
    labels.extend(code.map(|code| label("http.response.status_code", code)));
    labels.extend(error.map(|error| label("error.type", error)));
    histogram!(REQUEST_DURATION, labels)
}
