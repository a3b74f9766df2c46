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
            "migration 2 was previously applied but is missing in this program, and 1 (test), ",
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
    // One of the branches alone has not all that the database has, and the database not all that the branch has.
    let branch = pool.schema(&versions(&[1, 2, 3])).await;
    is_refused(&branch.expect_err("refused"), "on another branch");
}

/// Version and checksum of what was applied; none where nobody has ever migrated.
async fn applied(pool: &db::Pool) -> Vec<i64> {
    let there = "select to_regclass('_sqlx_migrations') is not null";
    let there: bool = sqlx::query_scalar(there).fetch_one(pool).await.unwrap();
    let all = "select version from _sqlx_migrations order by version";
    match there {
        true => sqlx::query_scalar(all).fetch_all(pool).await.unwrap(),
        false => Vec::new(),
    }
}

// Whichever comes first: what it has stays usable for it, and the other one learns how to keep apart.
#[tokio::test]
async fn two_programs_of_different_origin_are_kept_apart() {
    for (first, second) in [([10, 11], [1, 2]), ([1, 2], [10, 11]), ([1, 10], [2, 11])] {
        let pool = pool_at(&local_postgres::database(), "");
        pool.migrate(&versions(&first)).await.expect("migrated");
        let other = versions(&second);
        let error = pool.migrate(&other).await.expect_err("refused");
        for way_out in [
            format!("migration {} was previously applied", first[0]),
            format!("{} (test), which is its first", second[0]),
            "`schema=`".to_owned(),
            "table-name".to_owned(),
        ] {
            is_refused(&error, &way_out);
        }
        let looked = pool.schema(&other).await.expect_err("refused");
        assert_eq!(looked.to_string(), error.to_string());
        assert_eq!(applied(&pool).await, first);
        let own = pool.schema(&versions(&first)).await;
        assert_eq!(own.expect("compared"), Schema::Current);

        let mut apart = other;
        apart.table_name = "other_migrations".into();
        pool.migrate(&apart).await.expect("a table of its own");
        assert_eq!(applied(&pool).await, first);
    }
}

// Both find an empty database; what the second finds when its turn comes is the first one's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_programs_of_different_origin_that_start_together_do_not_mix() {
    let url = local_postgres::database();
    let slow = |version| {
        let slow = migration(version, "select pg_sleep(0.5)", false);
        Migrator::with_migrations(vec![slow])
    };
    let (one, other) = (slow(1), slow(2));
    let pools = [pool_at(&url, ""), pool_at(&url, "")];
    let (one, other) = tokio::join!(pools[0].migrate(&one), pools[1].migrate(&other));
    assert_ne!(one.is_ok(), other.is_ok(), "{one:?} {other:?}");
    is_refused(&one.and(other).unwrap_err(), "another line of migrations");
    assert_eq!(applied(&pools[0]).await.len(), 1);
}

/// A folder with these files, removed at the end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        for (file, text) in files {
            std::fs::write(path.join(file), text).unwrap();
        }
        Self(path)
    }

    async fn migrator(&self) -> Migrator {
        Migrator::new(self.0.clone()).await.unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn two_migrations_with_one_version_are_refused_before_anything_is_applied() {
    let before = ("20250101000000_first.sql", "create table first (i int)");
    let (a, b) = ("20260101000000_a.sql", "20260101000000_b_and_c.sql");
    let files = [
        before,
        (a, "create table a (i int)"),
        (b, "create table b (i int)"),
    ];
    let folder = Folder::new("one-version", &files);
    let migrator = folder.migrator().await;
    let pool = pool_at(&local_postgres::database(), "");
    for _ in 0..2 {
        for error in [
            pool.migrate(&migrator).await.expect_err("refused"),
            pool.schema(&migrator).await.expect_err("refused"),
        ] {
            is_refused(&error, a);
            is_refused(&error, b);
        }
        assert_eq!(applied(&pool).await, [0; 0]);
    }
    // Half of it was applied by an earlier release.
    let mut half = folder.migrator().await;
    half.migrations.to_mut().pop();
    pool.migrate(&half).await.expect("migrated");
    is_refused(&pool.schema(&migrator).await.expect_err("refused"), b);
}

// Up and down have the same version.
#[tokio::test]
async fn reversible_migrations_are_no_two_with_one_version() {
    let files = [
        ("1_thing.up.sql", "create table thing (i int)"),
        ("1_thing.down.sql", "drop table thing"),
    ];
    let folder = Folder::new("reversible", &files);
    let pool = pool_at(&local_postgres::database(), "");
    let migrator = folder.migrator().await;
    pool.migrate(&migrator).await.expect("migrated");
    let schema = pool.schema(&migrator).await.expect("compared");
    assert_eq!(schema, Schema::Current);
}

#[tokio::test]
async fn a_migration_that_differs_in_the_ends_of_its_lines_only_is_told_so() {
    let (unix, windows) = ("select 1;\nselect 2;\n", "select 1;\r\nselect 2;\r\n");
    let mixed = "select 1;\r\nselect 2;\n";
    for (was, is, said) in [
        (
            unix,
            windows,
            "applied with LF at the ends of its lines, and this program was built from one with CRLF",
        ),
        (
            windows,
            unix,
            "applied with CRLF at the ends of its lines, and this program was built from one with LF",
        ),
        (
            unix,
            mixed,
            "applied with LF at the ends of its lines, and this program was built from one with both kinds",
        ),
    ] {
        let pool = pool_at(&local_postgres::database(), "");
        let with = |text| Migrator::with_migrations(vec![migration(7, text, false)]);
        pool.migrate(&with(was)).await.expect("migrated");
        for error in [
            pool.migrate(&with(is)).await.expect_err("refused"),
            pool.schema(&with(is)).await.expect_err("refused"),
        ] {
            is_refused(&error, said);
            is_refused(&error, ".gitattributes");
            is_refused(&error, "7_test.sql");
        }
        let other = with("select 1;\r\nselect 3;\r\n");
        let error = pool.schema(&other).await.expect_err("refused");
        is_refused(
            &error,
            "migration 7 was previously applied but has been modified",
        );
    }
}

#[tokio::test]
async fn the_databases_of_every_server_are_migrated_only_if_that_is_asked_for() {
    let cluster = local_postgres::Cluster::temporary().expect("a server");
    for name in ["postgres", "template1"] {
        let pool = pool_at(&cluster.url(name), "");
        let error = pool.migrate(&versions(&[1])).await.expect_err("refused");
        is_refused(&error, name);
        is_refused(&error, "MIGRATE=any");
        assert_eq!(applied(&pool).await, [0; 0]);
        pool.migrate_any(&versions(&[1])).await.expect("migrated");
        // Once it is there, it was asked for.
        pool.migrate(&versions(&[1, 2])).await.expect("migrated");
        assert_eq!(applied(&pool).await, [1, 2]);
        pool.close(Duration::from_secs(1)).await;
    }
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
    let pool = pool_at(&support::middleman::pooler().await, "pgbouncer=true");
    let error = pool.migrate(&migrator()).await.expect_err("refused");
    assert!(error.to_string().contains("MIGRATE=false"), "{error}");
}
