//! The list of reservations: newest first, page by page, filtered by customer and resource; a window of time filters too.

use serde_json::{Value, json};
use server::testing::Response;
use uuid::Uuid;

use crate::book::Book;

/// Resource and first hour of each reservation of the page, such as `table-1 12`.
pub(crate) fn shown(answer: &Response) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let page = answer.json();
    let row = |row: &Value| {
        format!(
            "{} {}",
            row["resource"].as_str().unwrap(),
            &row["starts_at"].as_str().unwrap()[11..13]
        )
    };
    page["data"].as_array().unwrap().iter().map(row).collect()
}

pub(crate) fn next(answer: &Response) -> Option<String> {
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
async fn the_list_is_newest_first_and_has_next_pages() {
    let book = Book::open().await;
    assert_eq!(
        book.server.get("/api/reservations").await.json(),
        json!({"data": [], "next_cursor": null})
    );
    for hour in [10, 14, 12, 16, 18] {
        book.reserve("table-1", hour, hour + 2).await;
    }
    let first = book.server.get("/api/reservations?limit=2").await;
    assert_eq!(shown(&first), ["table-1 18", "table-1 16"]);
    let second = book.server.get(&next(&first).unwrap()).await;
    assert_eq!(shown(&second), ["table-1 12", "table-1 14"]);
    book.reserve("table-1", 20, 22).await;
    let third = book.server.get(&next(&second).unwrap()).await;
    assert_eq!(shown(&third), ["table-1 10"]);
    assert_eq!(
        (next(&third), &third.json()["next_cursor"]),
        (None, &Value::Null)
    );
}

#[tokio::test]
async fn customer_and_resource_filter_alone_and_together() {
    let mut book = Book::open().await;
    book.reserve("table-1", 10, 12).await;
    book.reserve("table-2", 10, 12).await;
    let first = book.customer;
    book.customer = book.customer().await;
    book.reserve("table-1", 14, 16).await;
    let second = book.customer;
    for (query, expected) in [
        (
            format!("customer_id={first}"),
            vec!["table-2 10", "table-1 10"],
        ),
        (format!("customer_id={second}"), vec!["table-1 14"]),
        (format!("customer_id={}", Uuid::now_v7()), vec![]),
        (
            "resource=table-1".to_owned(),
            vec!["table-1 14", "table-1 10"],
        ),
        ("resource=TABLE-1".to_owned(), vec![]),
        ("resource=".to_owned(), vec![]),
        (
            format!("resource=table-1&customer_id={first}"),
            vec!["table-1 10"],
        ),
    ] {
        assert_eq!(
            shown(&book.server.get(&format!("/api/reservations?{query}")).await),
            expected,
            "{query}"
        );
    }
}

#[tokio::test]
async fn from_and_to_keep_what_takes_some_of_the_time_between_them() {
    let book = Book::open().await;
    for hour in [10, 12, 14] {
        book.reserve("table-1", hour, hour + 2).await;
    }
    for (query, expected) in [
        (
            "from=2030-05-17T12:00:00Z&to=2030-05-17T14:00:00Z",
            vec!["table-1 12"],
        ),
        (
            "from=2030-05-17T11:59:59Z&to=2030-05-17T14:00:01Z",
            vec!["table-1 10", "table-1 12", "table-1 14"],
        ),
        (
            "from=2030-05-17T13:00:00Z&to=2030-05-17T13:00:00.000001Z",
            vec!["table-1 12"],
        ),
        ("from=2030-05-17T14:00:00Z", vec!["table-1 14"]),
        ("to=2030-05-17T12:00:00Z", vec!["table-1 10"]),
        ("from=2030-05-17T16:00:00%2B02:00", vec!["table-1 14"]),
        ("from=2030-05-17T16:00:00Z", vec![]),
        ("to=2030-05-17T10:00:00Z", vec![]),
        (
            "from=0000-01-01T00:00:00Z&to=9999-12-31T23:59:59Z",
            vec!["table-1 10", "table-1 12", "table-1 14"],
        ),
        ("resource=table-2&from=2030-05-17T12:00:00Z", vec![]),
    ] {
        assert_eq!(
            shown(&book.server.get(&format!("/api/reservations?{query}")).await),
            expected,
            "{query}"
        );
    }
}

#[tokio::test]
async fn the_next_link_keeps_the_filters_encoded() {
    let book = Book::open().await;
    let resource = "Tisch 7 & \"Erker\" <ä>";
    for hour in [10, 12, 14] {
        book.reserve(resource, hour, hour + 2).await;
        book.reserve("table-1", hour, hour + 2).await;
    }
    let encoded = "Tisch%207%20%26%20%22Erker%22%20%3C%C3%A4%3E";
    let mut path = Some(format!(
        "/api/reservations?limit=1&resource={encoded}&from=2030-05-17T12:00:00%2B02:00"
    ));
    let mut seen = Vec::new();
    while let Some(page) = path {
        let answer = book.server.get(&page).await;
        seen.extend(shown(&answer));
        path = next(&answer);
        assert!(
            path.iter()
                .all(|path| path.is_ascii() && !path.contains([' ', '<', '>', '"'])),
            "{path:?}"
        );
    }
    assert_eq!(seen, [10, 12, 14].map(|hour| format!("{resource} {hour}")));
}
