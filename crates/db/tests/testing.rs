//! A database for each test: the same tables, nobody else's rows, gone afterwards.

mod support;

use std::time::{Duration, Instant};

use db::Pool;
use db::testing::{TestDatabase, database};
use futures_util::future::join_all;
use sqlx::migrate::Migrator;
use support::until;

async fn migrator() -> Migrator {
    let folder = std::path::Path::new("tests/support/shop");
    Migrator::new(folder).await.expect("migrations")
}

async fn add(pool: &Pool) -> i64 {
    let sql = "with added as (insert into customer (name) values ('Ada') returning id) select id from added";
    sqlx::query_scalar(sql)
        .fetch_one(pool)
        .await
        .expect("nobody else's Ada is here")
}

/// How many of these databases the server has.
async fn there(server: &TestDatabase, names: &[String]) -> i64 {
    let sql = "select count(*) from pg_database where datname = any($1)";
    let count = sqlx::query_scalar(sql).bind(names);
    count.fetch_one(server.pool()).await.expect("a count")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_test_has_its_own_and_leaves_nothing() {
    let migrator = migrator().await;
    let first = database(&migrator).await;
    let others = join_all((0..8).map(|_| database(&migrator))).await;
    let ids = join_all(others.iter().map(|one| add(one.pool()))).await;
    assert_eq!(ids, [1; 8]);
    let name = |one: &TestDatabase| one.pool().config().database().to_owned();
    let names: Vec<String> = others.iter().map(name).collect();
    assert_eq!(there(&first, &names).await, 8);
    // Also one that is in use.
    let busy = others[0].pool().clone();
    let mut transaction = busy.begin().await.expect("begun");
    sqlx::query("select 1")
        .execute(&mut *transaction)
        .await
        .expect("in use");
    drop(others);
    assert_eq!(there(&first, &names).await, 0);
    sqlx::query("select 1")
        .execute(&mut *transaction)
        .await
        .expect_err("its session was ended");
}

#[tokio::test]
async fn other_migrations_are_another_template() {
    let with = database(&migrator().await).await;
    let without = database(&Migrator::with_migrations(Vec::new())).await;
    add(with.pool()).await;
    let sql = "select count(*) from pg_tables where tablename = 'customer'";
    let tables: i64 = sqlx::query_scalar(sql)
        .fetch_one(without.pool())
        .await
        .expect("a count");
    assert_eq!(tables, 0);
    assert!(
        without.url().contains("/test_"),
        "for a program from outside"
    );
}

/// Twenty of them, one after the other, and how long each takes to make and to remove.
#[tokio::test]
async fn how_long_it_takes() {
    let migrator = migrator().await;
    drop(database(&migrator).await);
    let (mut made, mut removed) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let began = Instant::now();
        let one = database(&migrator).await;
        made.push(began.elapsed());
        add(one.pool()).await;
        let began = Instant::now();
        drop(one);
        removed.push(began.elapsed());
    }
    made.sort();
    removed.sort();
    println!(
        "made in {:.1?}, removed in {:.1?} (medians of 20)",
        made[10], removed[10]
    );
}

#[tokio::test]
async fn what_a_killed_test_left_on_a_server_is_removed_by_the_next() {
    // The tests below, in processes of their own, on a server of their own.
    let cluster = local_postgres::Cluster::temporary().expect("a cluster");
    let url = cluster.url("postgres");
    let owner = support::pool_at(&url, "connection_limit=2");
    let run = |test: &str| {
        let mut command =
            tokio::process::Command::new(std::env::current_exe().expect("this program"));
        command
            .args(["--exact", "--ignored", test])
            .env("DATABASE_URL", &url)
            .kill_on_drop(true);
        command
    };
    let count = async || {
        let sql = "select count(*) from pg_database where datname ~ '^test_[0-9a-f]{8}_'";
        sqlx::query_scalar::<_, i64>(sql)
            .fetch_one(&owner)
            .await
            .expect("a count")
    };
    let mut killed = run("has_a_database_and_waits").spawn().expect("started");
    until("it has a template and a database", async || {
        count().await == 2
    })
    .await;
    killed.kill().await.expect("killed");
    let sessions = "select count(*) from pg_stat_activity where application_name like 'test\\_%'";
    until("the server knows that it is gone", async || {
        let left = sqlx::query_scalar::<_, i64>(sessions).fetch_one(&owner);
        left.await.expect("a count") == 0
    })
    .await;
    assert_eq!(count().await, 2, "it could not remove them");
    let next = run("has_a_database").status().await.expect("ran");
    assert!(next.success());
    assert_eq!(
        count().await,
        1,
        "what was left is gone; its own template stays until the next"
    );
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn has_a_database() {
    add(database(&migrator().await).await.pool()).await;
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn has_a_database_and_waits() {
    let database = database(&migrator().await).await;
    add(database.pool()).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
}
