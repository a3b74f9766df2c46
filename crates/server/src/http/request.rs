//! A request before its handler begins: what its head has to say, and its body, read to the end. So no handler waits for a
//! slow client while it holds what others need, and no answer goes out while the client still sends.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, HOST};
use axum::http::{HeaderMap, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use http_body_util::LengthLimitError;
use tokio::time::timeout;

use crate::error::problem::Problem;
use crate::http::activity::{Activity, Phase};

/// The largest body a request may have, in bytes; more is a 413.
const BODY_LIMIT: usize = 64 * 1024;

/// The longest address, in bytes; more is a 414.
const ADDRESS_LIMIT: usize = 8 * 1024;

/// The answer to a request whose head says that it cannot be served.
pub(crate) fn refusal(request: &Request) -> Option<Response> {
    let headers = request.headers();
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() >= Version::HTTP_11) {
        let detail = "A request has one header `Host`.";
        return Some(last(StatusCode::BAD_REQUEST, detail.to_owned()));
    }
    let uri = request.uri();
    let query = uri.query().map_or(0, str::len);
    if uri.path().len() + query > ADDRESS_LIMIT {
        let detail = format!("The address is longer than {} KiB.", ADDRESS_LIMIT / 1024);
        return Some(last(StatusCode::URI_TOO_LONG, detail));
    }
    (length(headers)? > BODY_LIMIT as u64).then(too_large)
}

/// Reads the whole body.
///
/// # Errors
/// The answer, if it is too large, does not come in time, or breaks off.
pub(crate) async fn read(request: Request, limit: Duration) -> Result<Request, Response> {
    let (mut parts, body) = request.into_parts();
    let bytes = match timeout(limit, to_bytes(body, BODY_LIMIT)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error))
            if error
                .source()
                .is_some_and(|cause| cause.is::<LengthLimitError>()) =>
        {
            return Err(too_large());
        }
        Ok(Err(_)) => {
            let detail = "The body is not as its head says, or broke off.";
            return Err(last(StatusCode::BAD_REQUEST, detail.to_owned()));
        }
        Err(_) => {
            let detail = format!("The body of the request took longer than {limit:?}.");
            return Err(last(StatusCode::REQUEST_TIMEOUT, detail));
        }
    };
    if let Some(activity) = parts.extensions.remove::<Arc<Activity>>() {
        activity.turn(Phase::Busy);
    }
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large() -> Response {
    let detail = format!("The body is larger than {} KiB.", BODY_LIMIT / 1024);
    last(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

/// An answer after which nothing more is read from this client.
fn last(status: StatusCode, detail: String) -> Response {
    ([(CONNECTION, "close")], Problem::new(status, detail)).into_response()
}
