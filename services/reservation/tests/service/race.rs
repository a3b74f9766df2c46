//! Many at once for one slot: one gets it, the others are told so, nothing breaks.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use server::testing::Response;
use sqlx::{Connection, PgConnection};
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
        answers.spawn(async move { at_last(|| book.try_reserve("table-1", 18, 20)).await });
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
            at_last(|| book.try_reserve("table-1", n % 20, n % 20 + 1 + n % 3)).await
        });
    }
    let count = statuses(answers).await;
    assert!(
        count.keys().all(|status| [201, 409].contains(status)),
        "{count:?}"
    );
    assert!((7..=20).contains(&count[&201]), "{count:?}");
    assert_eq!(overlaps(&book).await, 0);
}

async fn overlaps(book: &Book) -> i64 {
    sqlx::query_scalar(
        "select count(*) from reservation a join reservation b
         on a.id < b.id and a.resource = b.resource and a.starts_at < b.ends_at and b.starts_at < a.ends_at
         where a.status = 'confirmed' and b.status = 'confirmed'",
    )
    .fetch_one(book.server.pool())
    .await
    .unwrap()
}

/// Two instances on one database.
async fn two(url: &str) -> [Arc<Book>; 2] {
    let first = Book::open_at(url).await;
    let second = Book {
        customer: first.customer,
        ..Book::open_at(url).await
    };
    [Arc::new(first), Arc::new(second)]
}

/// Stops both, so that the server has counted all they did, and asserts that it never had to break a deadlock.
async fn assert_no_deadlock(url: &str, instances: [Arc<Book>; 2]) {
    for book in instances {
        Arc::into_inner(book).unwrap().server.stop().await;
    }
    let mut connection = PgConnection::connect(url).await.unwrap();
    let count = "select deadlocks from pg_stat_database where datname = current_database()";
    let deadlocks: i64 = sqlx::query_scalar(count)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(deadlocks, 0);
}

/// The answer, asked for once more while it is that others are busy: on a machine with much else to do, two seconds may be
/// too short for all who are before.
async fn at_last<F: Future<Output = Response>>(ask: impl Fn() -> F) -> u16 {
    loop {
        let answer = ask().await;
        if answer.status != 503 {
            return answer.status;
        }
        assert!(answer.body.contains("Others have been"), "{}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_times_64_race_at_two_instances_and_one_gets_it() {
    let url = local_postgres::database();
    let instances = two(&url).await;
    for round in 0..100 {
        let mut answers = JoinSet::new();
        for n in 0..64 {
            let book = instances[n % 2].clone();
            let table = format!("table-{round}");
            answers.spawn(async move { at_last(|| book.try_reserve(&table, 18, 20)).await });
        }
        let count = statuses(answers).await;
        assert_eq!(count, BTreeMap::from([(201, 1), (409, 63)]), "{round}");
    }
    assert_no_deadlock(&url, instances).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_moves_at_two_instances_never_overlap_and_never_break() {
    let url = local_postgres::database();
    let instances = two(&url).await;
    let mut reservations = Vec::new();
    for n in 0..24_u8 {
        let table = format!("table-{}", n % 4);
        reservations.push(instances[0].reserve(&table, n / 4, n / 4 + 1).await);
    }
    let mut random = Random(7);
    let mut answers = JoinSet::new();
    for _ in 0..16 {
        let mut moves = Vec::new();
        for _ in 0..40 {
            let start = random.below(10) as u8;
            let mut change = period(start, start + 1 + random.below(2) as u8);
            if random.below(2) == 0 {
                change["resource"] = json!(format!("table-{}", random.below(4)));
            }
            let book = instances[random.below(2)].clone();
            let cancels = random.below(60) == 0;
            moves.push((
                book,
                reservations[random.below(24)].clone(),
                change,
                cancels,
            ));
        }
        answers.spawn(async move {
            for (book, reservation, change, cancels) in moves {
                let status = match cancels {
                    true => at_last(|| book.cancel(&reservation)).await,
                    false => at_last(|| book.change(&reservation, change.clone())).await,
                };
                assert!([200, 409].contains(&status), "{status}");
            }
            200
        });
    }
    assert_eq!(statuses(answers).await, BTreeMap::from([(200, 16)]));
    assert_eq!(overlaps(&instances[0]).await, 0);
    assert_no_deadlock(&url, instances).await;
}

/// Numbers without any order, the same at each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % limit
    }
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
                answers.spawn(async move { at_last(|| book.change(&mover, change.clone())).await });
            }
        }
        for _ in 0..20 {
            let (book, table) = (book.clone(), table.clone());
            answers.spawn(async move { at_last(|| book.try_reserve(&table, 18, 20)).await });
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
    let url = local_postgres::database();
    let instances = two(&url).await;
    let first = instances[0].reserve("table-1", 12, 14).await;
    let second = instances[0].reserve("table-2", 12, 14).await;
    let mut answers = JoinSet::new();
    for n in 0..50 {
        for (reservation, table) in [(&first, "table-2"), (&second, "table-1")] {
            let (book, reservation) = (instances[n % 2].clone(), reservation.clone());
            answers.spawn(async move {
                at_last(|| book.change(&reservation, json!({"resource": table}))).await
            });
        }
    }
    assert_eq!(statuses(answers).await, BTreeMap::from([(409, 100)]));
    assert_no_deadlock(&url, instances).await;
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
