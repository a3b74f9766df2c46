//! `/` and the live page `/pool`: what the service has to offer, and what its pool does, drawn as it happens.
//!
//! The page is three files and a chart library, all part of the binary. It follows `/pool/events`, one event a second.

mod events;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use axum::Router;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use serde_json::json;

use crate::live_page::events::Events;
use crate::metrics::history::History;

/// Nothing from elsewhere, and nothing inline: not even what a statement's text would smuggle in could run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the pages say of a service.
#[derive(Clone, Copy)]
pub(crate) struct Site {
    pub(crate) name: &'static str,
    /// The path of its resource.
    pub(crate) api: &'static str,
    /// Whether it has the page `/pool`.
    pub(crate) pool_page: bool,
}

/// The page, its files and its events.
pub(crate) fn routes(site: Site, pool: &db::Pool, history: Arc<History>) -> Router {
    let events = Arc::new(Events::new(site.name, pool.clone(), history));
    let page = include_str!("page.html")
        .replace("{name}", site.name)
        .replace("{api}", site.api);
    Router::new()
        .route("/pool", get(move || async move { html(page) }))
        .route("/pool/events", get(events::follow))
        .with_state(events)
        .route("/pool/page.js", javascript(include_str!("page.js")))
        .route("/pool/page.css", css(include_str!("page.css")))
        .route(
            "/pool/uplot.js",
            javascript(include_str!("uplot/uPlot.iife.min.js")),
        )
        .route("/pool/uplot.css", css(include_str!("uplot/uPlot.min.css")))
}

/// What every service has beside its own routes.
const LINKS: [(&str, &str); 5] = [
    ("/pool", "what the pool does, live"),
    ("/metrics", "all numbers, for Prometheus"),
    ("/metrics/json", "the same as JSON; `jq .pool` for people"),
    ("/readyz", "whether the service can answer"),
    ("/livez", "whether the process runs"),
];

/// `/`, if the service has no such route itself: its name and where everything is, for people and for programs.
pub(crate) fn start(site: Site, headers: &HeaderMap) -> Response {
    let own = (site.api, "the API");
    let links = std::iter::once(&own).chain(&LINKS);
    let links = links.filter(|(path, _)| site.pool_page || *path != "/pool");
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    if !accept.is_some_and(|accept| accept.contains("text/html")) {
        let links: serde_json::Map<_, _> = links
            .map(|(path, meaning)| ((*path).to_owned(), json!(meaning)))
            .collect();
        let body = axum::Json(json!({ "service": site.name, "links": links }));
        return ([(VARY, "accept")], body).into_response();
    }
    let links: String = links
        .map(|(path, meaning)| format!("      <li><a href=\"{path}\">{path}</a> {meaning}</li>\n"))
        .collect();
    // The style is the live page's.
    let style = match site.pool_page {
        true => "<link rel=\"stylesheet\" href=\"/pool/page.css\">",
        false => "",
    };
    let page = include_str!("start.html")
        .replace("{name}", site.name)
        .replace("{style}", style)
        .replace("{links}", &links);
    ([(VARY, "accept")], html(page)).into_response()
}

fn html(text: String) -> Response {
    let headers = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, Html(text)).into_response()
}

fn javascript<S: Clone + Send + Sync + 'static>(text: &'static str) -> MethodRouter<S> {
    file("text/javascript; charset=utf-8", text)
}

fn css<S: Clone + Send + Sync + 'static>(text: &'static str) -> MethodRouter<S> {
    file("text/css; charset=utf-8", text)
}

/// A file that is part of the binary. The browser asks each time, because an update of the service may bring another, and is
/// told that it has it.
fn file<S: Clone + Send + Sync + 'static>(
    kind: &'static str,
    text: &'static str,
) -> MethodRouter<S> {
    let tag = tag(text);
    get(async move |headers: HeaderMap| {
        let about = [
            (ETAG, tag.clone()),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ];
        if headers.get(IF_NONE_MATCH) == Some(&tag) {
            return (StatusCode::NOT_MODIFIED, about).into_response();
        }
        let of_body = [(CONTENT_TYPE, kind), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
        (about, of_body, text).into_response()
    })
}

/// Says which file it is: another one has another.
fn tag(text: &str) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let tag = format!("\"{:016x}\"", hasher.finish());
    HeaderValue::from_str(&tag).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}
