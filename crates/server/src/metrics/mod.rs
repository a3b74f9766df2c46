//! `/metrics` for Prometheus and `/metrics/json` for everyone else: two views of one text.

pub(crate) mod history;
mod json;
mod prisma;
mod process;
mod recorder;
pub(crate) mod requests;

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::error::{Error, Result};
use crate::metrics::history::History;
use crate::metrics::recorder::recorder;

pub use recorder::install_metrics;
pub(crate) use recorder::{name_build, upkeep};

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
