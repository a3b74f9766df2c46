//! What `/readyz` says: one of a few states, and a sentence about it.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::error::chain;
use crate::error::problem::Problem;

/// Whether the service should be sent requests, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Starting,
    Ready,
    DatabaseDown,
    Draining,
    SchemaOlder,
    SchemaNewer,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::DatabaseDown => "database_down",
            Self::Draining => "draining",
            Self::SchemaOlder => "schema_older",
            Self::SchemaNewer => "schema_newer",
        }
    }
}

/// A state and what a person has to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) state: State,
    pub(crate) detail: String,
}

impl Report {
    pub(crate) fn new(state: State, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { state, detail }
    }

    pub(crate) fn ready() -> Self {
        Self::new(State::Ready, "the service is ready")
    }

    /// Somebody should know something all the same.
    pub(crate) fn ready_but(what: &str) -> Self {
        Self::new(State::Ready, format!("the service is ready; {what}"))
    }

    /// What keeps a service from being ready: the database is out of reach, or it is there and something else is wrong.
    pub(crate) fn of(error: &db::Error) -> Self {
        let state = match error.is_unavailable() {
            true => State::DatabaseDown,
            false => State::Starting,
        };
        Self::new(state, chain(error))
    }

    /// The same with what is to be done about it, if that is known.
    pub(crate) fn with(mut self, advice: Option<String>) -> Self {
        if let Some(advice) = advice {
            self.detail = format!("{}; {advice}", self.detail);
        }
        self
    }

    /// What one does who is not to migrate, or before it does.
    pub(crate) fn older(missing: &str) -> Self {
        let detail =
            format!("the database lacks migrations of this service; the first is {missing}");
        Self::new(State::SchemaOlder, detail)
    }

    /// The older instances of a service go on while newer ones take their place.
    pub(crate) fn newer(newest: i64) -> Self {
        let detail = format!(
            "the service is ready; a newer program has migrated the database, up to {newest}, which this one does not know"
        );
        Self::new(State::SchemaNewer, detail)
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready | State::SchemaNewer)
    }
}

impl IntoResponse for Report {
    fn into_response(self) -> Response {
        let (state, detail) = (self.state.name(), &self.detail);
        if self.is_ready() {
            let body = json!({ "status": "ready", "state": state, "detail": detail });
            return Json(body).into_response();
        }
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, self.detail);
        ([(RETRY_AFTER, "1")], problem.with_state(state)).into_response()
    }
}
