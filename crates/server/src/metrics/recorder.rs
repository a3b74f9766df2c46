//! The recorder of this process: which histograms have which bounds, and what the names mean.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Unit, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Seconds from the arrival of a request's head to the head of its answer.
pub(crate) const REQUEST_DURATION: &str = "http.server.request.duration";
/// Requests that wait for their answer.
pub(crate) const ACTIVE_REQUESTS: &str = "http.server.active_requests";

/// Upper bounds in seconds, as OpenTelemetry recommends them for HTTP.
const REQUEST_BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Upper bounds in seconds, as OpenTelemetry recommends them for statements.
const STATEMENT_BUCKETS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// Upper bounds in seconds: a connection is had in microseconds, or after a wait of seconds.
const DATABASE_BUCKETS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// How often samples move from the recorder's buffers into the histograms, so that no scrape has to.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What is served, so that a board can tell versions apart.
const BUILD_INFO: &str = "build_info";

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Makes the `metrics` facade of this process count. It must come before the first pool is made: what a pool
/// counts is lost if it was made earlier. A second call changes nothing.
pub fn install_metrics() {
    recorder();
}

pub(crate) fn recorder() -> &'static PrometheusHandle {
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
        describe_gauge!(BUILD_INFO, "1, with the service and its version as labels");
        handle
    })
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .with_recommended_naming(true)
        .set_buckets(&REQUEST_BUCKETS)?
        .set_buckets_for_metric(Matcher::Prefix("db.client.".to_owned()), &DATABASE_BUCKETS)?
        .set_buckets_for_metric(
            Matcher::Full("db.client.operation.duration".to_owned()),
            &STATEMENT_BUCKETS,
        )
}

/// Says which service this is, in which version: all packages of the workspace have the same.
pub(crate) fn name_build(service: &'static str) {
    let version = env!("CARGO_PKG_VERSION");
    gauge!(BUILD_INFO, "service" => service, "version" => version).set(1.0);
}

/// Keeps the histograms up to date for as long as it is polled.
pub(crate) async fn upkeep() {
    let mut tick = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tick.tick().await;
        recorder().run_upkeep();
    }
}
