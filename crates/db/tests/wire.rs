//! What goes over the wire: a statement on a warm connection is one round trip, whoever asks for it and however.

mod support;

use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::Executor;
use support::proxy::Proxy;
use support::{plain, pool_at, until};

#[tokio::test]
async fn a_statement_on_a_warm_connection_is_one_round_trip() {
    let (server, url) = (local_postgres::shared(), local_postgres::database());
    let proxy = Proxy::start(server.port(), Duration::ZERO).await;
    let url = proxy.url(&url, server.port());
    let statement = || sqlx::query("select $1::int").bind(1);

    let theirs = plain(&url, 1).await;
    theirs.fetch_one(statement()).await.expect("a row");
    let before = proxy.turns();
    for _ in 0..10 {
        theirs.fetch_one(statement()).await.expect("a row");
        drop(
            theirs
                .acquire()
                .await
                .expect("the ping of the release is over"),
        );
    }
    let turns = proxy.turns() - before;
    assert!(
        turns >= 30,
        "sqlx's own pool: {turns} round trips for ten statements"
    );
    drop(theirs);

    let ours = pool_at(&url, "connection_limit=1");
    ours.fetch_one(statement()).await.expect("a row");
    let before = proxy.turns();
    for _ in 0..5 {
        ours.fetch_one(statement()).await.expect("a row");
        ours.fetch_all(statement()).await.expect("rows");
        ours.execute(statement()).await.expect("a result");
        ours.fetch(statement())
            .try_collect::<Vec<_>>()
            .await
            .expect("rows");
        let mut lease = ours.acquire().await.expect("a lease");
        lease.fetch_one(statement()).await.expect("a row");
    }
    assert_eq!(proxy.turns() - before, 25, "25 statements");

    let before = proxy.turns();
    let mut tx = ours.begin().await.expect("a transaction");
    tx.fetch_one(statement()).await.expect("a row");
    tx.commit().await.expect("a commit");
    assert_eq!(proxy.turns() - before, 3, "begin, the statement, commit");

    let before = proxy.turns();
    ours.fetch_one(sqlx::query("select 1 / 0"))
        .await
        .expect_err("a division by zero");
    until("it is fit again", async || ours.stats().in_use == 0).await;
    assert!(
        proxy.turns() - before <= 3,
        "prepare, execute, and one to settle"
    );
}

#[tokio::test]
async fn a_connection_is_pinged_only_after_it_was_idle_for_long() {
    let (server, url) = (local_postgres::shared(), local_postgres::database());
    let proxy = Proxy::start(server.port(), Duration::ZERO).await;
    let pool = pool_at(&proxy.url(&url, server.port()), "connection_limit=1");
    drop(pool.acquire().await.expect("a lease"));
    let before = proxy.turns();
    drop(pool.acquire().await.expect("a lease"));
    assert_eq!(proxy.turns() - before, 0, "used just now");
    tokio::time::sleep(Duration::from_millis(550)).await;
    drop(pool.acquire().await.expect("a lease"));
    assert_eq!(
        proxy.turns() - before,
        1,
        "idle for more than half a second"
    );
}

// An idle connection whose peer is silent costs a quarter of a second, not the whole timeout
#[tokio::test]
async fn a_silent_idle_connection_is_replaced_quickly() {
    let (server, url) = (local_postgres::shared(), local_postgres::database());
    let proxy = Proxy::start(server.port(), Duration::ZERO).await;
    let pool = pool_at(&proxy.url(&url, server.port()), "connection_limit=2");
    let theirs = plain(&proxy.url(&url, server.port()), 1).await;
    until("it is idle", async || theirs.num_idle() == 1).await;
    drop(pool.acquire().await.expect("a lease"));
    proxy.swallow(true);
    tokio::time::sleep(Duration::from_millis(550)).await;
    let started = std::time::Instant::now();
    tokio::spawn({
        let proxy = proxy.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            proxy.swallow(false);
        }
    });
    // What was swallowed never comes, so the old connection stays silent; a new one works.
    pool.execute("select 1").await.expect("an answer");
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(pool.stats().opened, 2);

    proxy.swallow(true);
    let waited = tokio::time::timeout(Duration::from_secs(1), theirs.acquire()).await;
    waited
        .map(drop)
        .expect_err("sqlx's own pool waits for its ping");
}

// Behind a pooler an unnamed statement may be another client's
#[tokio::test]
async fn every_statement_has_a_name_behind_pgbouncer() {
    let count = "select count(*) from pg_prepared_statements where statement = 'select $1::int'";
    let parameters = "connection_limit=1";
    for (url, named) in [
        (local_postgres::database(), 0),
        (support::middleman::pooler().await, 1),
    ] {
        let pool = pool_at(&url, parameters);
        sqlx::query("select $1::int")
            .bind(1)
            .persistent(false)
            .execute(&pool)
            .await
            .expect("an answer");
        let row = pool.fetch_one(count).await.expect("a count");
        let statements: String = sqlx::Row::try_get_unchecked(&row, 0).expect("a number");
        assert_eq!(statements, named.to_string(), "{parameters}");
    }
}
