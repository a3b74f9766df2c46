//! Logs: for people in development, as JSON in production, to standard output.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::http::identity;
use crate::settings::{Environment, Settings};

/// Starts logging, panics included. A second call changes nothing.
pub(crate) fn start(settings: &Settings) {
    // The settings have been read, so the filter is one.
    let filter = format!("{}=error,{}", identity::SPAN, settings.filter());
    let filter = EnvFilter::builder().parse_lossy(filter);
    let logs = tracing_subscriber::fmt().with_env_filter(filter);
    let started = match settings.environment {
        Environment::Development => logs.with_ansi(std::io::stdout().is_terminal()).try_init(),
        // A request's span is one, so that a list of spans would say it twice.
        Environment::Production => logs
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .try_init(),
    };
    if started.is_ok() {
        std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    }
}
