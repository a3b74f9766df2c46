//! Limits of one kind of work: longer or shorter than the pool's, named when they end something, gone afterwards.

mod support;

use std::time::{Duration, Instant};

use db::{Error, Limits, Pool};
use futures_util::TryStreamExt;
use sqlx::Executor;
use support::{pool, settled};
use tokio::time::sleep;

const LONG: Duration = Duration::from_secs(20);

fn milliseconds(n: u64) -> Option<Duration> {
    Some(Duration::from_millis(n))
}

/// The pool's settings as the next caller has them, and whose session that is.
async fn session(pool: &Pool) -> (String, i32) {
    sqlx::query_as(
        "select current_setting('statement_timeout') || ' ' || current_setting('lock_timeout'), pg_backend_pid()",
    )
    .fetch_one(pool)
    .await
    .expect("a session")
}

#[tokio::test]
async fn a_long_statement_runs_where_it_may_and_nowhere_else() {
    let pool =
        pool("connection_limit=1&statement_timeout=150&socket_timeout=300ms&lock_timeout=100");
    let before = session(&pool).await;
    let slow = "select pg_sleep(0.5)";
    pool.execute(slow).await.expect_err("the pool's own limit");
    let patient = pool.with(Limits {
        statement: Some(LONG),
        ..Limits::default()
    });
    patient.execute(slow).await.expect("a statement");
    assert_eq!(session(&pool).await, before);
    let mut lease = patient.acquire().await.expect("a lease");
    lease.execute(slow).await.expect("on a lease");
    drop(lease);
    assert_eq!(session(&pool).await, before);
    let mut transaction = patient.begin().await.expect("begun");
    transaction.execute(slow).await.expect("in a transaction");
    transaction.commit().await.expect("committed");
    assert_eq!(session(&pool).await, before);
    pool.execute(slow).await.expect_err("the pool's own limit");
    // Shorter, too, and the server says which limit it was.
    let hasty = pool.with(Limits {
        statement: milliseconds(20),
        ..Limits::default()
    });
    let error = hasty
        .execute("select pg_sleep(0.1)")
        .await
        .expect_err("too long");
    assert!(error.to_string().contains("statement timeout"), "{error}");
    assert_eq!(session(&pool).await, before);
    settled(&pool).await;
}

#[tokio::test]
async fn a_million_rows_come_in_their_own_time() {
    let pool = pool("connection_limit=1&statement_timeout=200&socket_timeout=1s");
    let read = async |pool: &Pool| {
        let query = sqlx::query_scalar::<_, i32>("select generate_series(1, 1000000)");
        let mut rows = query.fetch(pool);
        let (mut sum, mut count) = (0_i64, 0);
        while let Some(n) = rows.try_next().await? {
            sum += i64::from(n);
            count += 1;
            if count % 100_000 == 0 {
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok::<_, Error>(sum)
    };
    read(&pool).await.expect_err("the pool's own limit");
    let unlimited = pool.with(Limits {
        statement: Some(Duration::MAX),
        ..Limits::default()
    });
    assert_eq!(read(&unlimited).await.expect("all rows"), 500_000_500_000);
    settled(&pool).await;
}

#[tokio::test]
async fn who_must_not_wait_waits_less_and_who_may_waits_more() {
    let waiting = |pool: &Pool, wait| {
        pool.with(Limits {
            wait,
            ..Limits::default()
        })
    };
    let ours = pool("connection_limit=1&pool_timeout=20");
    let held = ours.acquire().await.expect("a lease");
    let since = Instant::now();
    let hasty = waiting(&ours, milliseconds(20));
    let error = hasty.acquire().await.expect_err("in use");
    let Error::PoolTimeout(timeout) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(timeout.pool_timeout, milliseconds(20));
    assert!(since.elapsed() < Duration::from_secs(10), "{timeout}");
    drop(held);
    settled(&ours).await;

    let ours = pool("connection_limit=1&pool_timeout=100ms");
    let held = ours.acquire().await.expect("a lease");
    let patient = waiting(&ours, Some(Duration::MAX));
    let waiter = tokio::spawn(async move { patient.execute("select 1").await });
    sleep(Duration::from_millis(300)).await;
    drop(held);
    waiter.await.expect("no panic").expect("served");
    settled(&ours).await;
}

#[tokio::test]
async fn a_transaction_over_its_time_is_rolled_back_and_says_so() {
    let pool = pool("connection_limit=1");
    pool.execute("create table t (n int)").await.expect("made");
    let limits = Limits {
        transaction: milliseconds(600),
        ..Limits::default()
    };
    for late in ["a statement", "the next statement", "the commit"] {
        let mut transaction = pool.with(limits).begin().await.expect("begun");
        transaction
            .execute("insert into t values (1)")
            .await
            .expect("in time");
        let error = match late {
            "a statement" => transaction
                .execute("select pg_sleep(3)")
                .await
                .expect_err(late)
                .into(),
            "the next statement" => {
                sleep(Duration::from_millis(650)).await;
                transaction
                    .execute("select 1")
                    .await
                    .expect_err(late)
                    .into()
            }
            _ => {
                sleep(Duration::from_millis(650)).await;
                transaction.commit().await.expect_err(late)
            }
        };
        assert!(
            matches!(error, Error::TransactionTimeout(_)),
            "{late}: {error:?}"
        );
    }
    settled(&pool).await;
    let rows: i64 = sqlx::query_scalar("select count(*) from t")
        .fetch_one(&pool)
        .await
        .expect("a count");
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn a_transaction_that_the_server_ended_for_its_pause_says_so() {
    let pool = pool("connection_limit=1&idle_in_transaction_session_timeout=500");
    for commits in [false, true] {
        let mut transaction = pool.begin().await.expect("begun");
        transaction.execute("select 1").await.expect("in time");
        sleep(Duration::from_millis(900)).await;
        let error = match commits {
            true => transaction.commit().await.expect_err("ended"),
            false => transaction
                .execute("select 1")
                .await
                .expect_err("ended")
                .into(),
        };
        assert!(matches!(error, Error::TransactionPaused(_)), "{error:?}");
        assert!(
            error
                .to_string()
                .contains("idle_in_transaction_session_timeout"),
            "{error}"
        );
    }
    let patient = pool.with(Limits {
        pause: Some(LONG),
        ..Limits::default()
    });
    let mut transaction = patient.begin().await.expect("begun");
    sleep(Duration::from_millis(900)).await;
    transaction.execute("select 1").await.expect("it may pause");
    transaction.commit().await.expect("committed");
    settled(&pool).await;
}

#[tokio::test]
async fn behind_pgbouncer_a_transaction_has_limits_and_a_statement_says_why_not() {
    let url = support::middleman::pooler().await;
    let pool = support::pool_at(&url, "connection_limit=1&pgbouncer=true");
    let patient = pool.with(Limits {
        statement: Some(LONG),
        ..Limits::default()
    });
    let error = patient.execute("select 1").await.expect_err("refused");
    assert!(error.to_string().contains("only a transaction"), "{error}");
    let mut transaction = patient.begin().await.expect("begun");
    let here: String = sqlx::query_scalar("show statement_timeout")
        .fetch_one(&mut *transaction)
        .await
        .expect("a value");
    assert_eq!(here, "20s");
    transaction.commit().await.expect("committed");
    settled(&pool).await;
}
