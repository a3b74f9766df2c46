//! Spans for whoever collects traces, by OpenTelemetry's names: a wait for a connection, a statement, a connection that is
//! opened. Who does not ask for their target, `db::trace`, does not see them; then each costs one look, and no field is made.

use std::io::ErrorKind::TimedOut;

use tracing::Span;
use tracing::field::Empty;

use crate::config::Config;
use crate::error::is_broken;
use crate::metrics::SYSTEM;
use crate::sql_text::{operation, without_values};

/// The caller's wait for a connection, or for the right to one.
pub(crate) fn wait(config: &Config) -> Span {
    tracing::trace_span!(
        target: "db::trace",
        "pool.wait",
        "db.client.connection.pool.name" = config.pool_name(),
        "error.type" = Empty,
        otel.status_code = Empty,
    )
}

/// A connection that is opened.
pub(crate) fn connect(config: &Config) -> Span {
    tracing::trace_span!(
        target: "db::trace",
        "connect",
        otel.kind = "client",
        "db.system.name" = SYSTEM,
        "db.namespace" = config.database(),
        "db.client.connection.pool.name" = config.pool_name(),
        "server.address" = config.server().0,
        "server.port" = config.server().1.map(i64::from),
        "error.type" = Empty,
        otel.status_code = Empty,
    )
}

/// A statement, from sending to the end of its answer.
pub(crate) fn statement(config: &Config, sql: &str) -> Span {
    tracing::trace_span!(
        target: "db::trace",
        "statement",
        otel.name = format!("{} {}", operation(sql), config.database()),
        otel.kind = "client",
        "db.system.name" = SYSTEM,
        "db.namespace" = config.database(),
        "db.operation.name" = operation(sql),
        "db.query.text" = without_values(sql),
        "db.response.returned_rows" = Empty,
        "server.address" = config.server().0,
        "server.port" = config.server().1.map(i64::from),
        "error.type" = Empty,
        otel.status_code = Empty,
    )
}

/// Says of a statement what came of it.
pub(crate) fn ended(span: &Span, rows: u64, error_type: Option<&str>) {
    if !span.is_disabled() {
        // OpenTelemetry has no unsigned numbers: one would arrive as text.
        span.record("db.response.returned_rows", rows.cast_signed());
        if let Some(error_type) = error_type {
            failed(span, error_type);
        }
    }
}

/// Says of a span by which error it failed.
pub(crate) fn failed_by(span: &Span, error: &sqlx::Error) {
    let code = error.as_database_error().and_then(|error| error.code());
    match (error, code) {
        (_, Some(code)) => failed(span, &code),
        (sqlx::Error::Io(error), _) if error.kind() == TimedOut => failed(span, "timeout"),
        (error, None) if is_broken(error) => failed(span, "broken"),
        _ => failed(span, "_OTHER"),
    }
}

/// Says of a span why it failed.
pub(crate) fn failed(span: &Span, error_type: &str) {
    span.record("error.type", error_type);
    span.record("otel.status_code", "ERROR");
}
