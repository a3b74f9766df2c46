//! What the tests share: a pool of ours and a plain one on the same fresh database, and a proxy between.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod bouncer;
pub(crate) mod certificates;
pub(crate) mod gatekeeper;
pub(crate) mod instances;
pub(crate) mod middleman;

pub(crate) mod pgpool;
pub(crate) mod proxy;
pub(crate) mod replicas;

use std::time::{Duration, Instant};

use db::{Config, Error, Pool};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, PgPool};

/// A pool of ours on a fresh database, with these parameters in its URL.
pub(crate) fn pool(parameters: &str) -> Pool {
    pool_at(&local_postgres::database(), parameters)
}

/// A pool of ours at this URL.
pub(crate) fn pool_at(url: &str, parameters: &str) -> Pool {
    let separator = if url.contains('?') { '&' } else { '?' };
    Pool::new(Config::parse(&format!("{url}{separator}{parameters}")).expect("a valid URL"))
}

/// What an error says that has to be about connecting, not a pool timeout.
pub(crate) fn connect_error(error: Error) -> String {
    match error {
        Error::Connect(error) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// What the caller of a pool is told that cannot open a connection.
pub(crate) async fn failure(url: &str, parameters: &str) -> String {
    let started = Instant::now();
    let error = pool_at(url, parameters)
        .acquire()
        .await
        .expect_err("no connection");
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "within connect_timeout"
    );
    assert!(error.is_unavailable());
    connect_error(error)
}

/// sqlx's own pool, to show what it does in the same place.
pub(crate) async fn plain(url: &str, connections: u32) -> PgPool {
    let pool = plain_with(url, connections, Duration::from_secs(5));
    pool.acquire().await.expect("a connection");
    pool
}

/// The same, with its `acquire_timeout`, before its first connection.
#[expect(clippy::disallowed_methods, reason = "the comparison is the point")]
pub(crate) fn plain_with(url: &str, connections: u32, timeout: Duration) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(timeout)
        .connect_lazy(url)
        .expect("a valid URL")
}

/// Polls `future` so often, then drops it unless it has finished.
pub(crate) async fn dropped_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
        std::task::Poll::Pending if left <= 1 => std::task::Poll::Ready(None),
        std::task::Poll::Pending => {
            left -= 1;
            std::task::Poll::Pending
        }
    })
    .await
}

/// Waits until `done` says so, for at most ten seconds.
pub(crate) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done().await {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The pool knows whose its sessions are, and opens no more connections to find that out.
pub(crate) async fn proven(pool: &Pool) {
    pool.examine().await.expect("a report");
}

/// A setting of a lease is gone with it, and the default of the pool is there again.
pub(crate) async fn a_lease_leaves_nothing(pool: &Pool) {
    let mut lease = pool.acquire().await.expect("a lease");
    let other = lease.execute("set statement_timeout = 1").await;
    other.expect("set");
    drop(lease);
    settled(pool).await;
    let told: String = sqlx::query_scalar("show statement_timeout")
        .fetch_one(pool)
        .await
        .expect("an answer");
    assert_eq!(told, "5s");
}

/// Waits until nothing is in use and no connection comes or goes, and asserts that every permit and connection is
/// accounted for.
pub(crate) async fn settled(pool: &Pool) {
    until("the pool is at rest, its books balanced", async || {
        let stats = pool.stats();
        let rest = stats.in_use == 0 && stats.waiting == 0 && stats.open == stats.idle;
        let gone: u64 = stats.closed.iter().sum();
        let balanced = stats.opened == gone + u64::from(stats.open);
        if !(rest && balanced) {
            println!("not yet: {stats:?}");
        }
        rest && balanced
    })
    .await;
    let mut leases = Vec::new();
    let limit = pool.stats().limit;
    for _ in 0..limit {
        leases.push(pool.acquire().await.expect("every permit can be had"));
    }
    assert_eq!(pool.stats().in_use, limit);
    drop(leases);
}
