//! The one error of a handler: what went wrong, as the status and the body a client gets.

use std::borrow::Cow;

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::database;
use crate::problem::Problem;

/// What a handler returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request was not answered as asked. Each becomes one `application/problem+json` body; the cause of a 5xx is
/// logged once and never sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// 400: the request cannot be read at all.
    #[error("{0}")]
    BadRequest(String),
    /// 404: nothing has this address.
    #[error("There is nothing at this address.")]
    NotFound,
    /// 409: what is asked for contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// 422: the request was read, but these of its fields are not acceptable.
    #[error("The request was understood, but cannot be accepted: see `errors`.")]
    Invalid(Vec<FieldError>),
    /// A refusal that HTTP itself has a status for: 413, 415 and their like.
    #[error("{1}")]
    Status(StatusCode, String),
    /// Whatever the database or the pool said; 503 if it is unavailable, 409 or 422 if it refused the data, else 500.
    #[error(transparent)]
    Database(db::Error),
    /// 500: a fault of the service.
    #[error(transparent)]
    Internal(Box<dyn std::error::Error + Send + Sync>),
}

/// One field that is not acceptable, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field's name; a path such as `address.city` or `lines[2].amount` if it is nested; empty if it is not known.
    pub field: Cow<'static, str>,
    /// What is wrong with it, for people.
    pub detail: Cow<'static, str>,
}

impl FieldError {
    /// One field that is not acceptable, and why.
    pub fn new(field: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            field: field.into(),
            detail: detail.into(),
        }
    }
}

impl Error {
    /// 422 for one field.
    pub fn field(
        field: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Invalid(vec![FieldError::new(field, detail)])
    }

    /// 409 with a sentence for people.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::Conflict(detail.into())
    }

    /// 400 with a sentence for people.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::BadRequest(detail.into())
    }

    /// 500; the cause goes to the log, not to the client.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(cause.into())
    }

    /// The status this error is answered with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Status(status, _) => *status,
            Self::Database(error) => database::refusal(error).status(),
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<db::Error> for Error {
    fn from(error: db::Error) -> Self {
        Self::Database(error)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// Gives a constraint of the database its answer: the rule stands in the schema, its wording beside the query.
pub trait ResultExt<T> {
    /// If the constraint of this name refused the statement, the error is the given one. Calls can be chained.
    ///
    /// # Errors
    /// The given error, or the one there was.
    fn on_constraint(self, name: &str, error: impl FnOnce() -> Error) -> Result<T>;
}

impl<T, E: Into<Error>> ResultExt<T> for Result<T, E> {
    fn on_constraint(self, name: &str, error: impl FnOnce() -> Error) -> Result<T> {
        self.map_err(|cause| match cause.into() {
            Error::Database(cause) if cause.constraint() == Some(name) => error(),
            other => other,
        })
    }
}

/// The cause of a 5xx, on its way to the log: a response carries it as an extension, out of the client's sight.
#[derive(Debug, Clone)]
pub(crate) struct Cause(pub(crate) String);

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let problem = match self {
            Self::Database(error) => return database_response(&error),
            Self::Invalid(errors) => {
                let detail = Self::Invalid(Vec::new()).to_string();
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with_errors(errors)
            }
            Self::Internal(ref cause) => {
                let cause = Cause(chain(cause.as_ref()));
                let problem = Problem::of(StatusCode::INTERNAL_SERVER_ERROR);
                return with_cause(problem.into_response(), cause);
            }
            error => Problem::new(error.status(), error.to_string()),
        };
        problem.into_response()
    }
}

fn database_response(error: &db::Error) -> Response {
    let refusal = database::refusal(error);
    let status = refusal.status();
    let mut response = match refusal {
        database::Refusal::Unavailable(after) => {
            let mut response =
                Problem::new(status, database::UNAVAILABLE.to_owned()).into_response();
            response.headers_mut().insert(RETRY_AFTER, after.into());
            response
        }
        database::Refusal::Conflict(detail) => Problem::new(status, detail).into_response(),
        database::Refusal::Invalid(field) => Error::Invalid(vec![field]).into_response(),
        database::Refusal::Fault => Problem::of(status).into_response(),
    };
    if status.is_server_error() {
        response = with_cause(response, Cause(chain(error)));
    }
    response
}

fn with_cause(mut response: Response, cause: Cause) -> Response {
    response.extensions_mut().insert(cause);
    response
}

/// The error and what caused it, in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
