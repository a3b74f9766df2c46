//! Many at once for one slot: one gets it, the others are told so, nothing breaks.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;

use crate::book::{Book, period};

/// How often each status was answered.
async fn statuses(mut answers: JoinSet<u16>) -> BTreeMap<u16, usize> {
    let mut count = BTreeMap::new();
    while let Some(status) = answers.join_next().await {
        *count.entry(status.unwrap()).or_default() += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn of_200_at_once_for_one_slot_exactly_one_gets_it() {
    let book = Arc::new(Book::open().await);
    let mut answers = JoinSet::new();
    for _ in 0..200 {
        let book = book.clone();
        answers.spawn(async move { book.try_reserve("table-1", 18, 20).await.status });
    }
    assert_eq!(
        statuses(answers).await,
        BTreeMap::from([(201, 1), (409, 199)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_200_that_overlap_only_in_part_none_breaks() {
    let book = Arc::new(Book::open().await);
    let mut answers = JoinSet::new();
    for n in 0..200_u8 {
        let book = book.clone();
        answers.spawn(async move {
            book.try_reserve("table-1", n % 20, n % 20 + 1 + n % 3)
                .await
                .status
        });
    }
    let count = statuses(answers).await;
    assert!(
        count.keys().all(|status| [201, 409].contains(status)),
        "{count:?}"
    );
    assert!((7..=20).contains(&count[&201]), "{count:?}");
    let overlaps: i64 = sqlx::query_scalar(
        "select count(*) from reservation a join reservation b
         on a.id < b.id and a.resource = b.resource and a.starts_at < b.ends_at and b.starts_at < a.ends_at",
    )
    .fetch_one(book.server.pool())
    .await
    .unwrap();
    assert_eq!(overlaps, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn movers_and_newcomers_race_for_one_slot_and_one_gets_it() {
    let book = Arc::new(Book::open().await);
    for round in 0..5 {
        let table = format!("table-{round}");
        let mut answers = JoinSet::new();
        for hour in 0..10 {
            for from in [&table, &format!("other-{round}")] {
                let mover = book.reserve(from, hour, hour + 1).await;
                let mut change = period(18, 20);
                change["resource"] = json!(table);
                let book = book.clone();
                answers.spawn(async move { book.change(&mover, change).await.status });
            }
        }
        for _ in 0..20 {
            let (book, table) = (book.clone(), table.clone());
            answers.spawn(async move { book.try_reserve(&table, 18, 20).await.status });
        }
        let count = statuses(answers).await;
        assert_eq!(count.get(&409), Some(&39), "{count:?}");
        assert_eq!(
            count.get(&200).unwrap_or(&0) + count.get(&201).unwrap_or(&0),
            1,
            "{count:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_swap_at_once_do_not_wait_for_each_other() {
    let book = Arc::new(Book::open().await);
    let first = book.reserve("table-1", 12, 14).await;
    let second = book.reserve("table-2", 12, 14).await;
    let mut answers = JoinSet::new();
    for _ in 0..50 {
        for (reservation, table) in [(&first, "table-2"), (&second, "table-1")] {
            let (book, reservation) = (book.clone(), reservation.clone());
            answers.spawn(async move {
                book.change(&reservation, json!({"resource": table}))
                    .await
                    .status
            });
        }
    }
    assert_eq!(statuses(answers).await, BTreeMap::from([(409, 100)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_and_booking_at_once_never_breaks() {
    let book = Arc::new(Book::open().await);
    let mut answers = JoinSet::new();
    for _ in 0..10 {
        let booked = book.reserve("table-1", 12, 14).await;
        for _ in 0..5 {
            let (book, booked) = (book.clone(), booked.clone());
            answers.spawn(async move {
                book.change(&booked, json!({"party_size": 3})).await;
                book.cancel(&booked).await.status
            });
        }
        let winner = loop {
            let answer = book.try_reserve("table-1", 12, 14).await;
            match answer.status {
                201 => break answer.json(),
                status => assert_eq!(status, 409, "{}", answer.body),
            }
        };
        assert_eq!(book.cancel(&winner).await.status, 200);
    }
    assert_eq!(statuses(answers).await, BTreeMap::from([(200, 50)]));
}
