//! Paths and methods that the service does not have.

use serde_json::json;
use server::testing::rejected;

use crate::book::Book;

#[tokio::test]
async fn paths_that_lead_nowhere() {
    let book = Book::open().await;
    for (tail, status) in [
        ("/", 404),
        ("/1/2", 404),
        ("/1/cancel/", 404),
        ("/cancel", 400),
        ("s", 404),
        ("%00", 404),
        ("/1", 400),
        ("/%00", 400),
        ("/%ff%fe", 400),
        ("/%", 400),
        ("/%zz", 400),
        ("/null", 400),
        ("/'%20or%20''='", 400),
        ("/%F0%9F%A6%80", 400),
        ("/01900000-0000-7000-8000-00000000000g", 400),
        ("/01900000-0000-7000-8000-000000000001%00", 400),
        ("/00000000-0000-0000-0000-000000000000", 404),
        ("/ffffffff-ffff-ffff-ffff-ffffffffffff", 404),
    ] {
        let path = format!("/api/reservations{tail}");
        rejected(&book.server.get(&path).await, &path, status);
        if status == 400 {
            rejected(
                &book.server.patch(&path, json!({"party_size": 1})).await,
                &path,
                400,
            );
            rejected(
                &book
                    .server
                    .request("POST", &format!("{path}/cancel"), &[], "")
                    .await,
                &path,
                400,
            );
        }
    }
}

#[tokio::test]
async fn methods_a_path_does_not_have() {
    let book = Book::open().await;
    for (tail, allowed, methods) in [
        ("", "GET,HEAD,POST", ["PUT", "PATCH", "DELETE", "BREW"]),
        (
            "/01900000-0000-7000-8000-000000000001",
            "GET,HEAD,PATCH",
            ["PUT", "POST", "DELETE", "BREW"],
        ),
        (
            "/01900000-0000-7000-8000-000000000001/cancel",
            "POST",
            ["GET", "PATCH", "DELETE", "BREW"],
        ),
    ] {
        for method in methods {
            let path = format!("/api/reservations{tail}");
            let answer = book
                .server
                .request(method, &path, &[("content-type", "application/json")], "{}")
                .await;
            rejected(&answer, &format!("{method} {path}"), 405);
            let mut allow: Vec<_> = answer
                .header("allow")
                .unwrap_or_default()
                .split(',')
                .map(str::trim)
                .collect();
            allow.sort_unstable();
            assert_eq!(allow.join(","), allowed, "{method} {path}");
        }
    }
}
