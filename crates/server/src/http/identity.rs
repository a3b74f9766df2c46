//! What tells one request from all others: its id, and the trace it belongs to. Clients may bring both; a handler finds them
//! among its request's headers, ready to be passed on.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tracing::Span;
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The flags that are defined: sampled, and random. Others are not passed on.
const FLAGS: u8 = 3;

/// The target of the span with a request's id. Whatever is logged, it stays: a line without it does not say whose it is.
pub(crate) const SPAN: &str = "server::request_id";

/// The longest id that is taken from a client.
const LONGEST_ID: usize = 128;

/// The identity of a request.
pub(crate) struct Identity {
    id: HeaderValue,
    /// What is logged meanwhile carries it.
    pub(crate) span: Span,
}

impl Identity {
    /// Takes the id from the client, if it is one that can stand in a log, or makes one; and leaves in the headers what a
    /// handler may pass on: the id, and the trace with this request as the parent.
    pub(crate) fn of(request: &mut Request) -> Self {
        let headers = request.headers_mut();
        let given = headers.get(REQUEST_ID).filter(|id| is_id(id)).cloned();
        let id = given.unwrap_or_else(new_id);
        // In the place of all that the client has sent.
        headers.insert(REQUEST_ID, id.clone());
        let trace = trace(headers);
        if let Some(trace) = &trace {
            headers.insert(TRACEPARENT, trace.onward.clone());
        } else {
            headers.remove(TRACEPARENT);
            headers.remove(TRACESTATE);
        }
        let text = id.to_str().unwrap_or_default();
        let span = match &trace {
            Some(Trace { id, .. }) => {
                tracing::error_span!(target: SPAN, "request", request_id = text, trace_id = id.as_str())
            }
            None => tracing::error_span!(target: SPAN, "request", request_id = text),
        };
        Self { id, span }
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

struct Trace {
    id: String,
    /// The header for requests that are made on behalf of this one.
    onward: HeaderValue,
}

/// The W3C trace context that the client sent, if it is one and valid: `00-<trace id>-<parent id>-<flags>`.
fn trace(headers: &HeaderMap) -> Option<Trace> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let text = given.next()?.to_str().ok()?;
    if given.next().is_some() {
        return None;
    }
    let mut parts = text.split('-');
    let (version, id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // A later version may have more parts; ff is none.
    let whole = parts.next().is_none() || version != "00";
    let sizes = [(version, 2), (id, 32), (parent, 16), (flags, 2)];
    let is_hex = |text: &str| {
        text.bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let valid = sizes
        .iter()
        .all(|(part, size)| part.len() == *size && is_hex(part));
    let zero = [id, parent]
        .iter()
        .any(|part| part.bytes().all(|byte| byte == b'0'));
    if !whole || !valid || zero || version == "ff" {
        return None;
    }
    let flags = u8::from_str_radix(flags, 16).ok()? & FLAGS;
    let own = Uuid::now_v7().as_u64_pair().1;
    Some(Trace {
        id: id.to_owned(),
        onward: HeaderValue::from_str(&format!("00-{id}-{own:016x}-{flags:02x}")).ok()?,
    })
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

    #[test]
    fn a_trace_goes_on_with_a_parent_of_its_own() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::from_str(text).unwrap());
            trace(&headers)
        };
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let trace = read(&format!("00-{id}-00f067aa0ba902b7-01")).unwrap();
        let onward = trace.onward.to_str().unwrap();
        assert_eq!(trace.id, id);
        assert!(onward.starts_with(&format!("00-{id}-")) && onward.ends_with("-01"));
        assert_ne!(&onward[36..52], "00f067aa0ba902b7");
        for invalid in [
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01".to_owned(),
            format!("00-{id}-0000000000000000-01"),
            format!("00-{id}-00f067aa0ba902b7"),
            format!("00-{id}-00f067aa0ba902b7-01-more"),
            format!("ff-{id}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()),
            "canary".to_owned(),
        ] {
            assert!(read(&invalid).is_none(), "{invalid}");
        }
    }
}
