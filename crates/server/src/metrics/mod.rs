//! `/metrics` for Prometheus and `/metrics/json` for everyone else: two views of one text.

pub(crate) mod history;
mod json;
mod prisma;
mod process;
pub(crate) mod requests;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics::{Unit, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::error::{Error, Result};
use crate::metrics::history::History;

/// Seconds from the arrival of a request's head to the head of its answer.
const REQUEST_DURATION: &str = "http.server.request.duration";
/// Requests that wait for their answer.
const ACTIVE_REQUESTS: &str = "http.server.active_requests";

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

/// Who answers a scrape.
#[derive(Clone)]
struct Scraped {
    pool: db::Pool,
    history: Arc<History>,
}

pub(crate) fn routes(pool: db::Pool, history: Arc<History>) -> Router {
    Router::new()
        .route("/metrics", get(as_text))
        .route("/metrics/json", get(as_json))
        .with_state(Scraped { pool, history })
}

async fn as_text(
    State(Scraped { pool, .. }): State<Scraped>,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    let text = match View::read(query.as_deref(), false)?.names {
        Names::OpenTelemetry => render(&pool).1,
        Names::Prisma => prisma::text(&pool.stats(), &pool.times()),
    };
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(CONTENT_TYPE, content_type)], text).into_response())
}

async fn as_json(
    State(Scraped { pool, history }): State<Scraped>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response> {
    let view = View::read(query.as_deref(), is_browser(&headers))?;
    let json = match view.names {
        Names::OpenTelemetry => {
            let (stats, text) = render(&pool);
            let mut json = json::to_json(&text);
            json["pool"] = history.pool_object(&stats);
            json
        }
        Names::Prisma => json::to_json(&prisma::text(&pool.stats(), &pool.times())),
    };
    let text = match view.pretty {
        true => format!("{json:#}\n"),
        false => json.to_string(),
    };
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

/// Whose names the numbers have.
enum Names {
    OpenTelemetry,
    /// Those of Prisma's client, 2 to 6, for dashboards that know them.
    Prisma,
}

/// How the numbers are shown.
struct View {
    names: Names,
    /// Indented, for people.
    pretty: bool,
}

impl View {
    /// Reads `?names=prisma` and `?pretty`.
    fn read(query: Option<&str>, pretty: bool) -> Result<Self> {
        let mut view = Self {
            names: Names::OpenTelemetry,
            pretty,
        };
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match (key.as_ref(), value.as_ref()) {
                ("names", "prisma") => view.names = Names::Prisma,
                ("names", "opentelemetry") => view.names = Names::OpenTelemetry,
                ("pretty", "" | "true") => view.pretty = true,
                ("pretty", "false") => view.pretty = false,
                _ => {
                    let allowed = "allowed here: names=opentelemetry, names=prisma, pretty";
                    return Err(Error::bad_request(format!(
                        "{key} is not understood; {allowed}"
                    )));
                }
            }
        }
        Ok(view)
    }
}

/// A browser asks for HTML first: a person looks.
fn is_browser(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// The numbers of one scrape, and its text, families in the order of their names.
fn render(pool: &db::Pool) -> (db::Stats, String) {
    // What one scrape publishes, another one must not read.
    static ONE: Mutex<()> = Mutex::new(());
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let stats = pool.publish();
    let text = recorder().render() + &process::text();
    drop(one);
    let mut families: Vec<&str> = text.split_terminator("\n\n").collect();
    families.sort_unstable();
    let sorted = families
        .iter()
        .fold(String::with_capacity(text.len()), |text, family| {
            text + family + "\n\n"
        });
    (stats, sorted)
}
