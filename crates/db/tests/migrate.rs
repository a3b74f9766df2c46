//! Migrations that every instance may run at once.

mod support;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use db::{Error, Schema};
use futures_util::future::join_all;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Executor, SqlSafeStr};
use support::{plain, pool_at};
use tokio::time::timeout;

fn migration(version: i64, sql: &str, no_tx: bool) -> Migration {
    let sql = AssertSqlSafe(sql.to_owned()).into_sql_str();
    let description = Cow::Borrowed("test");
    Migration::new(version, description, MigrationType::Simple, sql, no_tx)
}

/// Migrations of these versions, which do nothing.
fn versions(versions: &[i64]) -> Migrator {
    let all = versions.iter().map(|n| migration(*n, "select 1", false));
    Migrator::with_migrations(all.collect())
}

/// A table, and an index that is built outside a transaction while others may write.
fn migrator() -> Migrator {
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
    let slow = migration(1, "select pg_sleep(0.3)", false);
    pool.migrate(&Migrator::with_migrations(vec![slow]))
        .await
        .expect("migrated");
}

fn is_refused(error: &Error, why: &str) {
    assert!(
        matches!(error, Error::Migrate(_)) && !error.is_unavailable(),
        "{error:?}"
    );
    assert!(error.to_string().contains(why), "{error}");
}

#[tokio::test]
async fn a_database_with_other_migrations_is_refused() {
    let pool = pool_at(&local_postgres::database(), "");
    pool.migrate(&versions(&[2, 3])).await.expect("migrated");
    let changed = Migrator::with_migrations(vec![
        migration(2, "select 1", false),
        migration(3, "select 2", false),
    ]);
    for (other, why) in [
        (
            versions(&[1, 3]),
            "migration 2 was previously applied but is missing",
        ),
        (
            changed,
            "migration 3 was previously applied but has been modified",
        ),
    ] {
        is_refused(&pool.migrate(&other).await.expect_err("refused"), why);
        is_refused(&pool.schema(&other).await.expect_err("refused"), why);
    }
}

// In a rolling deployment the new program has migrated while instances of the old one still start.
#[tokio::test]
async fn a_database_that_a_newer_program_has_migrated_is_accepted_as_it_is() {
    let pool = pool_at(&local_postgres::database(), "");
    pool.migrate(&versions(&[1, 2, 4])).await.expect("migrated");
    let older = versions(&[1, 2]);
    pool.migrate(&older).await.expect("nothing to do");
    let schema = pool.schema(&older).await;
    assert_eq!(schema.expect("compared"), Schema::Newer { newest: 4 });

    // Also when the newer program has failed, or takes long.
    let bad = migration(5, "select nothing", true);
    let mut newer = versions(&[1, 2, 4]);
    newer.migrations.to_mut().push(bad);
    pool.migrate(&newer).await.expect_err("it fails");
    let mut session = pool.acquire().await.expect("a connection");
    session
        .execute("select pg_advisory_lock(x'7265736572766f69'::bigint)")
        .await
        .expect("the lock of those who migrate");
    let started = Instant::now();
    pool.migrate(&older).await.expect("nothing to do");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn the_first_missing_migration_is_named() {
    let pool = pool_at(&local_postgres::database(), "");
    let schema = async |migrator: &Migrator| pool.schema(migrator).await.expect("compared");
    let older = |missing: &str| Schema::Older {
        missing: missing.to_owned(),
    };
    assert_eq!(schema(&versions(&[])).await, Schema::Current);
    assert_eq!(schema(&versions(&[1, 2])).await, older("1 (test)"));
    pool.migrate(&versions(&[1, 4])).await.expect("migrated");
    assert_eq!(schema(&versions(&[1, 4])).await, Schema::Current);
    // Two branches were merged in another order than that of their migrations.
    assert_eq!(schema(&versions(&[1, 2, 3, 4])).await, older("2 (test)"));
    assert_eq!(schema(&versions(&[1, 2, 3])).await, older("2 (test)"));
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
