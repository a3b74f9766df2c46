//! Never two reservations of one resource at one time.

use serde_json::json;

use crate::book::{Book, path, period};

#[tokio::test]
async fn one_resource_is_never_reserved_twice_at_one_time() {
    let book = Book::open().await;
    book.reserve("table-1", 12, 16).await;
    for (start, end) in [
        (12, 16),
        (11, 13),
        (15, 17),
        (13, 14),
        (11, 17),
        (12, 13),
        (15, 16),
    ] {
        let answer = book.try_reserve("table-1", start, end).await;
        assert_eq!(answer.status, 409, "{start} to {end}: {}", answer.body);
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("table-1"), "{detail}");
        assert!(
            detail.contains(&format!(
                "2030-05-17T{start}:00:00Z to 2030-05-17T{end}:00:00Z"
            )),
            "{detail}"
        );
    }
    book.reserve("table-2", 12, 16).await;
    book.reserve("TABLE-1", 12, 16).await;
}

#[tokio::test]
async fn one_may_start_when_the_other_ends() {
    let book = Book::open().await;
    book.reserve("table-1", 12, 14).await;
    book.reserve("table-1", 14, 16).await;
    book.reserve("table-1", 10, 12).await;
    assert_eq!(book.try_reserve("table-1", 13, 15).await.status, 409);
}

#[tokio::test]
async fn cancelling_frees_the_slot() {
    let book = Book::open().await;
    let first = book.reserve("table-1", 12, 14).await;
    assert_eq!(book.try_reserve("table-1", 12, 14).await.status, 409);
    let cancelled = book.cancel(&first).await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.body);
    assert_eq!(cancelled.json()["status"], "cancelled");
    book.reserve("table-1", 12, 14).await;
    assert_eq!(
        book.server.get(&path(&first)).await.json(),
        cancelled.json(),
        "it is still there to be read"
    );
}

#[tokio::test]
async fn a_move_onto_another_reservation_is_a_409_and_changes_nothing() {
    let book = Book::open().await;
    book.reserve("table-1", 12, 14).await;
    let late = book.reserve("table-1", 14, 16).await;
    let other = book.reserve("table-2", 12, 14).await;
    for (reservation, change) in [
        (&late, json!({"starts_at": "2030-05-17T13:59:59.999999Z"})),
        (&late, period(12, 14)),
        (&other, json!({"resource": "table-1"})),
        (
            &other,
            json!({"resource": "table-1", "starts_at": "2030-05-17T15:00:00Z", "ends_at": "2030-05-17T17:00:00Z"}),
        ),
    ] {
        let answer = book.change(reservation, change.clone()).await;
        assert_eq!(answer.status, 409, "{change}: {}", answer.body);
        assert!(
            answer.json()["detail"]
                .as_str()
                .unwrap()
                .contains("table-1"),
            "{}",
            answer.body
        );
        assert_eq!(
            book.server.get(&path(reservation)).await.json(),
            *reservation
        );
    }
}
