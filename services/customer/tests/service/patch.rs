//! A merge patch of a customer.

use serde_json::{Value, json};

use crate::customers::{created, moment, path};
use crate::rejection::start;

#[tokio::test]
async fn a_patch_changes_what_is_there_and_clears_what_is_null() {
    let server = start().await;
    let before = created(
        &server,
        json!({"name": "Ada", "email": "ada@example.com", "phone": "+44 1632 960123"}),
    )
    .await;

    let named = server
        .patch(&path(&before), json!({"name": "Ada King"}))
        .await;
    assert_eq!(named.status, 200, "{}", named.body);
    let named = named.json();
    assert_eq!(named["name"], "Ada King");
    assert_eq!(named["phone"], before["phone"], "absent is unchanged");
    assert_eq!(named["email"], before["email"]);
    assert_eq!(named["created_at"], before["created_at"]);
    assert!(moment(&named, "updated_at") > moment(&before, "updated_at"));

    let cleared = server
        .patch(&path(&before), json!({"phone": null}))
        .await
        .json();
    assert_eq!(cleared["phone"], Value::Null, "null is cleared");
    assert_eq!(cleared["name"], "Ada King");
    let set = server
        .patch(
            &path(&before),
            json!({"phone": "01632 960 124", "email": "king@example.com"}),
        )
        .await
        .json();
    assert_eq!(set["phone"], "01632 960 124");
    assert_eq!(set["email"], "king@example.com");
    assert_eq!(server.get(&path(&before)).await.json(), set);
}

#[tokio::test]
async fn an_empty_patch_changes_nothing() {
    let server = start().await;
    let customer = created(&server, json!({"name": "Ada", "email": "ada@example.com"})).await;
    let answer = server.patch(&path(&customer), json!({})).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), customer);
}

#[tokio::test]
async fn a_patch_may_call_itself_a_merge_patch() {
    let server = start().await;
    let customer = created(&server, json!({"name": "Ada", "email": "ada@example.com"})).await;
    for (media_type, status) in [
        ("application/merge-patch+json", 200),
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
    ] {
        let headers = [("content-type", media_type)];
        let answer = server
            .request(
                "PATCH",
                &path(&customer),
                &headers,
                r#"{"name": "Ada King"}"#,
            )
            .await;
        assert_eq!(answer.status, status, "{media_type}: {}", answer.body);
    }
}

#[tokio::test]
async fn required_fields_cannot_be_null() {
    let server = start().await;
    let customer = created(&server, json!({"name": "Ada", "email": "ada@example.com"})).await;
    for field in ["name", "email"] {
        let answer = server.patch(&path(&customer), json!({field: null})).await;
        assert_eq!(answer.status, 422, "{}", answer.body);
        assert_eq!(
            answer.json()["errors"][0]["field"],
            field,
            "{}",
            answer.body
        );
    }
}
