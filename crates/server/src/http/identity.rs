//! What tells one request from all others: its id, and the trace it belongs to. Clients may bring both; a handler finds them
//! among its request's headers, ready to be passed on.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::Request;
use axum::http::header::Entry;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::traces::Trace;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a client.
const LONGEST_ID: usize = 128;

/// The identity of a request.
pub(crate) struct Identity {
    id: HeaderValue,
    pub(crate) trace: Trace,
}

impl Identity {
    /// Takes the id from the client, if it is one that can stand in a log, or makes one; and leaves in the headers what a
    /// handler may pass on: the id, and the trace with this request as the parent.
    pub(crate) fn of(
        request: &mut Request,
        method: &'static str,
        route: Option<&str>,
        traces: bool,
    ) -> Self {
        let trace = Trace::of(request, (method, route), traces);
        let id = match request.headers_mut().entry(REQUEST_ID) {
            Entry::Occupied(mut given) => {
                let id = Some(given.get()).filter(|id| is_id(id)).cloned();
                let id = id.unwrap_or_else(new_id);
                // In the place of all that the client has sent.
                given.insert(id.clone());
                id
            }
            Entry::Vacant(place) => place.insert(new_id()).clone(),
        };
        Self { id, trace }
    }

    /// Whatever is logged in the name of the caller carries the id, and the trace.
    pub(crate) fn name(&self, caller: &mut db::Caller) {
        let id = self.id.to_str().unwrap_or_default();
        caller.set_id(id, self.trace.id.as_deref());
    }

    /// Puts the id into the answer.
    pub(crate) fn sign(&self, headers: &mut HeaderMap) {
        headers.insert(REQUEST_ID, self.id.clone());
    }
}

/// 1 to 128 letters, digits and `. _ : -`: nothing that a log or a header could be broken with.
fn is_id(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._:-".contains(byte);
    (1..=LONGEST_ID).contains(&bytes.len()) && bytes.iter().all(is_allowed)
}

/// A UUIDv7, which sorts by time. Its random bits tell it from others and are no secret.
fn new_id() -> HeaderValue {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let milliseconds = since_1970.map_or(0, |time| time.as_millis() as u64);
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    let id = uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid();
    let mut text = Uuid::encode_buffer();
    let text = id.hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_can_stand_in_a_log() {
        for (text, good) in [
            ("01a2-b3.c:d_E", true),
            ("", false),
            ("with space", false),
            ("quote\"", false),
            (&"x".repeat(128), true),
            (&"x".repeat(129), false),
        ] {
            let value = HeaderValue::from_str(text).unwrap();
            assert_eq!(is_id(&value), good, "{text}");
        }
    }
}
