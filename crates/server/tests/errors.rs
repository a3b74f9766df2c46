//! Every error is a problem (RFC 9457) with the right status, and no cause reaches the client.

#![expect(clippy::unwrap_used, reason = "it is a test, its helpers included")]

mod thing;

use serde_json::json;
use server::testing::{Response, Server};

async fn start() -> Server {
    Server::start(thing::THING, &local_postgres::database()).await
}

/// Checks that the answer is a problem of this status, and returns it.
#[track_caller]
fn problem(answer: &Response, status: u16) -> serde_json::Value {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{answer:?}"
    );
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["type"], "about:blank");
    assert!(!problem["title"].as_str().unwrap().is_empty());
    assert!(!problem["detail"].as_str().unwrap().is_empty());
    assert!(!answer.body.contains("canary"), "{answer:?}");
    problem
}

#[tokio::test]
async fn what_http_rejects_is_a_problem() {
    let server = start().await;
    problem(&server.get("/nowhere").await, 404);
    problem(&server.get("/api/things/1").await, 404);
    problem(&server.get("/api/things/").await, 404);
    let wrong_method = server.delete("/api/things/1").await;
    problem(&wrong_method, 405);
    assert_eq!(wrong_method.header("allow"), Some("GET,HEAD"));
    let wrong_method = server.request("BREW", "/api/things", &[], "").await;
    problem(&wrong_method, 405);
    assert_eq!(wrong_method.header("allow"), Some("POST"));
    problem(
        &server
            .request(
                "POST",
                "/api/things",
                &[("content-type", "text/plain")],
                "{}",
            )
            .await,
        415,
    );
    problem(&server.request("POST", "/api/things", &[], "{}").await, 415);
    let large = json!({ "name": "x".repeat(70_000) });
    problem(&server.post("/api/things", large).await, 413);
    problem(&server.get("/api/things/one").await, 400);
    problem(&server.get("/api/things/%00").await, 400);
    problem(&server.get("/api/things/%ff").await, 400);
    problem(&server.get("/api/slow?ms=%zz").await, 400);
    let json = [("content-type", "application/json")];
    problem(
        &server.request("POST", "/api/things", &json, "{").await,
        400,
    );
    problem(&server.request("POST", "/api/things", &json, "").await, 400);
}

/// As a layer of the service leaves what it has compressed. What it really is shows in nothing but the headers.
async fn coded(mut response: axum::response::Response) -> axum::response::Response {
    let headers = response.headers_mut();
    headers.insert("content-encoding", "gzip".parse().unwrap());
    headers.insert("etag", "\"of-the-old-body\"".parse().unwrap());
    headers.insert("vary", "accept-encoding".parse().unwrap());
    headers.remove("content-length");
    response
}

#[tokio::test]
async fn a_problem_in_the_place_of_a_compressed_body_is_not_said_to_be_compressed() {
    let compressed = server::Service {
        app: |pool| (thing::THING.app)(pool).layer(axum::middleware::map_response(coded)),
        ..thing::THING
    };
    let server = Server::start(compressed, &local_postgres::database()).await;
    let answer = server.get("/api/plain?ms=x").await;
    let said = problem(&answer, 400);
    assert!(
        !said["detail"].as_str().unwrap().contains("ms"),
        "read as it is coded: {said}"
    );
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.header("etag"), None);
    assert_eq!(answer.header("vary"), Some("accept-encoding"));
    // What a handler says by itself is left as the layer made it.
    let answer = server.get("/api/count").await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
}

#[tokio::test]
async fn axums_own_rejections_are_problems() {
    let server = start().await;
    let rejected = problem(&server.get("/api/plain?ms=x").await, 400);
    assert!(
        rejected["detail"].as_str().unwrap().contains("ms"),
        "{rejected}"
    );
    problem(
        &server
            .request("POST", "/api/plain", &[], "x".repeat(70_000))
            .await,
        413,
    );
    problem(
        &server.request("POST", "/api/plain", &[], b"\xff").await,
        400,
    );
    let head = server.request("HEAD", "/nowhere", &[], "").await;
    assert_eq!(head.status, 404);
}

#[tokio::test]
async fn what_cannot_be_accepted_names_its_field() {
    let server = start().await;
    for (body, field) in [
        (json!({ "nmae": "a" }), "nmae"),
        (json!({ "name": 1 }), "name"),
        (json!({ "name": "" }), "name"),
        (json!({ "name": "x".repeat(21) }), "name"),
        (json!({}), "name"),
        (json!({ "name": null }), "name"),
        (json!({ "name": "a", "amount": -1 }), ""),
        (json!({ "name": "a", "amount": 70_000 }), ""),
        (json!({ "name": "a\u{0}b" }), ""),
    ] {
        let rejected = problem(&server.post("/api/things", body.clone()).await, 422);
        assert_eq!(rejected["errors"][0]["field"], field, "{body}: {rejected}");
        assert_eq!(rejected["errors"].as_array().unwrap().len(), 1);
    }
    let rejected = problem(&server.get("/api/slow?ms=-1").await, 422);
    assert_eq!(rejected["errors"][0]["field"], "ms");
    let rejected = problem(&server.get("/api/slow?ms=1&page=2").await, 422);
    assert_eq!(rejected["errors"][0]["field"], "page");
}

#[tokio::test]
async fn a_named_constraint_has_its_own_words() {
    let server = start().await;
    let thing = json!({ "name": "a", "email": "a@example.com" });
    assert_eq!(server.post("/api/things", thing.clone()).await.status, 201);
    let rejected = problem(&server.post("/api/things", thing).await, 409);
    assert_eq!(rejected["detail"], "Another thing has this email.");
}

#[tokio::test]
async fn sqlstates_have_their_status() {
    let server = start().await;
    for (code, status) in [
        ("23505", 409),
        ("23P01", 409),
        ("23503", 409),
        ("23514", 422),
        ("22021", 422),
        ("22008", 422),
        ("40001", 503),
        ("40P01", 503),
        ("57014", 503),
        ("55P03", 503),
        ("22012", 500),
        ("XX000", 500),
    ] {
        let answer = server.get(&format!("/api/raise/{code}")).await;
        let rejected = problem(&answer, status);
        assert_eq!(
            answer.header("retry-after").is_some(),
            status == 503,
            "{code}"
        );
        let named = rejected.to_string().contains("rule");
        assert_eq!(
            named,
            ["23505", "23P01", "23503", "23514"].contains(&code),
            "{code}: {rejected}"
        );
    }
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_service_lives() {
    let server = start().await;
    problem(&server.get("/api/panic").await, 500);
    assert_eq!(server.get("/api/count").await.body, "0");
}
