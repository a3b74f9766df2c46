//! Whatever comes in, it is answered with a clear 4xx and never with a 5xx: what the tests of that share.

use server::testing::{Response, Server};

/// An id that no customer has.
pub(crate) const ID: &str = "01900000-0000-7000-8000-000000000001";

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

/// A service on a new database.
pub(crate) async fn start() -> Server {
    Server::start(customer::SERVICE, &local_postgres::database()).await
}
