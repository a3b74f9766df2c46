//! Paths and methods that the service does not have.

use serde_json::json;
use server::testing::rejected;

use crate::rejection::{ID, start};

#[tokio::test]
async fn paths_that_lead_nowhere() {
    let server = start().await;
    for (path, status) in [
        ("/apis", 404),
        ("/api", 404),
        ("/api/", 404),
        ("/api/customers/", 404),
        ("/api/customer", 404),
        ("/api/customers/1/2", 404),
        ("/API/CUSTOMERS", 404),
        ("/%00", 404),
        ("/api/customers%00", 404),
        ("/../etc/passwd", 404),
        ("//api/customers", 404),
        ("/api/customers/1", 400),
        ("/api/customers/%00", 400),
        ("/api/customers/%00%00%00%00", 400),
        ("/api/customers/%ff%fe", 400),
        ("/api/customers/%", 400),
        ("/api/customers/%zz", 400),
        ("/api/customers/null", 400),
        ("/api/customers/undefined", 400),
        ("/api/customers/'%20or%20''='", 400),
        ("/api/customers/%F0%9F%A6%80", 400),
        ("/api/customers/01900000-0000-7000-8000-00000000000", 400),
        ("/api/customers/01900000-0000-7000-8000-0000000000012", 400),
        ("/api/customers/01900000-0000-7000-8000-00000000000g", 400),
        (
            "/api/customers/01900000-0000-7000-8000-000000000001%00",
            400,
        ),
        ("/api/customers/00000000-0000-0000-0000-000000000000", 404),
        ("/api/customers/ffffffff-ffff-ffff-ffff-ffffffffffff", 404),
    ] {
        rejected(&server.get(path).await, path, status);
        if path.starts_with("/api/customers/") && status == 400 {
            rejected(
                &server.patch(path, json!({"name": "Ada"})).await,
                path,
                status,
            );
            rejected(&server.delete(path).await, path, status);
        }
    }
    let long = format!("/api/customers/{}", "a".repeat(8000));
    rejected(&server.get(&long).await, "a long id", 400);
}

#[tokio::test]
async fn methods_a_path_does_not_have() {
    let server = start().await;
    let one = &*format!("/api/customers/{ID}");
    for (path, allowed, methods) in [
        (
            "/api/customers",
            "GET,HEAD,POST",
            ["PUT", "PATCH", "DELETE", "TRACE", "BREW"],
        ),
        (
            one,
            "DELETE,GET,HEAD,PATCH",
            ["PUT", "POST", "TRACE", "OPTIONS", "BREW"],
        ),
    ] {
        for method in methods {
            let answer = server
                .request(method, path, &[("content-type", "application/json")], "{}")
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
