//! Whatever comes in, it is answered with a clear 4xx and never with a 5xx: what the tests of that share.

use server::testing::Response;

/// What is no moment, as it stands in a URL.
pub(crate) const NO_MOMENTS: [&str; 26] = [
    "",
    "0",
    "now",
    "null",
    "infinity",
    "-infinity",
    "%00",
    "2030-05-17",
    "2030-05-17T12:00:00",
    "2030-05-17T12:00Z",
    "2030-05-17T12:00:00%2B2",
    "2030-05-17T12:00:00+02:00",
    "2030-05-17T12:00:00Z%00",
    "2030-02-30T12:00:00Z",
    "2030-13-01T00:00:00Z",
    "2030-05-17T24:00:00Z",
    "2030-05-17T12:60:00Z",
    "2016-12-31T23:59:60Z",
    "2030-05-17T12:00:61Z",
    "2030-05-17T12:00:00%2B24:00",
    "%2B294277-01-01T00:00:00Z",
    "%2B294277-01-01",
    "-0001-01-01T00:00:00Z",
    "10000-01-01T00:00:00Z",
    "9999-12-31T23:59:59-00:01",
    "%D9%A2%D9%A0%D9%A3%D9%A0-05-17T12:00:00Z",
];

/// The answer has this status and is a problem (RFC 9457).
pub(crate) fn refused(answer: &Response, request: &str, status: u16) {
    assert_eq!(answer.status, status, "{request}: {}", answer.body);
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{request}"
    );
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{request}: {problem}");
    assert!(problem["title"].is_string(), "{request}: {problem}");
    if status == 422 {
        let errors = problem["errors"].as_array().unwrap();
        assert!(
            errors
                .iter()
                .all(|error| error["field"].is_string() && error["detail"].is_string()),
            "{problem}"
        );
        assert!(!errors.is_empty(), "{request}: {problem}");
    }
}
