//! The list of customers: newest first, page by page, each page at the same cost.

use serde_json::{Value, json};
use server::testing::{Response, Server};

/// A service with so many customers, `1@example.com` the oldest; the second is the URL of its database.
pub(crate) async fn with_customers(count: i32) -> (Server, String) {
    let url = local_postgres::database();
    let server = Server::start(customer::SERVICE, &url).await;
    sqlx::query(
        "insert into customer (id, name, email)
         select
            ('01900000-' || lpad(to_hex(n >> 16), 4, '0') || '-7' || lpad(to_hex(n >> 4 & 4095), 3, '0') || '-8000-00000000000' || to_hex(n & 15))::uuid,
            'Customer ' || n,
            n || '@example.com'
         from generate_series(1, $1) as n",
    )
    .bind(count)
    .execute(server.pool())
    .await
    .unwrap();
    sqlx::query("analyze customer")
        .execute(server.pool())
        .await
        .unwrap();
    (server, url)
}

pub(crate) fn emails(answer: &Response) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let page = answer.json();
    page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["email"].as_str().unwrap().to_owned())
        .collect()
}

/// The URL in `Link: <…>; rel="next"`.
fn next(answer: &Response) -> Option<String> {
    let link = answer.header("link")?;
    Some(
        link.strip_prefix('<')
            .unwrap()
            .strip_suffix(">; rel=\"next\"")
            .unwrap()
            .to_owned(),
    )
}

#[tokio::test]
async fn an_empty_list_has_no_next_page() {
    let (server, _) = with_customers(0).await;
    let answer = server.get("/api/customers").await;
    assert_eq!(answer.json(), json!({"data": [], "next_cursor": null}));
    assert_eq!(answer.header("link"), None);
}

#[tokio::test]
async fn a_page_has_twenty_rows_unless_told_newest_first() {
    let (server, _) = with_customers(101).await;
    let newest = |count: i32| -> Vec<String> {
        (0..count)
            .map(|n| format!("{}@example.com", 101 - n))
            .collect()
    };
    assert_eq!(emails(&server.get("/api/customers").await), newest(20));
    assert_eq!(
        emails(&server.get("/api/customers?limit=1").await),
        newest(1)
    );
    assert_eq!(
        emails(&server.get("/api/customers?limit=100").await),
        newest(100)
    );
    let one = server
        .post(
            "/api/customers",
            json!({"name": "Ada", "email": "ada@example.com"}),
        )
        .await;
    assert_eq!(one.status, 201);
    assert_eq!(
        emails(&server.get("/api/customers?limit=1").await),
        ["ada@example.com"]
    );
}

#[tokio::test]
async fn next_cursor_is_there_exactly_when_rows_follow() {
    let (server, _) = with_customers(40).await;
    let first = server.get("/api/customers").await;
    let cursor = first.json()["next_cursor"].as_str().unwrap().to_owned();
    assert_eq!(
        next(&first),
        Some(format!("/api/customers?cursor={cursor}"))
    );
    let second = server.get(&format!("/api/customers?cursor={cursor}")).await;
    assert_eq!(emails(&second).len(), 20);
    assert_eq!(
        second.json()["next_cursor"],
        Value::Null,
        "a full last page is the last page"
    );
    assert_eq!(second.header("link"), None);
}

#[tokio::test]
async fn walking_the_links_meets_every_row_once_while_rows_are_added() {
    let (server, _) = with_customers(100).await;
    let (mut seen, mut path) = (Vec::new(), Some("/api/customers?limit=7".to_owned()));
    while let Some(page) = path {
        let answer = server.get(&page).await;
        seen.extend(emails(&answer));
        path = next(&answer);
        let new = json!({"name": "New", "email": format!("new-{}@example.com", seen.len())});
        assert_eq!(server.post("/api/customers", new).await.status, 201);
    }
    let all: Vec<_> = (1..=100)
        .rev()
        .map(|n| format!("{n}@example.com"))
        .collect();
    assert_eq!(seen, all);
}

#[tokio::test]
async fn the_next_link_keeps_the_other_parameters_and_encodes_them() {
    let (server, _) = with_customers(5).await;
    let answer = server.get("/api/customers?limit=%32").await;
    let cursor = answer.json()["next_cursor"].as_str().unwrap().to_owned();
    assert_eq!(
        next(&answer),
        Some(format!("/api/customers?limit=2&cursor={cursor}"))
    );
    let second = server.get(&next(&answer).unwrap()).await;
    assert_eq!(emails(&second), ["3@example.com", "2@example.com"]);
    assert_eq!(next(&second).unwrap().matches("cursor=").count(), 1);
}

#[tokio::test]
async fn email_finds_the_customer_whatever_its_case() {
    let (server, _) = with_customers(30).await;
    let one = json!({"name": "Ada", "email": "Ada+b@Example.com"});
    assert_eq!(server.post("/api/customers", one).await.status, 201);
    let found = server
        .get("/api/customers?email=aDA%2Bb%40eXample.com")
        .await;
    assert_eq!(emails(&found), ["Ada+b@Example.com"]);
    assert_eq!(found.json()["next_cursor"], Value::Null);
    assert!(
        emails(
            &server
                .get("/api/customers?email=nobody%40example.com")
                .await
        )
        .is_empty()
    );
    assert!(emails(&server.get("/api/customers?email=").await).is_empty());
    assert!(
        emails(&server.get("/api/customers?email=%25").await).is_empty(),
        "it is no pattern"
    );
}
