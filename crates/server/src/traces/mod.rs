//! The trace that a request belongs to: W3C's `traceparent` in, and what is passed on; and its span, if traces are exported.

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, StatusCode};
use tracing::Span;
use tracing::field::Empty;

use crate::metrics::requests;
use crate::traces::context::{Context, TRACEPARENT};

mod context;
// One of two: with the feature the one that exports, without it one that says that it cannot.
#[cfg_attr(not(feature = "otel"), path = "no_export.rs")]
mod export;

pub(crate) use crate::traces::export::Export;

const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A request's place in its trace.
pub(crate) struct Trace {
    /// None if nobody traces: the client sent no trace, and none are exported.
    pub(crate) id: Option<String>,
    /// What the pool does for the request is inside it.
    pub(crate) span: Span,
}

impl Trace {
    /// Takes up the trace that the client sent, if it is one, and leaves in the headers what a handler may pass on: the trace
    /// with this request as the parent.
    pub(crate) fn of(request: &mut Request, method: &'static str) -> Self {
        let span = span(request, method);
        let headers = request.headers_mut();
        let given = Context::of(headers);
        if given.is_none() {
            headers.remove(TRACEPARENT);
            headers.remove(TRACESTATE);
        }
        let own = export::adopt(&span, given.as_ref(), headers).or(given.map(Context::child));
        if let Some(onward) = own.as_ref().and_then(Context::header) {
            headers.insert(TRACEPARENT, onward);
        }
        let id = own.map(|own| own.trace);
        Self { id, span }
    }

    /// Notes how the request ended. There is no status where there was no answer.
    pub(crate) fn ended(&self, status: Option<StatusCode>) {
        if let Some(status) = status {
            let code = i64::from(status.as_u16());
            self.span.record("http.response.status_code", code);
        }
        if let Some(error_type) = requests::error_type(status.as_ref()) {
            self.span.record("error.type", error_type);
            self.span.record("otel.status_code", "ERROR");
        }
    }
}

/// The span of a request, by OpenTelemetry's names. What operators ask has none.
fn span(request: &Request, method: &'static str) -> Span {
    let route = request.extensions().get().map(MatchedPath::as_str);
    let path = request.uri().path();
    if requests::is_for_operators(route, path) {
        return Span::none();
    }
    let called = if method == "_OTHER" { "HTTP" } else { method };
    tracing::trace_span!(
        target: "server::trace",
        "request",
        otel.name = match route {
            Some(route) => format!("{called} {route}"),
            None => called.to_owned(),
        },
        otel.kind = "server",
        "http.request.method" = method,
        "http.route" = route,
        "url.path" = path,
        "url.scheme" = "http",
        "http.response.status_code" = Empty,
        "error.type" = Empty,
        otel.status_code = Empty,
    )
}
