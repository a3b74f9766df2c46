//! The body of every error: `application/problem+json` (RFC 9457), also where axum would answer with plain text.

use std::borrow::Cow;

use axum::body::{Body, to_bytes};
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName,
    LAST_MODIFIED,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// What axum says in plain text is a sentence; nothing longer becomes a `detail`.
const LONGEST_DETAIL: usize = 1024;

/// What a header says of a body is not true of another one.
const OF_A_BODY: [HeaderName; 8] = [
    CONTENT_LENGTH,
    CONTENT_ENCODING,
    CONTENT_RANGE,
    ACCEPT_RANGES,
    ETAG,
    LAST_MODIFIED,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
];

/// One field that is not acceptable, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field's name; a path such as `address.city` or `lines[2].amount` if it is nested; empty if it is not known.
    pub field: Cow<'static, str>,
    /// What is wrong with it, for people.
    pub detail: Cow<'static, str>,
}

/// The members of RFC 9457; `type` is always `about:blank`: the status says it all.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// A member of ours, of `/readyz` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: String) -> Self {
        // RFC 9110 renamed two of them after the http crate had named them.
        let title = match status {
            StatusCode::UNPROCESSABLE_ENTITY => "Unprocessable Content",
            StatusCode::PAYLOAD_TOO_LARGE => "Content Too Large",
            status => status.canonical_reason().unwrap_or("Error"),
        };
        Self {
            r#type: "about:blank",
            title,
            status: status.as_u16(),
            detail,
            errors: Vec::new(),
            state: None,
        }
    }

    /// The problem with the usual words for its status.
    pub(crate) fn of(status: StatusCode) -> Self {
        let detail = match status {
            StatusCode::NOT_FOUND => "There is nothing at this address.",
            StatusCode::METHOD_NOT_ALLOWED => {
                "This address does not take this method; `Allow` lists those it takes."
            }
            StatusCode::PAYLOAD_TOO_LARGE => "The body is larger than this service accepts.",
            StatusCode::INTERNAL_SERVER_ERROR => "The service made a mistake; it has been logged.",
            _ => "The request cannot be answered.",
        };
        Self::new(status, detail.to_owned())
    }

    pub(crate) fn to_vec(&self) -> Vec<u8> {
        // A struct of strings and numbers always serializes.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(crate) fn with_errors(self, errors: Vec<FieldError>) -> Self {
        Self { errors, ..self }
    }

    pub(crate) fn with_state(self, state: &'static str) -> Self {
        let state = Some(state);
        Self { state, ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(CONTENT_TYPE, MEDIA_TYPE)], self.to_vec()).into_response()
    }
}

/// Whether it is an error that axum answers by itself: a wrong method, a rejected extractor.
pub(crate) fn is_lacking(response: &Response) -> bool {
    let status = response.status();
    (status.is_client_error() || status.is_server_error()) && !speaks_for_itself(response)
}

/// Turns what axum answers by itself into a problem; other headers, `Allow` among them, stay. What a layer of the service has
/// coded is not read, so it has the usual words for its status.
pub(crate) async fn rewrite(response: Response) -> Response {
    let status = response.status();
    let (mut parts, body) = response.into_parts();
    let said = match is_coded(&parts.headers) {
        true => None,
        false => to_bytes(body, LONGEST_DETAIL).await.ok(),
    };
    let problem = match said.and_then(|bytes| sentence(&bytes)) {
        // The text of a 5xx may be a cause, which is nothing to send.
        Some(detail) if status.is_client_error() => Problem::new(status, detail),
        _ => Problem::of(status),
    };
    let problem = problem.into_response().into_body();
    for of_old_body in OF_A_BODY {
        parts.headers.remove(of_old_body);
    }
    parts.headers.insert(CONTENT_TYPE, MEDIA_TYPE);
    Response::from_parts(parts, Body::new(problem))
}

/// Whether the body is not the text itself but something made of it, such as gzip.
fn is_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// A body of any type but plain text was made on purpose.
fn speaks_for_itself(response: &Response) -> bool {
    let content_type = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    content_type.is_some_and(|content_type| !content_type.starts_with("text/plain"))
}

fn sentence(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
