//! What the process tells: logs, for people in development and as JSON in production, to standard output; and traces.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

use crate::log_format::{Json, Text};
use crate::settings::{Environment, Settings};
use crate::traces::Export;

/// Logs, and an export of traces if there is one.
pub(crate) struct Telemetry(Option<Export>);

impl Telemetry {
    /// Starts logging, panics included, and the export of traces if the settings ask for it. Once in a process.
    pub(crate) fn start(service: &'static str, settings: &Settings) -> Self {
        // Of each failure of the export both OpenTelemetry's exporter and its SDK have a line: one is enough.
        let filter = format!("opentelemetry-otlp=off,{}", settings.filter());
        // The settings have been read, so the filter is one.
        let filter = EnvFilter::builder().parse_lossy(filter);
        let export = settings.traces.then(|| Export::start(service));
        let started = match &export {
            // What is exported is not asked of the log.
            Some(Ok(export)) => registry()
                .with(export.layer())
                .with(lines(settings).with_filter(filter))
                .try_init(),
            _ => registry().with(lines(settings)).with(filter).try_init(),
        };
        if started.is_ok() {
            std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
        }
        match export.transpose() {
            Ok(export) => Self(export),
            Err(error) => {
                tracing::warn!(
                    "no traces are exported, though OTEL_EXPORTER_OTLP_ENDPOINT is set: {error}"
                );
                Self(None)
            }
        }
    }

    /// Sends what is left of the traces, for a second at most.
    pub(crate) fn end(self) {
        if let Some(export) = self.0 {
            export.end();
        }
    }
}

/// The lines of the log.
fn lines<S>(settings: &Settings) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    match settings.environment {
        Environment::Development => fmt::layer()
            .event_format(Text::default())
            .with_ansi(std::io::stdout().is_terminal())
            .boxed(),
        Environment::Production => fmt::layer()
            .event_format(Json::default())
            .fmt_fields(JsonFields::new())
            .boxed(),
    }
}
