//! The trace that a request belongs to: W3C's `traceparent` in, and what is passed on; and its span, if traces are exported.

use axum::extract::Request;
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
    /// What the pool does for the request is inside it; none unless traces are exported.
    pub(crate) span: Option<Span>,
}

impl Trace {
    /// Takes up the trace that the client sent, if it is one, and leaves in the headers what a handler may pass on: the trace
    /// with this request as the parent.
    pub(crate) fn of(
        request: &mut Request,
        called: (&'static str, Option<&str>),
        exported: bool,
    ) -> Self {
        let span = exported.then(|| span(request, called));
        let headers = request.headers_mut();
        // One look at each name in the place of three searches: hardly any request has one of these.
        if span.is_none()
            && !headers
                .keys()
                .any(|name| name.as_str().starts_with("trace"))
        {
            return Self { id: None, span };
        }
        let given = Context::of(headers);
        if given.is_none() {
            headers.remove(TRACEPARENT);
            headers.remove(TRACESTATE);
        }
        let adopt = |span| export::adopt(span, given.as_ref(), headers);
        let own = span.as_ref().and_then(adopt);
        let own = own.or_else(|| given.map(Context::child));
        if let Some(onward) = own.as_ref().and_then(Context::header) {
            headers.insert(TRACEPARENT, onward);
        }
        let id = own.map(|own| own.trace);
        Self { id, span }
    }

    /// Notes how the request ended. There is no status where there was no answer.
    pub(crate) fn ended(&self, status: Option<StatusCode>) {
        let Some(span) = &self.span else {
            return;
        };
        if let Some(status) = status {
            span.record("http.response.status_code", i64::from(status.as_u16()));
        }
        if let Some(error_type) = requests::error_type(status.as_ref()) {
            span.record("error.type", error_type);
            span.record("otel.status_code", "ERROR");
        }
    }
}

/// The span of a request, by OpenTelemetry's names. What operators ask has none.
fn span(request: &Request, (method, route): (&'static str, Option<&str>)) -> Span {
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
