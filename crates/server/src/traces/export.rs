//! Export of traces by OTLP: of each request, and of what the pool does for it. Compiled with the feature `otel` only.

use std::str::FromStr as _;
use std::time::Duration;

use axum::http::HeaderMap;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context as Within, Key};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use crate::traces::context::Context;

/// What is left to send gets this long at the end.
const LAST_SPANS: Duration = Duration::from_secs(1);

/// A running export.
pub(crate) struct Export(SdkTracerProvider);

impl Export {
    /// Starts to send spans to where the environment says. What else is OpenTelemetry's (`OTEL_…`) is read there too.
    ///
    /// # Errors
    /// If one of these cannot be understood.
    pub(crate) fn start(service: &'static str) -> Result<Self, ExporterBuildError> {
        // For an endpoint by TLS. sqlx brings this one; a second call changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let exporter = SpanExporter::builder().with_http().build()?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource(service))
            .build();
        Ok(Self(provider))
    }

    /// Takes the spans of this crate and of `db`, and no others.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let ours = Targets::new()
            .with_target("server::trace", LevelFilter::TRACE)
            .with_target("db::trace", LevelFilter::TRACE);
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("reservoir"))
            .with_location(false)
            .with_threads(false)
            .with_level(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(ours)
    }

    /// Sends what is left, for a second at most.
    pub(crate) fn end(self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST_SPANS) {
            tracing::warn!("not all spans were sent: {error}");
        }
    }
}

/// What is said of the process: its name is the service's unless the environment has another.
fn resource(service: &'static str) -> Resource {
    let given = Resource::builder().build();
    let name = given.get(&Key::from_static_str("service.name"));
    match name.is_some_and(|name| !name.as_str().starts_with("unknown_service")) {
        true => given,
        false => Resource::builder().with_service_name(service).build(),
    }
}

/// Makes the span the child of what the client sent, if it sent something, and says where it is in its trace. None if it is
/// not exported.
pub(crate) fn adopt(span: &Span, parent: Option<&Context>, headers: &HeaderMap) -> Option<Context> {
    if span.is_disabled() {
        return None;
    }
    if let Some(parent) = parent.and_then(|parent| remote(parent, headers)) {
        // It fails for a span that has begun, and this one has not.
        let _ = span.set_parent(Within::new().with_remote_span_context(parent));
    }
    let within = span.context();
    let span = within.span().span_context().clone();
    span.is_valid().then(|| Context {
        trace: span.trace_id().to_string(),
        span: span.span_id().to_string(),
        flags: span.trace_flags().to_u8(),
    })
}

fn remote(Context { trace, span, flags }: &Context, headers: &HeaderMap) -> Option<SpanContext> {
    let state = headers.get("tracestate");
    let state = state.and_then(|state| TraceState::from_str(state.to_str().ok()?).ok());
    Some(SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(*flags),
        true,
        state.unwrap_or_default(),
    ))
}
