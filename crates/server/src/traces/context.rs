//! W3C's trace context: the header `traceparent`.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The flags that are defined: sampled, and random. Others are not passed on.
const FLAGS: u8 = 3;

/// One span of a trace, as `traceparent` names it.
pub(crate) struct Context {
    pub(crate) trace: String,
    pub(crate) span: String,
    pub(crate) flags: u8,
}

impl Context {
    /// What the client sent, if it is valid: `00-<trace id>-<parent id>-<flags>`.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut given = headers.get_all(TRACEPARENT).iter();
        let text = given.next()?.to_str().ok()?;
        if given.next().is_some() {
            return None;
        }
        let mut parts = text.split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // A later version may have more parts; ff is none.
        let whole = parts.next().is_none() || version != "00";
        let sizes = [(version, 2), (trace, 32), (span, 16), (flags, 2)];
        let is_hex = |text: &str| {
            text.bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let valid = sizes
            .iter()
            .all(|(part, size)| part.len() == *size && is_hex(part));
        let zero = [trace, span]
            .iter()
            .any(|part| part.bytes().all(|byte| byte == b'0'));
        if !whole || !valid || zero || version == "ff" {
            return None;
        }
        Some(Self {
            trace: trace.to_owned(),
            span: span.to_owned(),
            flags: u8::from_str_radix(flags, 16).ok()? & FLAGS,
        })
    }

    /// A span of its own in the same trace.
    pub(crate) fn child(self) -> Self {
        let span = Uuid::now_v7().as_u64_pair().1;
        Self {
            span: format!("{span:016x}"),
            ..self
        }
    }

    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let Self { trace, span, flags } = self;
        HeaderValue::from_str(&format!("00-{trace}-{span}-{flags:02x}")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_on_with_a_parent_of_its_own() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::from_str(text).unwrap());
            Context::of(&headers)
        };
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let given = read(&format!("00-{id}-00f067aa0ba902b7-01")).unwrap();
        let onward = given.child().header().unwrap();
        let onward = onward.to_str().unwrap();
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
