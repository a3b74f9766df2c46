//! What tells one request from all others: its id, and the trace it belongs to. Clients may bring both; a handler finds them
//! among its request's headers, ready to be passed on.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tracing::Span;
use tracing::instrument::{Instrument as _, Instrumented};
use uuid::Uuid;

use crate::traces::Trace;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The target of the span with a request's id. Whatever is logged, it stays: a line without it does not say whose it is.
pub(crate) const SPAN: &str = "server::request_id";

/// The longest id that is taken from a client.
const LONGEST_ID: usize = 128;

/// The identity of a request.
pub(crate) struct Identity {
    id: HeaderValue,
    /// What is logged meanwhile carries it.
    pub(crate) span: Span,
    pub(crate) trace: Trace,
}

impl Identity {
    /// Takes the id from the client, if it is one that can stand in a log, or makes one; and leaves in the headers what a
    /// handler may pass on: the id, and the trace with this request as the parent.
    pub(crate) fn of(request: &mut Request, method: &'static str) -> Self {
        let trace = Trace::of(request, method);
        let headers = request.headers_mut();
        let given = headers.get(REQUEST_ID).filter(|id| is_id(id)).cloned();
        let id = given.unwrap_or_else(new_id);
        // In the place of all that the client has sent.
        headers.insert(REQUEST_ID, id.clone());
        let text = id.to_str().unwrap_or_default();
        let span = match &trace.id {
            Some(trace) => {
                tracing::error_span!(target: SPAN, "request", request_id = text, trace_id = trace.as_str())
            }
            None => tracing::error_span!(target: SPAN, "request", request_id = text),
        };
        Self { id, span, trace }
    }

    /// What belongs to the request: its lines carry the id, and its spans are in the trace.
    pub(crate) fn around<F>(&self, work: F) -> Instrumented<Instrumented<F>> {
        let traced = work.instrument(self.trace.span.clone());
        traced.instrument(self.span.clone())
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

/// A UUID that sorts by time.
fn new_id() -> HeaderValue {
    let mut text = Uuid::encode_buffer();
    let text = Uuid::now_v7().hyphenated().encode_lower(&mut text);
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
