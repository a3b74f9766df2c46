//! A database that answers and has no room for more connections: it is no outage, and what keeps it from more is named.

mod support;

use std::time::{Duration, Instant};

use db::{Pool, PoolState};
use futures_util::future::join_all;
use local_postgres::Cluster;
use support::{failure, pool_at, proven, until};

/// A server with room for seven, and two roles; the URL is the first one's.
fn server() -> (Cluster, String) {
    let settings = [("max_connections", "10")];
    let server = Cluster::temporary_with(&settings).expect("a server");
    let sql = "create role app login password 'app'; create role other login password 'other'; \
               create database shop";
    server.sql("postgres", sql).expect("two roles");
    let url = format!("postgres://app:app@127.0.0.1:{}/shop", server.port());
    (server, url)
}

/// So many sessions of the other role, once those have gone that its pool opens at first.
async fn others(url: &str, sessions: usize) -> Vec<db::Lease> {
    let url = url.replace("app:app", "other:other");
    let pool = pool_at(&url, "connection_limit=10");
    proven(&pool).await;
    until("its first sessions have gone", async || {
        let sql = "select count(*) from pg_stat_activity where usename = 'other'";
        let sessions = sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await;
        sessions.expect("a count") == 1
    })
    .await;
    let taken = join_all((0..sessions).map(|_| pool.acquire())).await;
    taken
        .into_iter()
        .map(|one| one.expect("a session"))
        .collect()
}

/// Ten callers for two seconds. Says how many were answered, and what else they got.
async fn load(pool: &Pool) -> (usize, Vec<sqlx::Error>) {
    let until = Instant::now() + Duration::from_secs(2);
    let caller = async || {
        let mut ended = Vec::new();
        while Instant::now() < until {
            let sleep = sqlx::query("select pg_sleep(0.01)");
            ended.push(sleep.execute(pool).await.map(drop));
        }
        ended
    };
    let ended = join_all((0..10).map(|_| caller()))
        .await
        .into_iter()
        .flatten()
        .collect::<Vec<_>>();
    let (answered, failed): (Vec<_>, Vec<_>) = ended.into_iter().partition(Result::is_ok);
    (
        answered.len(),
        failed.into_iter().filter_map(Result::err).collect(),
    )
}

#[tokio::test]
async fn a_pool_that_answers_on_what_it_has_is_not_down_while_others_have_the_slots() {
    let (_server, url) = server();
    let held = others(&url, 5).await;
    let pool = pool_at(&url, "connection_limit=10");
    let (answered, failed) = load(&pool).await;
    let first = failed.first();
    assert!(
        first.is_none(),
        "{answered} and {}: {first:?}",
        failed.len()
    );
    let (stats, diagnosis) = (pool.stats(), pool.diagnosis());
    assert_eq!((stats.up, stats.open), (1, 2), "{diagnosis}");
    assert_ne!(diagnosis.state, PoolState::Down, "{diagnosis}");
    let hold = join_all((0..2).map(|_| pool.acquire())).await;
    let waiting = tokio::spawn(pool.acquire());
    until("one waits", async || pool.stats().waiting == 1).await;
    let diagnosis = pool.diagnosis();
    assert_eq!(diagnosis.state, PoolState::Full);
    let expected = "The pool is full: 1 waits, and no more than 2 of 10 connections can be opened. Too many connections at `127.0.0.1:";
    assert!(diagnosis.sentence.starts_with(expected), "{diagnosis}");
    assert!(
        !diagnosis.sentence.contains("cannot be reached"),
        "{diagnosis}"
    );
    // All that can be had is in use, and no control connection can be opened: it answers all the same.
    pool.check().await.expect("the database answers");
    drop(hold);
    waiting.await.expect("no panic").expect("a connection");
    drop(held);
    until("there is room again", async || {
        let all = join_all((0..5).map(|_| pool.acquire())).await;
        all.iter().all(Result::is_ok) && pool.stats().open >= 5
    })
    .await;
    assert_eq!(pool.diagnosis().state, PoolState::Quiet);
}

#[tokio::test]
async fn a_pool_without_a_connection_says_that_there_is_no_room_and_not_that_nobody_is_there() {
    let (_server, url) = server();
    let _held = others(&url, 7).await;
    let pool = pool_at(&url, "connection_limit=10");
    until("two attempts have failed", async || {
        pool.acquire().await.expect_err("no room");
        pool.diagnosis().state == PoolState::Down
    })
    .await;
    let sentence = pool.diagnosis().sentence;
    let expected = "The database has no room for this pool: Too many connections at `127.0.0.1:";
    assert!(sentence.starts_with(expected), "{sentence}");
    assert_eq!(pool.stats().up, 1, "it answers");
    pool.check().await.expect_err("no connection can be had");
}

#[tokio::test]
async fn the_limit_that_is_reached_is_named_with_what_helps_there() {
    let (server, url) = server();
    let limits = |role: i32, database: i32| {
        let sql = format!(
            "alter role app connection limit {role}; alter database shop connection limit {database}"
        );
        server.sql("postgres", &sql).expect("limits");
    };
    let auto = "connection_limit=auto";
    for (parameters, advises_auto) in [("connection_limit=10", true), (auto, false)] {
        limits(0, -1);
        let of_role = failure(&url, parameters).await;
        limits(-1, 0);
        let of_database = failure(&url, parameters).await;
        limits(-1, -1);
        let held = others(&url, 7).await;
        let of_server = failure(&url, parameters).await;
        drop(held);
        let told = [
            (
                &of_role,
                "the role \"app\" has all that it may have in all databases together",
                "alter role \"app\" connection limit",
            ),
            (
                &of_database,
                "the database \"shop\" has all that it may have",
                "alter database \"shop\" connection limit",
            ),
            (
                &of_server,
                "the server has no room for more",
                "max_connections",
            ),
        ];
        for (text, limit, advice) in told {
            assert!(text.contains(limit) && text.contains(advice), "{text}");
            assert_eq!(text.contains("auto"), advises_auto, "{text}");
        }
        until("their sessions have gone", async || {
            let sql = "select count(*) from pg_stat_activity where usename = 'other'";
            server.sql("postgres", sql).expect("sessions") == "0"
        })
        .await;
    }
}
