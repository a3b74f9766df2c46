//! Who may wait for a connection: whom the measured pace can serve in time, and until when.

mod support;

use std::time::{Duration, Instant};

use db::{Error, Pool, QueueLimit, with_deadline};
use futures_util::TryStreamExt;
use futures_util::future::join_all;
use sqlx::Executor;
use support::proxy::Proxy;
use support::{pool, pool_at, settled, until};
use tokio::task::JoinHandle;

const MS: Duration = Duration::from_millis(1);

/// A statement on the pool in a task of its own: how it ended, and after how long.
fn call(
    pool: &Pool,
    sql: &'static str,
    within: Option<Duration>,
) -> JoinHandle<(Option<Error>, Duration)> {
    let pool = pool.clone();
    tokio::spawn(async move {
        let started = Instant::now();
        let statement = pool.execute(sql);
        let result = match within {
            Some(within) => with_deadline(started + within, statement).await,
            None => statement.await,
        };
        (result.err().map(Error::from), started.elapsed())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_within_pool_timeout_is_granted_on_the_defaults() {
    let pool = pool("");
    let end = Instant::now() + 4 * Duration::from_secs(1);
    let callers = (0..100).map(|_| {
        let pool = pool.clone();
        tokio::spawn(async move {
            while Instant::now() < end {
                pool.execute("select pg_sleep(0.2)")
                    .await
                    .expect("an answer");
            }
        })
    });
    for caller in join_all(callers).await {
        caller.expect("nobody is refused");
    }
    assert_eq!((pool.stats().shed, pool.stats().timed_out), (0, 0));
    settled(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_callers_at_once_are_served_on_the_defaults() {
    let pool = pool("");
    for round in ["the first ones", "with a pace known"] {
        let calls: Vec<_> = (0..1000).map(|_| call(&pool, "select 1", None)).collect();
        for ended in join_all(calls).await {
            let (error, _) = ended.expect("no panic");
            assert!(error.is_none(), "{round}: {error:?}");
        }
    }
    settled(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_would_come_too_late_are_refused_at_once_and_the_others_served() {
    let pool = pool("connection_limit=2");
    const SQL: &str = "select pg_sleep(0.1)";
    for _ in 0..5 {
        join_all([call(&pool, SQL, None), call(&pool, SQL, None)]).await;
    }
    let mut patient: Vec<_> = (0..22).map(|_| call(&pool, SQL, None)).collect();
    until("twenty wait", async || pool.stats().waiting >= 18).await;
    let late: Vec<_> = (0..5).map(|_| call(&pool, SQL, Some(200 * MS))).collect();
    patient.extend((0..3).map(|_| call(&pool, SQL, Some(10_000 * MS))));
    for ended in join_all(late).await {
        let (error, after) = ended.expect("no panic");
        let error = error.expect("an error");
        assert!(
            matches!(error, Error::Overloaded { limit: QueueLimit::Deadline(left), expected_wait: Some(wait), .. } if wait > left),
            "{error:?}"
        );
        assert!(
            error.to_string().contains("the caller's deadline was"),
            "{error}"
        );
        assert!(after < 150 * MS, "{after:?}");
    }
    for ended in join_all(patient).await {
        let (error, _) = ended.expect("no panic");
        assert!(error.is_none(), "{error:?}");
    }
    assert_eq!(pool.stats().shed, 5);
    settled(&pool).await;
}

/// Whether this is the pool's diagnosis of a wait that the caller's deadline ended.
fn assert_at_deadline(error: Error, since: Instant) {
    let waited = since.elapsed();
    assert!(waited >= 150 * MS && waited < 1000 * MS, "{waited:?}");
    let text = error.to_string();
    for part in [
        "Timed out fetching a new connection from the connection pool",
        "The caller's deadline, not pool_timeout, ended the wait",
        "1 in use, 0 idle",
        "tests/admission.rs:",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(matches!(error, Error::PoolTimeout(timeout) if timeout.by_deadline));
}

#[tokio::test]
async fn a_deadline_ends_the_wait_however_a_connection_is_asked_for() {
    let pool = pool("connection_limit=1");
    let held = pool.acquire().await.expect("a lease");
    let (since, end) = (Instant::now(), Instant::now() + 150 * MS);
    let ended = with_deadline(end, async {
        tokio::join!(
            async { pool.acquire().await.map(drop).expect_err("held") },
            async { pool.begin().await.map(drop).expect_err("held") },
            async { Error::from(pool.execute("select 1").await.expect_err("held")) },
            async {
                let rows = sqlx::query_scalar::<_, i32>("select 1").fetch(&pool);
                Error::from(rows.try_collect::<Vec<_>>().await.expect_err("held"))
            },
        )
    });
    let (acquired, begun, executed, streamed) = ended.await;
    for error in [acquired, begun, executed, streamed] {
        assert_at_deadline(error, since);
    }
    assert_eq!(pool.stats().timed_out, 4);
    drop(held);
    with_deadline(end, pool.execute("select 1"))
        .await
        .expect("a free connection costs no wait");
    settled(&pool).await;
}

#[tokio::test]
async fn of_nested_deadlines_the_earliest_holds() {
    let pool = pool("connection_limit=1");
    let _held = pool.acquire().await.expect("a lease");
    for (inner, outer) in [(150, 5000), (5000, 150)] {
        let since = Instant::now();
        // Made outside of the outer one, run inside.
        let inner = with_deadline(since + inner * MS, pool.acquire());
        let ended = with_deadline(since + outer * MS, inner).await;
        assert_at_deadline(ended.map(drop).expect_err("held"), since);
    }
    let later = with_deadline(Instant::now() + 5000 * MS, async {
        let _ = with_deadline(Instant::now(), pool.acquire()).await;
        Instant::now()
    });
    let began = Instant::now();
    assert!(later.await - began < 1000 * MS, "one that is over already");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_ends_the_wait_for_a_connection_in_silence() {
    let (server, url) = (local_postgres::shared(), local_postgres::database());
    let proxy = Proxy::start(server.port(), Duration::ZERO).await;
    let pool = pool_at(&proxy.url(&url, server.port()), "connection_limit=2");
    drop(pool.acquire().await.expect("a lease"));
    // An idle connection has to answer first when it was not used for half a second.
    tokio::time::sleep(600 * MS).await;
    proxy.swallow(true);
    let since = Instant::now();
    let calls = with_deadline(since + 150 * MS, async {
        tokio::join!(pool.acquire(), pool.acquire())
    });
    let (idle, new) = calls.await;
    assert!(since.elapsed() < 1000 * MS, "{:?}", since.elapsed());
    for ended in [idle, new] {
        let error = ended.map(drop).expect_err("silence");
        assert!(
            matches!(&error, Error::PoolTimeout(timeout) if timeout.by_deadline),
            "{error:?}"
        );
    }
    proxy.swallow(false);
    until("it works again", async || {
        pool.execute("select 1").await.is_ok()
    })
    .await;
    settled(&pool).await;
}

#[tokio::test]
async fn a_refusal_names_the_limit_and_the_wait_it_expects() {
    let short = pool("connection_limit=1&queue_limit=0");
    let held = short.acquire().await.expect("a lease");
    let error = short.acquire().await.map(drop).expect_err("full");
    assert_eq!(
        error.to_string(),
        "too many callers wait for a connection (0 waiting): the expected wait is not known yet, and queue_limit is 0: \
         raise it in DATABASE_URL to let more wait"
    );
    drop(held);

    let slow = pool("connection_limit=1&pool_timeout=300ms");
    for _ in 0..10 {
        slow.execute("select pg_sleep(0.2)")
            .await
            .expect("an answer");
    }
    let calls: Vec<_> = (0..8)
        .map(|_| call(&slow, "select pg_sleep(0.2)", None))
        .collect();
    let ended = join_all(calls)
        .await
        .into_iter()
        .map(|ended| ended.expect("no panic").0);
    let refused = ended
        .flatten()
        .find(|error| matches!(error, Error::Overloaded { .. }));
    let refused = refused.expect("who is third in line cannot be served");
    let text = refused.to_string();
    assert!(
        text.contains("the expected wait is 4") && text.ends_with("and pool_timeout is 300.0ms"),
        "{text}"
    );
    assert_eq!(
        refused.retry_after(),
        Some(Duration::from_secs(1)),
        "whole seconds for HTTP"
    );
}
