//! A part of the limit as a pool of sqlx's own: what wants that type works, and the server never has more sessions.

mod support;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use db::{Error, Pool};
use futures_util::future::join_all;
use sqlx::postgres::PgListener;
use sqlx::{Executor, PgPool};
use support::{plain, pool_at, proven, settled, until};
use tokio::time::timeout;

/// The sessions of this database but for the one that asks.
const SESSIONS: &str = "select count(*) - 1 from pg_stat_activity where datname = current_database() and backend_type = 'client backend'";

/// The most sessions of this database that `watcher` sees while `work` runs, itself not counted.
async fn most_sessions(watcher: &PgPool, work: impl Future<Output = ()>) -> i64 {
    let (over, mut most) = (AtomicBool::new(false), 0);
    let watch = async {
        while !over.load(Relaxed) {
            let now: i64 = sqlx::query_scalar(SESSIONS)
                .fetch_one(watcher)
                .await
                .expect("a count");
            most = most.max(now);
        }
    };
    let work = async {
        work.await;
        over.store(true, Relaxed);
    };
    tokio::join!(watch, work);
    most
}

#[tokio::test]
async fn two_doors_have_one_budget() {
    let url = local_postgres::database();
    let watcher = plain(&url, 1).await;
    let pool = pool_at(&url, "connection_limit=6");
    proven(&pool).await;
    until("the sessions that proved it have gone", async || {
        let sessions: i64 = sqlx::query_scalar(SESSIONS)
            .fetch_one(&watcher)
            .await
            .expect("a number");
        sessions == i64::from(pool.stats().open)
    })
    .await;
    let ours = |pool: &Pool| {
        let pool = pool.clone();
        async move {
            for _ in 0..30 {
                pool.execute("select pg_sleep(0.002)")
                    .await
                    .expect("served");
            }
        }
    };
    let work = async {
        // All six are open and idle before a part of them is wanted.
        join_all((0..12).map(|_| ours(&pool))).await;
        let theirs = pool.sqlx_pool(2).await.expect("a pool");
        assert_eq!(
            (pool.stats().limit, theirs.options().get_max_connections()),
            (4, 2)
        );
        let through_theirs = async {
            for _ in 0..60 {
                theirs
                    .execute("select pg_sleep(0.002)")
                    .await
                    .expect("served");
            }
        };
        tokio::join!(
            join_all((0..12).map(|_| ours(&pool))),
            through_theirs,
            async { theirs.execute("select 1").await.map(drop).expect("served") }
        );
        assert_eq!(
            pool.stats().nested,
            0,
            "taking a part is no task that holds and asks"
        );
        theirs.close().await;
        until("the limit is whole again", async || pool.stats().limit == 6).await;
        join_all((0..12).map(|_| ours(&pool))).await;
    };
    assert_eq!(most_sessions(&watcher, work).await, 6);
    settled(&pool).await;
}

#[tokio::test]
async fn what_asks_for_sqlxs_pool_works_with_the_same_settings() {
    let pool = pool_at(
        &local_postgres::database(),
        "connection_limit=4&statement_timeout=1234&application_name=shop",
    );
    let theirs = pool.sqlx_pool(2).await.expect("a pool");
    for (setting, value) in [
        ("statement_timeout", "1234ms"),
        ("application_name", "shop"),
    ] {
        let sql = sqlx::AssertSqlSafe(format!("show {setting}"));
        let here: String = sqlx::query_scalar(sql)
            .fetch_one(&theirs)
            .await
            .expect("a value");
        assert!(here.starts_with(value), "{setting} is {here}");
    }
    let mut listener = PgListener::connect_with(&theirs).await.expect("connected");
    listener.listen("orders").await.expect("listens");
    pool.execute("notify orders, '1'").await.expect("notified");
    let heard = timeout(Duration::from_secs(5), listener.recv()).await;
    assert_eq!(heard.expect("soon").expect("heard").payload(), "1");
    drop(listener);
    assert!(!pool.is_closed());
    let closed = pool.close(Duration::from_secs(5)).await;
    assert_eq!(closed.cut, 0);
    assert!(
        pool.is_closed() && theirs.is_closed(),
        "closed by the one call"
    );
}

#[tokio::test]
async fn a_part_has_to_be_a_part() {
    let pool = pool_at(
        &local_postgres::database(),
        "connection_limit=3&pool_timeout=50ms",
    );
    for (connections, expected) in [(0, "1 to 2 of the 3"), (3, "1 to 2 of the 3")] {
        let error = pool.sqlx_pool(connections).await.expect_err("refused");
        assert!(error.to_string().contains(expected), "{error}");
    }
    // While the connections are not free, nothing is taken.
    let held = [pool.acquire().await, pool.acquire().await];
    let error = pool.sqlx_pool(2).await.expect_err("in use");
    assert!(matches!(error, Error::PoolTimeout(_)), "{error:?}");
    assert_eq!(pool.stats().limit, 3);
    drop(held);
    let first = pool.sqlx_pool(1).await.expect("one");
    let second = pool.sqlx_pool(1).await.expect("another");
    assert_eq!(pool.stats().limit, 1);
    pool.resize(5);
    assert_eq!(pool.stats().limit, 3, "what was given away stays so");
    first.close().await;
    second.close().await;
    until("all is back", async || pool.stats().limit == 5).await;
    settled(&pool).await;
}

#[tokio::test]
async fn closing_waits_for_who_uses_sqlxs_pool_and_says_whom_it_cut() {
    let pool = pool_at(&local_postgres::database(), "connection_limit=3");
    let theirs = pool.sqlx_pool(2).await.expect("a pool");
    let busy = theirs.acquire().await.expect("a connection");
    let closed = pool.close(Duration::from_millis(200)).await;
    assert_eq!(closed.cut, 1, "{closed:?}");
    drop(busy);
}

#[tokio::test]
async fn try_acquire_takes_what_is_idle_and_never_waits() {
    let pool = pool_at(&local_postgres::database(), "connection_limit=1");
    assert!(pool.try_acquire().is_none(), "nothing is open yet");
    pool.execute("select 1").await.expect("opened");
    let mut lease = pool.try_acquire().expect("it is idle");
    lease.ping().await.expect("alive");
    assert!(pool.try_acquire().is_none(), "it is in use");
    drop(lease);
    settled(&pool).await;
}
