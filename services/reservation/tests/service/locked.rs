//! Something stays locked by another session: whoever wants it waits or is told so, and nobody else notices.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use server::testing::{Response, rejected};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::task::JoinSet;

use crate::book::{Book, path};

/// What takes this long waits for a lock; what does not wait takes a few milliseconds, and less than this on a machine
/// that has much else to do.
const SLOW: Duration = Duration::from_secs(1);

/// A service all of whose connections are open: opening one takes long on such a machine.
async fn open(url: &str) -> Arc<Book> {
    let book = Book::open_at(url).await;
    let pool = book.server.pool();
    let mut leases = Vec::new();
    for _ in 0..pool.stats().limit {
        leases.push(pool.acquire().await.unwrap());
    }
    drop(leases);
    Arc::new(book)
}

/// A session of somebody else, with an open transaction in which these statements have run and no other comes.
async fn session(url: &str, statements: &[&str]) -> PgConnection {
    let mut session = PgConnection::connect(url).await.unwrap();
    for sql in ["begin"].iter().chain(statements) {
        let sql = AssertSqlSafe((*sql).to_owned());
        sqlx::raw_sql(sql).execute(&mut session).await.unwrap();
    }
    session
}

fn lock(resource: &str) -> String {
    format!("select pg_advisory_xact_lock(hashtextextended('{resource}', 0))")
}

/// How long reads of this address took while the others were answered, and their answers.
async fn read_while(
    book: &Book,
    path: &str,
    mut others: JoinSet<Response>,
) -> (Vec<Duration>, Vec<Response>) {
    let (mut times, mut answers) = (Vec::new(), Vec::new());
    while !others.is_empty() {
        let started = Instant::now();
        assert_eq!(book.server.get(path).await.status, 200);
        times.push(started.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
        while let Some(answer) = others.try_join_next() {
            answers.push(answer.unwrap());
        }
    }
    times.sort();
    (times, answers)
}

/// Prints the middle and the slow end of the times, and asserts that they are no waits.
fn assert_fast(what: &str, times: &[Duration]) {
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!(
        "{what}: {} reads, p50 {p50:.1?}, p99 {p99:.1?}",
        times.len()
    );
    assert!(p99 < SLOW, "{what}: {p99:?}");
}

fn assert_busy(answer: &Response, what: &str) {
    rejected(answer, what, 503);
    let after: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(after >= 1, "{what}: {answer:?}");
    let detail = answer.json()["detail"].to_string();
    assert!(detail.contains(what), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_200_bookers_on_one_locked_resource_reads_stay_fast() {
    for bookers in [10, 40, 200] {
        let url = local_postgres::database();
        let book = open(&url).await;
        let existing = path(&book.reserve("table-2", 1, 2).await);
        let _locked = session(&url, &[&lock("table-1")]).await;
        let mut others = JoinSet::new();
        for n in 0..bookers {
            let book = book.clone();
            others.spawn(async move { book.try_reserve("table-1", n % 20, n % 20 + 1).await });
        }
        let ((times, answers), ()) = tokio::join!(read_while(&book, &existing, others), async {
            for hour in 3..23 {
                let started = Instant::now();
                book.reserve("table-2", hour, hour + 1).await;
                assert!(started.elapsed() < SLOW, "{:?}", started.elapsed());
            }
        });
        assert_fast(&format!("{bookers} bookers"), &times);
        for answer in answers {
            assert_busy(&answer, "table-1");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_200_who_change_one_locked_reservation_reads_stay_fast() {
    let url = local_postgres::database();
    let book = open(&url).await;
    let row = book.reserve("table-1", 1, 2).await;
    let id = row["id"].as_str().unwrap().to_owned();
    let lock_row = format!("select from reservation where id = '{id}' for update");
    let _locked = session(&url, &[&lock_row]).await;
    let mut others = JoinSet::new();
    for n in 0..200_u8 {
        let (book, row) = (book.clone(), row.clone());
        others.spawn(async move {
            match n % 3 {
                0 => book.cancel(&row).await,
                1 => book.change(&row, json!({"party_size": 3})).await,
                _ => book.change(&row, json!({"resource": "table-3"})).await,
            }
        });
    }
    let there = path(&row);
    let ((times, answers), ()) = tokio::join!(read_while(&book, &there, others), async {
        // The resource itself is not locked, and neither is the one to which some want to move.
        for hour in 3..23 {
            let started = Instant::now();
            book.reserve(
                ["table-1", "table-3"][usize::from(hour % 2)],
                hour,
                hour + 1,
            )
            .await;
            assert!(started.elapsed() < SLOW, "{:?}", started.elapsed());
        }
    });
    assert_fast("200 who change one locked reservation", &times);
    for answer in answers {
        assert_busy(&answer, &id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_goes_on_when_the_lock_is_released() {
    let url = local_postgres::database();
    let book = open(&url).await;
    let rows = [
        book.reserve("table-1", 20, 21).await,
        book.reserve("table-1", 21, 22).await,
    ];
    let both = format!(
        "select from reservation where id in ('{}', '{}') for update",
        rows[0]["id"].as_str().unwrap(),
        rows[1]["id"].as_str().unwrap()
    );
    let locked = session(&url, &[&lock("table-1"), &both]).await;
    let mut others = JoinSet::new();
    for hour in 0..20 {
        let book = book.clone();
        others.spawn(async move { book.try_reserve("table-1", hour, hour + 1).await });
    }
    let [changed, cancelled] = rows;
    let (first, second) = (book.clone(), book.clone());
    others.spawn(async move { first.change(&changed, json!({"party_size": 7})).await });
    others.spawn(async move { second.cancel(&cancelled).await });
    let release = async {
        // Long enough for all to be in their lines; whoever is not finds nothing locked.
        tokio::time::sleep(Duration::from_millis(300)).await;
        locked.close().await.unwrap();
    };
    let reads = read_while(&book, "/api/reservations", others);
    let ((_, answers), ()) = tokio::join!(reads, release);
    for answer in answers {
        assert!([200, 201].contains(&answer.status), "{}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_moves_to_a_locked_resource_does_not_stall_the_one_it_leaves() {
    let url = local_postgres::database();
    let book = open(&url).await;
    for (locked, from, to) in [
        ("table-1", "table-2", "table-1"),
        ("table-3", "table-3", "table-4"),
    ] {
        let free = if from == locked { to } else { from };
        let mut movers: Vec<Value> = Vec::new();
        for hour in 0..10 {
            movers.push(book.reserve(from, hour, hour + 1).await);
        }
        let _locked = session(&url, &[&lock(locked)]).await;
        let mut others = JoinSet::new();
        for mover in movers {
            let book = book.clone();
            others.spawn(async move { book.change(&mover, json!({"resource": to})).await });
        }
        let ((times, answers), ()) =
            tokio::join!(read_while(&book, "/api/reservations", others), async {
                for hour in 10..23 {
                    let started = Instant::now();
                    book.reserve(free, hour, hour + 1).await;
                    assert!(started.elapsed() < SLOW, "{:?}", started.elapsed());
                }
            });
        assert_fast(&format!("10 who move from {from} to {to}"), &times);
        for answer in answers {
            assert_busy(&answer, locked);
        }
    }
}

/// As an instance leaves it whose host has lost its network: nothing ends its session before its timeouts do.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_died_in_the_middle_of_a_change_stalls_nothing_else() {
    let url = local_postgres::database();
    let book = open(&url).await;
    let row = book.reserve("table-1", 1, 2).await;
    let id = row["id"].as_str().unwrap();
    let _dead = session(
        &url,
        &[
            &format!("select from reservation where id = '{id}' for no key update"),
            &lock("table-1"),
            &lock("table-2"),
            &format!("update reservation set resource = 'table-2' where id = '{id}'"),
        ],
    )
    .await;
    let mut others = JoinSet::new();
    for n in 0..60_u8 {
        let (book, row) = (book.clone(), row.clone());
        others.spawn(async move {
            match n % 4 {
                0 => book.try_reserve("table-1", 1, 2).await,
                1 => book.try_reserve("table-2", 1, 2).await,
                2 => book.change(&row, json!({"party_size": 3})).await,
                _ => book.cancel(&row).await,
            }
        });
    }
    let ((times, answers), ()) =
        tokio::join!(read_while(&book, "/api/reservations", others), async {
            for hour in 1..21 {
                let started = Instant::now();
                let booked = book.reserve("table-3", hour, hour + 1).await;
                let moved = book.change(&booked, json!({"resource": "table-4"})).await;
                assert_eq!(moved.status, 200, "{}", moved.body);
                assert_eq!(book.cancel(&booked).await.status, 200);
                assert!(started.elapsed() < SLOW, "{:?}", started.elapsed());
            }
        });
    assert_fast("an instance died", &times);
    assert!(answers.iter().all(|answer| answer.status == 503));
    assert_eq!(book.server.get(&path(&row)).await.json(), row);
}
