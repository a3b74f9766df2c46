//! Queries that the list does not understand.

use server::testing::rejected;

use crate::book::Book;
use crate::rejection::NO_MOMENTS;

#[tokio::test]
async fn queries_a_list_does_not_understand() {
    let book = Book::open().await;
    let mut queries: Vec<(String, &str)> = Vec::new();
    for limit in [
        "0",
        "-1",
        "101",
        "",
        "ten",
        "1.5",
        "99999999999999999999",
        "%00",
        "null",
    ] {
        queries.push((format!("limit={limit}"), "limit"));
    }
    for cursor in [
        "",
        "1",
        "%00",
        "null",
        "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
        "01900000-0000-7000-8000-000000000001",
    ] {
        queries.push((format!("cursor={cursor}"), "cursor"));
    }
    for id in [
        "",
        "1",
        "null",
        "%00",
        "01900000-0000-7000-8000-00000000000g",
        "01900000-0000-7000-8000-000000000001%00",
    ] {
        queries.push((format!("customer_id={id}"), "customer_id"));
    }
    for moment in NO_MOMENTS {
        queries.push((format!("from={moment}"), "from"));
        queries.push((format!("to={moment}"), "to"));
    }
    for (query, field) in [
        ("from=2030-05-17T12:00:00Z&to=2030-05-17T12:00:00Z", "to"),
        ("from=2030-05-17T12:00:00Z&to=2030-05-17T11:00:00Z", "to"),
        (
            "from=2030-05-17T12:00:00Z&to=2030-05-17T13:00:00%2B02:00",
            "to",
        ),
        ("status=confirmed", "status"),
        ("resource=a&resource=b", "resource"),
        ("customerId=1", "customerId"),
    ] {
        queries.push((query.to_owned(), field));
    }
    for (query, field) in queries {
        let answer = book.server.get(&format!("/api/reservations?{query}")).await;
        rejected(&answer, &query, 422);
        assert_eq!(
            answer.json()["errors"][0]["field"],
            field,
            "{query}: {}",
            answer.body
        );
    }
    for query in ["resource=%00", "resource=table%001"] {
        rejected(
            &book.server.get(&format!("/api/reservations?{query}")).await,
            query,
            422,
        );
    }
    for query in ["resource=%ff", "resource=%C3%28", "from=%"] {
        rejected(
            &book.server.get(&format!("/api/reservations?{query}")).await,
            query,
            400,
        );
    }
}
