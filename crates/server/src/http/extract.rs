//! Extractors that answer with an [`Error`] what they cannot read: axum's own answer in plain text.

use std::cell::Cell;

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::Error;
use crate::http::json;

/// A JSON body, of a request or of a response.
///
/// A request needs the content type `application/json` or `application/*+json` (else 415) and an object as its body. What
/// is no JSON is a 400; JSON of the wrong shape is a 422 that names the field.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        if !is_json(request.headers()) {
            let detail = "The body must be JSON, announced by `Content-Type: application/json`.";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Error::Status(status, detail.to_owned()));
        }
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| Error::Status(rejection.status(), rejection.body_text()))?;
        read_json(&body).map(Self)
    }
}

/// For the fields of a merge patch, which are `Option`s with `#[serde(default, deserialize_with = "server::present")]`:
/// `None` is a field that is absent. `null` is not accepted unless the inner type is an `Option` again.
///
/// # Errors
/// Those of the inner type.
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    field: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(field).map(Some)
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let mut parts = value.unwrap_or_default().split(';');
    let essence = parts.next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    let subtype = essence.strip_prefix("application/").unwrap_or_default();
    subtype == "json" || subtype.ends_with("+json")
}

fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    // serde would fill a struct from an array too, by position.
    if body.trim_ascii_start().starts_with(b"[")
        && serde_json::from_slice::<IgnoredAny>(body).is_ok()
    {
        return Err(Error::field("", "the body must be a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        let text = cause.to_string();
        if !cause.is_data() {
            return Error::bad_request(format!("The body is not JSON: {text}."));
        }
        // Where the field is named, its line and column say nothing more.
        let text = text
            .rsplit_once(" at line ")
            .map_or(text.as_str(), |(text, _)| text);
        field_error(&path, text)
    })?;
    reader
        .end()
        .map_err(|_| Error::bad_request("The body has more than one JSON value."))?;
    Ok(value)
}

/// The bytes that a new body has room for. The most is little, because a short answer keeps it too, until its client has
/// read it.
const LEAST: usize = 1024;
const MOST: usize = 16 * 1024;

thread_local! {
    /// The longest body of late: a body that grows beyond its room is copied.
    static EXPECTED: Cell<usize> = const { Cell::new(LEAST) };
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let expected = EXPECTED.get();
        let mut body = Vec::with_capacity(expected);
        if let Err(error) = json::write(&mut body, &self.0) {
            return Error::internal(error).into_response();
        }
        EXPECTED.set(body.len().max(expected - expected / 16).clamp(LEAST, MOST));
        let mut response = Response::new(Body::from(body));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}

/// The parameters after `?`. Bad percent-encoding is a 400; a parameter of the wrong type, or one that the type does not
/// know and denies, is a 422 that names it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        read_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

fn read_query<T: DeserializeOwned>(query: &str) -> Result<T, Error> {
    if !is_percent_encoded_text(query) {
        let detail = "The query is not percent-encoded UTF-8.";
        return Err(Error::bad_request(detail));
    }
    let reader = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
    serde_path_to_error::deserialize(reader).map_err(|error| {
        let path = error.path().to_string();
        field_error(&path, &error.into_inner().to_string())
    })
}

/// Whether each `%` starts a byte and all bytes together are UTF-8: the form parser would replace what is not.
fn is_percent_encoded_text(query: &str) -> bool {
    let hex = |rest: &[u8]| rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit);
    let mut escapes = query.split('%').skip(1);
    escapes.all(|rest| hex(rest.as_bytes())) && percent_decode_str(query).decode_utf8().is_ok()
}

/// The parts of the path that the route names. One that cannot be read (an id that is no UUID, bytes that are no UTF-8)
/// is a 400.
#[derive(Debug, Clone, Copy, Default)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(PathRejection::FailedToDeserializePathParams(cause))
                if cause.status().is_client_error() =>
            {
                Err(Error::BadRequest(cause.body_text()))
            }
            // A handler that asks for what its route does not have.
            Err(rejection) => Err(Error::internal(rejection)),
        }
    }
}

/// serde finds an unknown or a missing field while it is at the object around it, and only its text has the name.
fn field_error(path: &str, text: &str) -> Error {
    let inner = ["unknown field `", "missing field `", "duplicate field `"]
        .iter()
        .find_map(|start| text.strip_prefix(start)?.split('`').next());
    let path = if path == "." { "" } else { path };
    let field = match inner {
        Some(name) if path.is_empty() || path == name => name.to_owned(),
        Some(name) if !path.ends_with(&format!(".{name}")) => format!("{path}.{name}"),
        _ => path.to_owned(),
    };
    Error::field(field, text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read by serde")]
    struct Order {
        name: String,
        limit: Option<u8>,
        lines: Option<Vec<Line>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read by serde")]
    struct Line {
        amount: u32,
    }

    fn rejected(body: &str) -> Error {
        read_json::<Order>(body.as_bytes()).unwrap_err()
    }

    #[test]
    fn what_is_no_json_is_a_400() {
        for body in [
            "",
            "{",
            "nonsense",
            r#"{"name": }"#,
            r#"{"name": "a"} x"#,
            r#"{"name": "\ud800"}"#,
            r#"{"name": 1e999}"#,
            "{\"name\": \"a\u{1}\"}",
            r#"["a""#,
        ] {
            let error = rejected(body);
            assert!(matches!(error, Error::BadRequest(_)), "{body}: {error:?}");
        }
        let deep = format!(r#"{{"name": {}1{}}}"#, "[".repeat(500), "]".repeat(500));
        assert!(matches!(
            rejected(&deep),
            Error::BadRequest(_) | Error::Invalid(_)
        ));
        assert!(matches!(
            read_json::<Order>(b"{\"name\": \"\xff\"}").unwrap_err(),
            Error::BadRequest(_)
        ));
    }

    #[test]
    fn json_of_the_wrong_shape_names_the_field() {
        for (body, field) in [
            (r#"{}"#, "name"),
            (r#" ["a", 1]"#, ""),
            (r#"1"#, ""),
            (r#"{"name": 1}"#, "name"),
            (r#"{"name": null}"#, "name"),
            (r#"{"name": "a", "limit": 256}"#, "limit"),
            (r#"{"name": "a", "nmae": "b"}"#, "nmae"),
            (r#"{"name": "a", "name": "b"}"#, "name"),
            (
                r#"{"name": "a", "lines": [{"amount": 1}, {"amount": -1}]}"#,
                "lines[1].amount",
            ),
            (
                r#"{"name": "a", "lines": [{"amount": 1, "x": 1}]}"#,
                "lines[0].x",
            ),
            (r#"{"name": "a", "lines": [{}]}"#, "lines[0].amount"),
        ] {
            let Error::Invalid(errors) = rejected(body) else {
                panic!("{body}: {:?}", rejected(body))
            };
            assert_eq!(errors.len(), 1);
            assert_eq!(errors[0].field, field, "{body}: {errors:?}");
            assert!(!errors[0].detail.contains(" at line "), "{errors:?}");
        }
    }

    #[test]
    fn a_query_names_its_parameter() {
        for (query, field) in [
            ("", "name"),
            ("name=a&limit=x", "limit"),
            ("name=a&limit=-1", "limit"),
            ("name=a&page=2", "page"),
        ] {
            let Error::Invalid(errors) = read_query::<Order>(query).unwrap_err() else {
                panic!("{query}")
            };
            assert_eq!(errors[0].field, field, "{query}: {errors:?}");
        }
        assert!(read_query::<Order>("name=J%C3%B8rgen+M&limit=7").is_ok());
    }

    #[test]
    fn bad_percent_encoding_is_a_400() {
        for query in [
            "name=%",
            "name=%2",
            "name=%zz",
            "name=%ff",
            "%C3=a",
            "name=%C3%28",
        ] {
            let error = read_query::<Order>(query).unwrap_err();
            assert!(matches!(error, Error::BadRequest(_)), "{query}: {error:?}");
        }
    }

    #[test]
    fn the_content_type_must_say_json() {
        for (value, json) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/merge-patch+json", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("application/jsonx", false),
            ("text/json+x", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            assert_eq!(is_json(&headers), json, "{value}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
