//! Migrations that every instance may run at once.

mod support;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use db::Error;
use futures_util::future::join_all;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Executor, SqlSafeStr};
use support::{plain, pool_at};
use tokio::time::timeout;

/// A table, and an index that is built outside a transaction while others may write.
fn migrator() -> Migrator {
    let migration = |version, sql: &str, no_tx| {
        let sql = AssertSqlSafe(sql.to_owned()).into_sql_str();
        Migration::new(
            version,
            Cow::Borrowed("test"),
            MigrationType::Simple,
            sql,
            no_tx,
        )
    };
    Migrator::with_migrations(vec![
        // Slow enough that every instance waits for the first before the index is built.
        migration(
            1,
            "create table thing (id int); select pg_sleep(0.5)",
            false,
        ),
        migration(2, "create index concurrently thing_id on thing (id)", true),
    ])
}

// sqlx's own lock waits inside a statement, and the index waits for that statement
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_start_together_do_not_deadlock() {
    let url = local_postgres::database();
    let migrator = Arc::new(migrator());
    let theirs = [
        plain(&url, 1).await,
        plain(&url, 1).await,
        plain(&url, 1).await,
    ];
    // The one whose index is the deadlock's victim keeps its lock, so another one may wait for ever.
    let runs = theirs
        .iter()
        .map(|pool| timeout(Duration::from_secs(5), migrator.run(pool)));
    let results = join_all(runs).await;
    let well = results.iter().all(|result| matches!(result, Ok(Ok(()))));
    assert!(!well, "sqlx's own migrations deadlock: {results:?}");

    let url = local_postgres::database();
    let tasks = (0..10).map(|_| {
        let (pool, migrator) = (pool_at(&url, "connection_limit=1"), migrator.clone());
        tokio::spawn(async move { pool.migrate(&migrator).await })
    });
    for task in join_all(tasks).await {
        task.expect("no panic").expect("migrated");
    }
    pool_at(&url, "")
        .execute("insert into thing values (1)")
        .await
        .expect("the table is there");
}

#[tokio::test]
async fn a_migration_may_take_longer_than_a_statement() {
    let pool = pool_at(&local_postgres::database(), "statement_timeout=50");
    let slow = Migration::new(
        1,
        Cow::Borrowed("slow"),
        MigrationType::Simple,
        sqlx::SqlStr::from_static("select pg_sleep(0.3)"),
        false,
    );
    pool.migrate(&Migrator::with_migrations(vec![slow]))
        .await
        .expect("migrated");
}

#[tokio::test]
async fn a_database_with_other_migrations_is_refused() {
    let pool = pool_at(&local_postgres::database(), "");
    pool.migrate(&migrator()).await.expect("migrated");
    let error = pool
        .migrate(&Migrator::with_migrations(Vec::new()))
        .await
        .expect_err("the program is older than the database");
    assert!(
        matches!(error, Error::Migrate(_)) && !error.is_unavailable(),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .contains("previously applied but is missing"),
        "{error}"
    );
}

#[tokio::test]
async fn a_migration_without_a_database_says_why_in_time() {
    let pool = pool_at("postgres://u:p@127.0.0.1:1/x", "");
    let started = Instant::now();
    let error = pool.migrate(&migrator()).await.expect_err("nobody listens");
    assert!(
        matches!(error, Error::Connect(_)) && started.elapsed() < Duration::from_secs(5),
        "{error}"
    );
}

#[tokio::test]
async fn a_migration_through_pgbouncer_is_refused() {
    let pool = pool_at(&local_postgres::database(), "pgbouncer=true");
    let error = pool.migrate(&migrator()).await.expect_err("refused");
    assert!(error.to_string().contains("MIGRATE=false"), "{error}");
}
