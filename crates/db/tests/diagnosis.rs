//! What the pool says of itself: who holds connections, for how long, and what is the matter.

mod support;

use std::sync::Arc;
use std::time::Duration;

use db::{Config, Error, Pool, PoolState, Usage, Work};
use sqlx::Executor;
use support::{pool, settled, until};

const SLOW: &str = "select pg_sleep(30), $1 /* slow */";

/// Work that holds one connection until it is aborted.
fn hold(pool: &Pool, name: &str) -> tokio::task::JoinHandle<()> {
    let (work, pool) = (Arc::new(Work::default()), pool.clone());
    work.name(name, ("http.route", "/slow"));
    tokio::spawn(db::with_work(work, async move {
        let slow = sqlx::query(SLOW).bind("canary").execute(&pool);
        let _ = slow.await;
    }))
}

#[tokio::test]
async fn a_full_pool_says_who_waits_who_holds_it_and_what_to_do() {
    let pool = pool("connection_limit=1&pool_timeout=5s");
    let quiet = pool.diagnosis();
    assert_eq!(quiet.state, PoolState::Quiet);
    assert_eq!(
        quiet.sentence,
        "The pool is quiet: 0 of 1 connections are open, nobody waits."
    );
    let holder = hold(&pool, "GET /slow");
    until("it holds", async || pool.stats().in_use == 1).await;
    assert_eq!(pool.diagnosis().state, PoolState::Full);
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.execute("select 1").await }
    });
    until("it is held for a while", async || {
        pool.stats().waiting == 1 && pool.holders()[0].held > Duration::from_millis(120)
    })
    .await;
    let full = pool.diagnosis();
    let expected = "The pool is full: 1 waits, the longest holder is GET /slow, running `select pg_sleep(30), $1 /* \
                    slow */` for ";
    assert!(full.sentence.starts_with(expected), "{full}");
    assert!(
        full.sentence
            .ends_with("Raise connection_limit or shorten that statement."),
        "{full}"
    );
    assert!(!full.sentence.contains("canary"));
    holder.abort();
    waiting.await.expect("no panic").expect("an answer");
    settled(&pool).await;
    pool.examine().await.expect("a report");
    assert_eq!(pool.diagnosis().state, PoolState::Quiet);
}

#[tokio::test]
async fn the_sentence_knows_how_much_room_the_server_has() {
    let pool = pool("connection_limit=1&pool_timeout=300ms");
    pool.examine().await.expect("a report");
    let server = pool.server().expect("limits");
    let most: i32 = sqlx::query_scalar("select current_setting('max_connections')::int")
        .fetch_one(&pool)
        .await
        .expect("a number");
    assert_eq!(server.max_connections, most as u32);
    assert_eq!(server.usable, most as u32 - 3, "3 are for superusers");
    assert_eq!(server.budget, server.usable * 4 / 5);
    assert_eq!(server.room, server.budget - server.others - 1);
    let holder = hold(&pool, "GET /slow");
    until("it holds", async || {
        pool.holders()
            .first()
            .is_some_and(|one| one.held > Duration::from_millis(100))
    })
    .await;
    let error = pool.acquire().await.expect_err("full");
    let expected = format!("(the server has room for {} more)", server.room);
    assert!(error.to_string().contains(&expected), "{error}");
    let Error::PoolTimeout(timeout) = error else {
        panic!("{error}")
    };
    assert!(timeout.diagnosis.starts_with("The pool is full: 1 waits"));
    holder.abort();
    settled(&pool).await;
}

#[tokio::test]
async fn a_database_out_of_reach_is_the_diagnosis() {
    let config = Config::parse("postgres://nobody@127.0.0.1:9/none?connect_timeout=1s");
    let pool = Pool::new(config.expect("a config"));
    until("two attempts have failed", async || {
        pool.acquire().await.expect_err("nobody listens");
        pool.diagnosis().state == PoolState::Down
    })
    .await;
    let sentence = pool.diagnosis().sentence;
    assert!(
        sentence.starts_with("The database cannot be reached: "),
        "{sentence}"
    );
    assert_eq!(pool.stats().up, 0);
    pool.close(Duration::ZERO).await;
    assert_eq!(pool.diagnosis().state, PoolState::Closed);
}

#[tokio::test]
async fn holders_are_named_by_work_place_and_statement() {
    let pool = pool("connection_limit=2");
    let mut lease = pool.acquire().await.expect("a lease");
    sqlx::query("select $1")
        .bind("canary")
        .execute(&mut *lease)
        .await
        .expect("an answer");
    let holder = hold(&pool, "GET /slow");
    until("both hold", async || pool.holders().len() == 2).await;
    let [first, second] = &pool.holders()[..] else {
        panic!("two")
    };
    assert!(first.held >= second.held, "longest first");
    assert_eq!(first.statement.as_deref(), Some("select $1"));
    let place = first.place.as_deref().expect("a place");
    assert!(place.contains("tests/diagnosis.rs:"), "{place}");
    assert_eq!(second.work.as_deref(), Some("GET /slow"));
    assert_eq!(second.statement.as_deref(), Some(SLOW));
    holder.abort();
    drop(lease);
    settled(&pool).await;
    assert_eq!(pool.holders(), []);
}

#[tokio::test]
async fn a_task_learns_what_it_took_of_the_pool_also_across_a_spawn() {
    let pool = pool("connection_limit=1");
    let held = pool.acquire().await.expect("a lease");
    let (usage, work) = (Arc::new(Usage::default()), Arc::new(Work::default()));
    work.name("GET /spawned", ("http.route", "/spawned"));
    let of_task = pool.clone();
    let task = tokio::spawn(db::with_work(
        work,
        db::with_usage(usage.clone(), async move {
            let spawned = db::carry(async move {
                let mut lease = of_task.acquire().await.expect("a lease");
                let name = of_task.holders()[0].work.clone();
                for _ in 0..2 {
                    lease
                        .execute("select pg_sleep(0.02)")
                        .await
                        .expect("an answer");
                }
                name
            });
            tokio::spawn(spawned).await.expect("no panic")
        }),
    ));
    until("it waits", async || pool.stats().waiting == 1).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    drop(held);
    let name = task.await.expect("no panic");
    assert_eq!(name.as_deref(), Some("GET /spawned"));
    assert_eq!(usage.statements(), 2);
    assert!(
        usage.waited() >= Duration::from_millis(30),
        "{:?}",
        usage.waited()
    );
    assert!(
        usage.ran() >= Duration::from_millis(40),
        "{:?}",
        usage.ran()
    );
    settled(&pool).await;
}

#[tokio::test]
async fn times_are_counted_for_percentiles() {
    let pool = pool("connection_limit=1");
    for _ in 0..10 {
        pool.execute("select pg_sleep(0.012)")
            .await
            .expect("an answer");
    }
    let times = pool.times();
    assert_eq!(times.statement.count(), 10);
    assert_eq!(times.hold.count(), 10);
    assert_eq!(times.statement.not_above(Duration::from_millis(10)), 0);
    let median = times.statement.quantile(0.5).expect("a median");
    assert!(median >= Duration::from_millis(10), "{median:?}");
    assert!(times.hold.sum() >= times.statement.sum());
    settled(&pool).await;
}

#[test]
fn settings_say_where_they_came_from_and_keep_secrets() {
    let url = "postgres://app:canary1@db.example/shop?connection_limit=5&pgbouncer=true&sslmode=require&application_name=shop";
    let mut config = Config::parse(url).expect("a config");
    config.min_connections = 2;
    let settings = config.settings();
    let row = |key| {
        let row = settings.iter().find(|one| one.key == key).expect("a row");
        (row.value.as_str(), row.from)
    };
    assert_eq!(settings.len(), db::PARAMETERS.len());
    assert_eq!(row("connection_limit"), ("5", "URL"));
    assert_eq!(row("min_connections"), ("2", "code"));
    assert_eq!(row("pool_timeout"), ("20 s", "default"));
    assert_eq!(row("statement_timeout"), ("as set for the role", "default"));
    assert_eq!(row("sslmode"), ("require", "URL"));
    assert_eq!(row("application_name"), ("shop", "URL"));
    assert_eq!(row("schema").1, "default");
    assert!(!format!("{settings:?}").contains("canary"));
    let url = "postgres://app@db.example/shop?options=-c%20search_path%3Dcanary2";
    let settings = Config::parse(url).expect("a config").settings();
    assert!(!format!("{settings:?}").contains("canary"), "{settings:?}");
}
