//! The one error of a handler: what went wrong, as the status and the body a client gets.

pub(crate) mod problem;
mod sqlstate;

use std::borrow::Cow;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{HeaderName, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use sqlx::postgres::PgDatabaseError;

use problem::{FieldError, Problem};

/// What a handler returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request was not answered as asked. Each becomes one `application/problem+json` body; the cause of a 5xx is
/// logged and never sent.
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
    /// Another 4xx: 413, 415 and their like.
    #[error("{1}")]
    Status(StatusCode, String),
    /// 503: the database or the pool cannot answer now.
    // Causes differ, the client's next step does not.
    #[error("The service is busy or cannot reach its database. Try again shortly.")]
    Unavailable(#[source] db::Error),
    /// 503: what the request is about is in somebody else's hands.
    #[error("{detail}")]
    Busy {
        /// What is taken, for people.
        detail: String,
        /// When trying again makes sense.
        retry_after: Duration,
    },
    /// 500: a fault of the service.
    #[error(transparent)]
    Internal(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// 422 for one field.
    pub fn field(
        field: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        let (field, detail) = (field.into(), detail.into());
        Self::Invalid(vec![FieldError { field, detail }])
    }

    /// 409 with a sentence for people.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::Conflict(detail.into())
    }

    /// 400 with a sentence for people.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::BadRequest(detail.into())
    }

    /// 503 with a sentence for people; a client that tries again waits a second.
    pub fn busy(detail: impl Into<String>) -> Self {
        let (detail, retry_after) = (detail.into(), Duration::from_secs(1));
        Self::Busy {
            detail,
            retry_after,
        }
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
            Self::Unavailable(_) | Self::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// What the database or the pool said becomes an answer here and nowhere else.
impl From<db::Error> for Error {
    fn from(error: db::Error) -> Self {
        let cause = error.as_database();
        let code = cause.and_then(|cause| cause.code()).unwrap_or_default();
        let (status, detail) = sqlstate::meaning(&code, error.constraint());
        match status {
            _ if error.is_unavailable() => Self::Unavailable(error),
            StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable(error),
            StatusCode::CONFLICT => Self::Conflict(detail),
            StatusCode::UNPROCESSABLE_ENTITY => {
                let cause = cause.and_then(|cause| cause.try_downcast_ref::<PgDatabaseError>());
                let column = cause.and_then(PgDatabaseError::column).unwrap_or_default();
                Self::field(column.to_owned(), detail)
            }
            _ => Self::internal(error),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        db::Error::from(error).into()
    }
}

/// Gives the constraints of the database their answers: the rule is in the schema, its wording in the service.
pub trait ResultExt<T> {
    /// If a constraint was violated for whose name there is an answer, the error is that answer.
    ///
    /// # Errors
    /// The answer, or what the database's error is answered with otherwise.
    fn on_constraint(self, answer: impl FnOnce(&str) -> Option<Error>) -> Result<T>;
}

impl<T, E: Into<db::Error>> ResultExt<T> for Result<T, E> {
    fn on_constraint(self, answer: impl FnOnce(&str) -> Option<Error>) -> Result<T> {
        self.map_err(|error| {
            let error: db::Error = error.into();
            let answer = error.constraint().and_then(answer);
            answer.unwrap_or_else(|| error.into())
        })
    }
}

/// The cause of a 5xx, on its way to the log: a response carries it as an extension, which no client sees.
#[derive(Debug, Clone)]
pub(crate) struct Cause(pub(crate) String);

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, detail) = (self.status(), self.to_string());
        match self {
            Self::Invalid(errors) => Problem::new(status, detail)
                .with_errors(errors)
                .into_response(),
            Self::Unavailable(error) => {
                let header = retry_after(error.retry_after().unwrap_or_default());
                with_cause((header, Problem::new(status, detail)), chain(&error))
            }
            Self::Busy {
                retry_after: after, ..
            } => {
                let cause = detail.clone();
                with_cause((retry_after(after), Problem::new(status, detail)), cause)
            }
            Self::Internal(cause) => with_cause(Problem::of(status), chain(cause.as_ref())),
            _ => Problem::new(status, detail).into_response(),
        }
    }
}

/// `Retry-After` counts whole seconds: rounded up, so that no client comes too early.
fn retry_after(after: Duration) -> [(HeaderName, String); 1] {
    let seconds = after.as_millis().div_ceil(1000).clamp(1, 3600);
    [(RETRY_AFTER, seconds.to_string())]
}

/// The answer, with what the log says of it.
pub(crate) fn with_cause(answer: impl IntoResponse, cause: String) -> Response {
    let mut response = answer.into_response();
    response.extensions_mut().insert(Cause(cause));
    response
}

/// The error and what caused it, in one line; a cause that an error's own text has in it is not repeated.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(db::said(error), |text, cause| {
        let cause = db::said(cause);
        if text.contains(&cause) {
            text
        } else {
            format!("{text}: {cause}")
        }
    })
}
