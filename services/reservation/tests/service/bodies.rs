//! Bodies and fields that cannot be read or accepted.

use serde_json::{Value, json};
use server::testing::rejected;

use crate::book::{Book, path};
use crate::rejection::NO_MOMENTS;

const ID: &str = "01900000-0000-7000-8000-000000000001";

#[tokio::test]
async fn fields_with_wrong_values() {
    let book = Book::open().await;
    let existing = book.reserve("table-9", 1, 2).await;
    let any = vec![
        json!(null),
        json!(true),
        json!(1.5),
        json!([]),
        json!({}),
        json!(""),
        json!("\0"),
        json!("a".repeat(20_000)),
        json!("1"),
        json!(-1),
    ];
    let moments = NO_MOMENTS.map(|text| {
        json!(
            text.replace("%2B", "+")
                .replace("%00", "\0")
                .replace("12:00:00+02:00", "12:00:00 02:00")
        )
    });
    let moments = moments
        .into_iter()
        .chain([json!(1_900_000_000), json!("2030-05-17T12:00:00Z ")])
        .collect::<Vec<_>>();
    for (field, more) in [
        (
            "customer_id",
            vec![json!(1), json!("1"), json!(ID), json!(format!("{ID}\0"))],
        ),
        ("resource", vec![json!(1), json!("   "), json!("table\0")]),
        ("starts_at", moments.clone()),
        ("ends_at", moments),
        (
            "party_size",
            vec![
                json!(0),
                json!(1001),
                json!("two"),
                json!(2_147_483_648_i64),
                json!(1e300),
                json!(u64::MAX),
            ],
        ),
    ] {
        let fits = |value: &Value| match field {
            "resource" => value == "1",
            _ => false,
        };
        for value in any.iter().chain(&more).filter(|value| !fits(value)) {
            let mut body = book.request("table-1", 12, 14);
            body[field] = value.clone();
            let request = format!("{field} = {:.60}", value.to_string());
            rejected(
                &book.server.post("/api/reservations", body).await,
                &request,
                422,
            );
            rejected(
                &book.change(&existing, json!({field: value})).await,
                &request,
                422,
            );
        }
    }
    assert_eq!(
        book.server.get(&path(&existing)).await.json(),
        existing,
        "what was rejected changed nothing"
    );
    assert_eq!(
        book.server.get("/api/reservations").await.json()["data"],
        json!([existing])
    );
}

#[tokio::test]
async fn bodies_of_the_wrong_shape() {
    let book = Book::open().await;
    let existing = book.reserve("table-9", 1, 2).await;
    let whole = book.request("table-1", 12, 14);
    for field in [
        "customer_id",
        "resource",
        "starts_at",
        "ends_at",
        "party_size",
    ] {
        let mut body = whole.clone();
        body.as_object_mut().unwrap().remove(field);
        let answer = book.server.post("/api/reservations", body).await;
        rejected(&answer, &format!("no {field}"), 422);
        assert_eq!(answer.json()["errors"][0]["field"], field);
    }
    for field in ["id", "status", "created_at", "customerId", ""] {
        let mut body = whole.clone();
        body[field] = json!("x");
        rejected(
            &book.server.post("/api/reservations", body).await,
            field,
            422,
        );
    }
    for body in [
        json!(null),
        json!([]),
        json!("x"),
        json!({"status": "cancelled"}),
        json!({"customer_id": ID}),
        json!({"id": ID}),
    ] {
        rejected(
            &book.change(&existing, body.clone()).await,
            &body.to_string(),
            422,
        );
    }
    let json_type = [("content-type", "application/json")];
    for body in [
        "",
        "{",
        "[,]",
        "{\"resource\": \"\\ud800\"}",
        "\0",
        "{\"party_size\": 1e999999}",
        "{\"party_size\": 01}",
    ] {
        rejected(
            &book
                .server
                .request("POST", "/api/reservations", &json_type, body)
                .await,
            body,
            400,
        );
        rejected(
            &book
                .server
                .request("PATCH", &path(&existing), &json_type, body)
                .await,
            body,
            400,
        );
    }
    for media_type in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let headers = [("content-type", media_type)];
        rejected(
            &book
                .server
                .request("POST", "/api/reservations", &headers, whole.to_string())
                .await,
            media_type,
            415,
        );
        rejected(
            &book
                .server
                .request("PATCH", &path(&existing), &headers, "{}")
                .await,
            media_type,
            415,
        );
    }
    let large = json!({"resource": "a".repeat(100_000)}).to_string();
    rejected(
        &book
            .server
            .request("POST", "/api/reservations", &json_type, large)
            .await,
        "a hundred kilobytes",
        413,
    );
}
