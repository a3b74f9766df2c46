//! `/metrics` for Prometheus and `/metrics/json` for everyone else: two views of one text.

mod json;
pub(crate) mod requests;

use std::sync::OnceLock;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics::{Unit, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Seconds from the arrival of a request's head to the head of its answer.
const REQUEST_DURATION: &str = "http.server.request.duration";
/// Requests that wait for their answer.
const ACTIVE_REQUESTS: &str = "http.server.active_requests";

/// Upper bounds in seconds: OpenTelemetry's, and two below for a service that answers in a millisecond.
const REQUEST_BUCKETS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Upper bounds in seconds: a connection is had in microseconds, or after a wait of seconds.
const DATABASE_BUCKETS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// How often samples move from the recorder's buffers into the histograms, so that no scrape has to.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Makes the `metrics` facade of this process count. It must come before the first pool is made: what a pool
/// counts is lost if it was made earlier. A second call changes nothing.
pub fn install_metrics() {
    recorder();
}

fn recorder() -> &'static PrometheusHandle {
    RECORDER.get_or_init(|| {
        // The only error there is: no buckets.
        let recorder = builder().unwrap_or_default().build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed: /metrics will stay empty");
        }
        describe_histogram!(
            REQUEST_DURATION,
            Unit::Seconds,
            "Duration of HTTP requests, in seconds"
        );
        describe_gauge!(ACTIVE_REQUESTS, "HTTP requests that are being answered");
        handle
    })
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .with_recommended_naming(true)
        .set_buckets(&REQUEST_BUCKETS)?
        .set_buckets_for_metric(Matcher::Prefix("db.client.".to_owned()), &DATABASE_BUCKETS)
}

/// Keeps the histograms up to date for as long as it is polled.
pub(crate) async fn upkeep() {
    let mut tick = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tick.tick().await;
        recorder().run_upkeep();
    }
}

pub(crate) fn routes(pool: db::Pool) -> Router {
    Router::new()
        .route("/metrics", get(as_text))
        .route("/metrics/json", get(as_json))
        .with_state(pool)
}

async fn as_text(State(pool): State<db::Pool>) -> Response {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        render(&pool),
    )
        .into_response()
}

async fn as_json(State(pool): State<db::Pool>) -> Response {
    Json(json::to_json(&render(&pool))).into_response()
}

/// The text of one scrape, families in the order of their names.
fn render(pool: &db::Pool) -> String {
    pool.publish();
    let text = recorder().render();
    let mut families: Vec<&str> = text.split_terminator("\n\n").collect();
    families.sort_unstable();
    families
        .iter()
        .fold(String::with_capacity(text.len()), |text, family| {
            text + family + "\n\n"
        })
}
