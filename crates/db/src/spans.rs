//! Spans for whoever collects traces, by OpenTelemetry's names: a wait for a connection, a statement, a connection that is
//! opened. Who does not ask for their target, `db::trace`, does not see them; then each costs one look, and no field is made.

use tracing::Span;
use tracing::field::Empty;

use crate::config::Config;
use crate::metrics::{Outcome, SYSTEM};
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
        "server.address" = config.server().map(|(name, _)| name),
        "server.port" = config.server().and_then(|(_, port)| port).map(i64::from),
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
        "server.address" = config.server().map(|(name, _)| name),
        "server.port" = config.server().and_then(|(_, port)| port).map(i64::from),
        "error.type" = Empty,
        otel.status_code = Empty,
    )
}

/// Says of a statement how many rows came.
pub(crate) fn rows(span: &Span, rows: u64) {
    // OpenTelemetry has no unsigned numbers: one would arrive as text.
    span.record("db.response.returned_rows", rows.cast_signed());
}

/// Says of a statement, or of a connection, how it ended.
pub(crate) fn ended(span: &Span, outcome: &Outcome) {
    if let Some(error_type) = outcome.error_type() {
        failed(span, error_type);
    }
}

/// Says of a span why it failed.
pub(crate) fn failed(span: &Span, error_type: &str) {
    span.record("error.type", error_type);
    span.record("otel.status_code", "ERROR");
}
