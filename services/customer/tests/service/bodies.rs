//! Bodies and fields that cannot be read or accepted.

use serde_json::{Value, json};
use server::testing::rejected;

use crate::rejection::{ID, start};

#[tokio::test]
async fn bodies_that_are_no_json() {
    let server = start().await;
    for body in [
        "",
        " ",
        "{",
        "}",
        "[",
        "{]",
        "nul",
        "'",
        "{'name': 'Ada'}",
        "{\"name\": }",
        "{\"name\": \"Ada\"",
        "{\"name\"}",
        "{\"name\": \"Ada\",}",
        "{name: 1}",
        "{\"name\": \"\\x\"}",
        "{\"name\": \"\\ud800\"}",
        "{\"name\": \"a\nb\"}",
        "{\"name\": \"a\0b\"}",
        "\0",
        "{\"name\": \"a\", \"email\": \"b\"} {}",
        "{\"name\": 1e999999}",
        "{\"name\": 01}",
        "{\"name\": NaN}",
        "\u{feff}{}",
        "name=Ada&email=a",
        "<customer/>",
        "--x\r\n",
    ] {
        for (method, path) in [
            ("POST", "/api/customers".to_owned()),
            ("PATCH", format!("/api/customers/{ID}")),
        ] {
            let answer = server
                .request(method, &path, &[("content-type", "application/json")], body)
                .await;
            rejected(&answer, &format!("{method} {body:?}"), 400);
        }
    }
}

/// Values that are wrong for any field of a customer.
fn wrong() -> Vec<Value> {
    vec![
        json!(1),
        json!(-1.5),
        json!(true),
        json!([]),
        json!(["a"]),
        json!({}),
        json!({"a": null}),
        json!([[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]),
        json!(""),
        json!("   "),
        json!("\0"),
        json!("a\0b@example.com"),
        json!("0123\0"),
        json!("\u{ffff}".repeat(300)),
        json!("a".repeat(20_000)),
        json!(" ".repeat(20_000)),
        json!(format!("{}@example.com", "a".repeat(20_000))),
    ]
}

#[tokio::test]
async fn fields_with_wrong_values() {
    let server = start().await;
    let whole = json!({"name": "Ada", "email": "ada@example.com", "phone": "01632 960123"});
    let existing = json!({"name": "Grace", "email": "grace@example.com"});
    let existing = server.post("/api/customers", existing).await.json();
    let path = format!("/api/customers/{}", existing["id"].as_str().unwrap());
    for field in ["name", "email", "phone"] {
        let more = match field {
            "email" => vec![
                json!("@"),
                json!("a@"),
                json!("@b.c"),
                json!("a@b.c\n"),
                json!("a@b@c.d"),
                json!("Ada <a@b.c>"),
            ],
            "phone" => vec![
                json!("+"),
                json!("0"),
                json!("١٢٣٤٥٦"),
                json!("123456\n"),
                json!("12345;drop table customer"),
            ],
            _ => vec![],
        };
        for value in wrong().into_iter().chain(more) {
            let mut body = whole.clone();
            body[field] = value.clone();
            let request = format!("{field} = {:.60}", value.to_string());
            rejected(&server.post("/api/customers", body).await, &request, 422);
            rejected(
                &server.patch(&path, json!({field: value})).await,
                &request,
                422,
            );
        }
    }
    assert_eq!(
        server.get(&path).await.json(),
        existing,
        "what was rejected changed nothing"
    );
    assert_eq!(
        server.get("/api/customers").await.json()["data"],
        json!([existing])
    );
}

#[tokio::test]
async fn bodies_of_the_wrong_shape() {
    let server = start().await;
    for body in [
        json!(null),
        json!(1),
        json!("Ada"),
        json!(true),
        json!([]),
        json!([{"name": "Ada", "email": "ada@example.com"}]),
        json!(["Ada", "ada@example.com", null]),
        json!({}),
        json!({"name": "Ada"}),
        json!({"email": "ada@example.com"}),
        json!({"name": "Ada", "email": null}),
        json!({"name": null, "email": "ada@example.com"}),
        json!({"name": "Ada", "email": "ada@example.com", "id": ID}),
        json!({"name": "Ada", "email": "ada@example.com", "created_at": "2026-01-01T00:00:00Z"}),
        json!({"name": "Ada", "email": "ada@example.com", "admin": true}),
        json!({"Name": "Ada", "email": "ada@example.com"}),
        json!({"name": "Ada", "email": "ada@example.com", "": 1}),
        json!({"name": "Ada", "email": "ada@example.com", "\u{0}": 1}),
    ] {
        rejected(
            &server.post("/api/customers", body.clone()).await,
            &body.to_string(),
            422,
        );
    }
    for body in [
        json!(null),
        json!([]),
        json!("Ada"),
        json!(1),
        json!({"id": ID}),
        json!({"updated_at": null}),
        json!({"phones": []}),
    ] {
        rejected(
            &server
                .patch(&format!("/api/customers/{ID}"), body.clone())
                .await,
            &body.to_string(),
            422,
        );
    }
    let twice = r#"{"name": "Ada", "name": "Eve", "email": "ada@example.com"}"#;
    let answer = server
        .request(
            "POST",
            "/api/customers",
            &[("content-type", "application/json")],
            twice,
        )
        .await;
    rejected(&answer, twice, 422);
}

#[tokio::test]
async fn content_types_other_than_json() {
    let server = start().await;
    let body = r#"{"name": "Ada", "email": "ada@example.com"}"#;
    for media_type in [
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "json",
        "",
        "*/*",
        "\u{e9}",
    ] {
        for (method, path) in [
            ("POST", "/api/customers".to_owned()),
            ("PATCH", format!("/api/customers/{ID}")),
        ] {
            let answer = server
                .request(method, &path, &[("content-type", media_type)], body)
                .await;
            rejected(&answer, &format!("{method} {media_type:?}"), 415);
        }
    }
    rejected(
        &server.request("POST", "/api/customers", &[], body).await,
        "no content type",
        415,
    );
}

#[tokio::test]
async fn bodies_that_are_too_large() {
    let server = start().await;
    let body = json!({"name": "a".repeat(100_000), "email": "ada@example.com"}).to_string();
    let answer = server
        .request(
            "POST",
            "/api/customers",
            &[("content-type", "application/json")],
            &body,
        )
        .await;
    rejected(&answer, "a hundred kilobytes", 413);
}
