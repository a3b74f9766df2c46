//! What one caller does to a connection never reaches the next one. Each test shows sqlx's own pool first, where that
//! has the defect.

mod support;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use db::{Error, Isolation, Pool, TransactionOptions};
use futures_util::{StreamExt, TryStreamExt};
use sqlx::{AssertSqlSafe, Connection, Executor};
use support::{dropped_after, plain, pool, pool_at, settled, until};
use tokio::time::timeout;

async fn pid(pool: &Pool) -> i32 {
    sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(pool)
        .await
        .expect("a pid")
}

#[tokio::test]
async fn a_cancelled_begin_leaves_no_transaction_to_the_next_caller() {
    // Outside a transaction `set local` only warns and changes nothing.
    const MARK: &str = "set local application_name = 'inside'";
    const NAME: &str = "select current_setting('application_name')";
    let url = local_postgres::database();

    let theirs = plain(&url, 2).await;
    let mut inside = false;
    for _ in 0..20_000 {
        drop(dropped_after(fastrand::usize(1..10), theirs.begin()).await);
        let mut next = theirs.acquire().await.expect("a connection");
        next.execute(MARK).await.expect("a setting");
        let name: String = sqlx::query_scalar(NAME)
            .fetch_one(&mut *next)
            .await
            .expect("a name");
        inside |= name == "inside";
        if inside {
            break;
        }
    }
    assert!(
        inside,
        "sqlx's own pool hands out a connection inside a stranger's transaction"
    );

    let ours = pool_at(&url, "connection_limit=2");
    for _ in 0..500 {
        let polls = fastrand::usize(1..10);
        drop(dropped_after(polls, ours.begin()).await);
        let mut next = ours.acquire().await.expect("a connection");
        next.execute(MARK).await.expect("a setting");
        let name: String = sqlx::query_scalar(NAME)
            .fetch_one(&mut *next)
            .await
            .expect("a name");
        assert_ne!(name, "inside", "after {polls} polls");
    }
    settled(&ours).await;
}

#[tokio::test]
async fn commit_of_a_failed_transaction_is_an_error() {
    let url = local_postgres::database();
    let theirs = plain(&url, 1).await;
    let mut tx = theirs.begin().await.expect("a transaction");
    tx.execute("create table theirs ()").await.expect("a table");
    tx.execute("select 1 / 0")
        .await
        .expect_err("a division by zero");
    assert!(
        tx.commit().await.is_ok(),
        "sqlx's own transaction says that it was committed"
    );

    let ours = pool_at(&url, "connection_limit=1");
    let mut tx = ours.begin().await.expect("a transaction");
    tx.execute("create table ours ()").await.expect("a table");
    tx.execute("select 1 / 0")
        .await
        .expect_err("a division by zero");
    match tx.commit().await {
        Err(Error::TransactionFailed(cause)) => {
            assert!(cause.contains("division by zero"), "{cause}")
        }
        other => panic!("{other:?}"),
    }
    let tables: i64 =
        sqlx::query_scalar("select count(*) from pg_tables where tablename in ('theirs', 'ours')")
            .fetch_one(&ours)
            .await
            .expect("a count");
    assert_eq!(tables, 0, "neither was committed");
}

#[tokio::test]
async fn commit_succeeds_after_a_rollback_to_a_savepoint() {
    let pool = pool("connection_limit=1");
    let mut tx = pool.begin().await.expect("a transaction");
    tx.execute("create table kept ()").await.expect("a table");
    sqlx::query("savepoint here")
        .execute(&mut *tx)
        .await
        .expect("a savepoint");
    sqlx::query("select 1 / 0")
        .execute(&mut *tx)
        .await
        .expect_err("a division by zero");
    sqlx::query("rollback to here")
        .execute(&mut *tx)
        .await
        .expect("a rollback");
    tx.commit().await.expect("a commit");
    sqlx::query("select from kept")
        .execute(&pool)
        .await
        .expect("the table is there");
}

#[tokio::test]
async fn a_dropped_transaction_is_rolled_back_and_its_connection_kept() {
    let pool = pool("connection_limit=1");
    let before = pid(&pool).await;
    let mut tx = pool.begin().await.expect("a transaction");
    tx.execute("create table gone ()").await.expect("a table");
    drop(tx);
    sqlx::query("select from gone")
        .execute(&pool)
        .await
        .expect_err("no such table");
    assert_eq!(pid(&pool).await, before);
    settled(&pool).await;
}

#[tokio::test]
async fn a_panic_while_holding_harms_nobody() {
    let pool = pool("connection_limit=1");
    let task = tokio::spawn({
        let pool = pool.clone();
        async move {
            let mut tx = pool.begin().await.expect("a transaction");
            tx.execute("create table gone ()").await.expect("a table");
            panic!("as told");
        }
    });
    task.await.expect_err("a panic");
    sqlx::query("select from gone")
        .execute(&pool)
        .await
        .expect_err("no such table");
    settled(&pool).await;
}

#[tokio::test]
async fn session_settings_do_not_reach_the_next_caller() {
    let pool = pool("connection_limit=1");
    for change in [
        "set search_path to nowhere",
        "begin",
        "listen channel",
        "select pg_advisory_lock(1); set role pg_monitor",
    ] {
        pool.execute(AssertSqlSafe(change)).await.expect("a change");
        let (path, role): (String, String) =
            sqlx::query_as("select current_setting('search_path'), current_user")
                .fetch_one(&pool)
                .await
                .expect("an answer");
        assert_eq!(
            (path.as_str(), role.as_str()),
            ("\"$user\", public", "postgres"),
            "after {change}"
        );
        let locks: i64 =
            sqlx::query_scalar("select count(*) from pg_locks where locktype = 'advisory'")
                .fetch_one(&pool)
                .await
                .expect("a count");
        let channels: i64 = sqlx::query_scalar("select count(*) from pg_listening_channels()")
            .fetch_one(&pool)
            .await
            .expect("a count");
        assert_eq!((locks, channels), (0, 0), "after {change}");
        pool.execute("create table if not exists visible ()")
            .await
            .expect("not in a transaction");
    }
    settled(&pool).await;
}

// 2.2: sqlx's own pool lets the statement run on and the next caller wait for it
#[tokio::test]
async fn a_statement_nobody_waits_for_is_cancelled_and_its_connection_kept() {
    let url = local_postgres::database();
    let theirs = plain(&url, 1).await;
    let started = Instant::now();
    timeout(
        Duration::from_millis(100),
        theirs.execute("select pg_sleep(2)"),
    )
    .await
    .expect_err("given up");
    theirs.execute("select 1").await.expect("an answer");
    assert!(
        started.elapsed() > Duration::from_millis(1500),
        "sqlx's own pool waits for the forgotten statement"
    );

    let ours = pool_at(&url, "connection_limit=1");
    let before = pid(&ours).await;
    let started = Instant::now();
    timeout(
        Duration::from_millis(100),
        ours.execute("select pg_sleep(2)"),
    )
    .await
    .expect_err("given up");
    assert_eq!(pid(&ours).await, before, "the same connection");
    assert!(
        started.elapsed() < Duration::from_millis(1000),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(ours.stats().recycled, 1);
}

#[tokio::test]
async fn a_changed_table_heals_unseen() {
    let url = local_postgres::database();
    let theirs = plain(&url, 1).await;
    theirs
        .execute("create table thing (id int); insert into thing values (1)")
        .await
        .expect("a table");
    theirs
        .fetch_all(sqlx::query("select * from thing"))
        .await
        .expect("rows");
    theirs
        .execute("alter table thing add column name text")
        .await
        .expect("a change");
    theirs
        .fetch_all(sqlx::query("select * from thing"))
        .await
        .expect_err("sqlx's own pool passes the error on");

    let ours = pool_at(&url, "connection_limit=1");
    for kind in ["bigint", "text", "varchar(10)"] {
        let rows = ours
            .fetch_all(sqlx::query("select *, id as again from thing where id::int = $1").bind(1))
            .await
            .expect("rows");
        assert_eq!(rows.len(), 1);
        ours.execute(AssertSqlSafe(format!(
            "alter table thing alter column id type {kind}"
        )))
        .await
        .expect("a change");
        let rows: Vec<_> = ours
            .fetch(sqlx::query("select *, id as again from thing where id::int = $1").bind(1))
            .try_collect()
            .await
            .expect("rows as a stream");
        assert_eq!(rows.len(), 1);
        ours.execute(AssertSqlSafe(format!(
            "alter table thing add column c_{} int",
            kind.len()
        )))
        .await
        .expect("a change");
    }
    settled(&ours).await;
}

#[tokio::test]
async fn a_changed_table_heals_in_a_transaction_too() {
    let url = local_postgres::database();
    let pool = pool_at(&url, "connection_limit=1");
    pool.execute("create table thing (id int); insert into thing values (1)")
        .await
        .expect("a table");
    let read = || sqlx::query("select * from thing where id::text <> $1").bind("0");
    let add = async |column: &str| {
        let mut other = sqlx::PgConnection::connect(&url).await.expect("one");
        let sql = format!("alter table thing add column {column} int");
        other.execute(AssertSqlSafe(sql)).await.expect("a change");
    };
    let serializable = TransactionOptions {
        isolation: Isolation::Serializable,
        retries: 1,
        ..TransactionOptions::default()
    };
    pool.fetch_all(read()).await.expect("rows");
    add("a").await;
    let mut transaction = pool.begin_with(serializable).await.expect("begun");
    let first = transaction.fetch_all(read()).await;
    assert_eq!(first.expect("its first statement").len(), 1);
    let told: String = sqlx::query_scalar("show transaction_isolation")
        .fetch_one(&mut *transaction)
        .await
        .expect("a setting");
    assert_eq!(told, "serializable", "begun again as it was");
    let write = sqlx::query("insert into thing values ($1)").bind(2);
    write.execute(&mut *transaction).await.expect("written");
    transaction.commit().await.expect("committed");

    // Later on it fails once, because what came before would be lost; the closure that may run again does.
    add("b").await;
    let runs = AtomicU32::new(0);
    let done = pool.transaction(serializable, async |mut transaction| {
        runs.fetch_add(1, Relaxed);
        let write = sqlx::query("insert into thing values ($1)").bind(3);
        write.execute(&mut *transaction).await?;
        Ok::<_, Error>(transaction.fetch_all(read()).await?.len())
    });
    assert_eq!(done.await.expect("committed"), 3);
    assert_eq!(runs.load(Relaxed), 2);

    add("c").await;
    let mut transaction = pool.begin().await.expect("begun");
    let write = sqlx::query("insert into thing values ($1)").bind(4);
    write.execute(&mut *transaction).await.expect("written");
    let stale = transaction.fetch_all(read()).await;
    stale.expect_err("it would be half of a transaction");
    assert!(transaction.commit().await.is_err());
    let mut transaction = pool.begin().await.expect("begun");
    let write = sqlx::query("insert into thing values ($1)").bind(4);
    write.execute(&mut *transaction).await.expect("written");
    assert_eq!(transaction.fetch_all(read()).await.expect("rows").len(), 4);
    transaction.commit().await.expect("committed");
    settled(&pool).await;
}

#[tokio::test]
async fn a_statement_cache_of_zero_leaks_nothing() {
    let prepared = "select count(*) from pg_prepared_statements";
    let url = local_postgres::database();
    #[expect(clippy::disallowed_methods, reason = "the comparison is the point")]
    let theirs = sqlx::postgres::PgPoolOptions::new()
        .max_connections(1)
        .connect_with(
            url.parse::<sqlx::postgres::PgConnectOptions>()
                .expect("options")
                .statement_cache_capacity(0),
        )
        .await
        .expect("a connection");
    let ours = pool_at(&url, "connection_limit=1&statement_cache_size=0");
    for n in 0..100 {
        sqlx::query("select $1")
            .bind(n)
            .execute(&theirs)
            .await
            .expect("an answer");
        sqlx::query("select $1")
            .bind(n)
            .execute(&ours)
            .await
            .expect("an answer");
    }
    let leaked: i64 = sqlx::query_scalar(prepared)
        .fetch_one(&theirs)
        .await
        .expect("a count");
    assert!(leaked >= 100, "sqlx's own pool leaks {leaked} statements");
    let kept: i64 = sqlx::query_scalar(prepared)
        .fetch_one(&ours)
        .await
        .expect("a count");
    assert!(kept <= 2, "{kept}");
}

#[tokio::test]
async fn a_stream_holds_its_connection_until_it_ends() {
    let pool = pool("connection_limit=1");
    let mut rows = sqlx::query_scalar::<_, i32>("select generate_series(1, 100000)").fetch(&pool);
    assert_eq!(rows.next().await.expect("a row").expect("a number"), 1);
    assert_eq!(pool.stats().in_use, 1);
    drop(rows);
    let one: i32 = sqlx::query_scalar("select 1")
        .fetch_one(&pool)
        .await
        .expect("an answer of its own");
    assert_eq!(one, 1);
    settled(&pool).await;
}

#[tokio::test]
async fn a_statement_over_its_deadline_is_an_error_that_says_so() {
    let pool = pool("connection_limit=1&socket_timeout=100ms&statement_timeout=0");
    let started = Instant::now();
    let error = Error::from(
        pool.execute("select pg_sleep(5)")
            .await
            .expect_err("too long"),
    );
    assert!(matches!(error, Error::StatementTimeout(_)), "{error:?}");
    assert!(error.is_unavailable());
    assert!(started.elapsed() < Duration::from_millis(600));
    pool.execute("select 1").await.expect("the pool goes on");
    settled(&pool).await;
}

#[tokio::test]
async fn the_server_ends_a_statement_over_its_own_deadline_and_the_connection_stays() {
    let pool = pool("connection_limit=1&statement_timeout=50");
    let before = pid(&pool).await;
    let error = Error::from(
        pool.execute("select pg_sleep(5)")
            .await
            .expect_err("too long"),
    );
    assert_eq!(
        error
            .as_database()
            .and_then(|error| error.code())
            .as_deref(),
        Some("57014")
    );
    assert_eq!(pid(&pool).await, before);
}

#[tokio::test]
async fn a_conflicting_transaction_runs_again() {
    let pool = pool("connection_limit=8");
    pool.execute("create table counter (n int); insert into counter values (0)")
        .await
        .expect("a table");
    let options = TransactionOptions {
        isolation: Isolation::Serializable,
        retries: 50,
        ..TransactionOptions::default()
    };
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let pool = pool.clone();
            // Spawned: the future of a transaction has to be Send for axum's sake.
            tokio::spawn(async move {
                let steps = vec![1];
                pool.transaction(options, async |mut tx| {
                    let n: i32 = sqlx::query_scalar("select n from counter")
                        .fetch_one(&mut *tx)
                        .await?;
                    tokio::task::yield_now().await;
                    for step in &steps {
                        let update = sqlx::query("update counter set n = $1").bind(n + step);
                        update.execute(&mut *tx).await?;
                    }
                    Ok::<_, Error>(n)
                })
                .await
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic").expect("a commit");
    }
    let n: i32 = sqlx::query_scalar("select n from counter")
        .fetch_one(&pool)
        .await
        .expect("a number");
    assert_eq!(n, 8, "every increment counts once");
    settled(&pool).await;
}

/// Three connections to a server of their own, with a table in it.
async fn three(server: &local_postgres::Cluster) -> db::Pool {
    let pool = pool_at(&server.url("postgres"), "connection_limit=3");
    pool.execute("create table thing (id int)")
        .await
        .expect("a table");
    drop(
        futures_util::future::try_join_all((0..3).map(|_| pool.acquire()))
            .await
            .expect("three leases"),
    );
    until("three are idle", async || pool.stats().idle == 3).await;
    pool
}

/// Writes, which is refused.
async fn write_in_vain(lease: &mut db::Lease) {
    let insert = sqlx::query("insert into thing values (1)");
    let error = insert.execute(&mut **lease).await.expect_err("read-only");
    let error = Error::from(error);
    let code = error.as_database().and_then(|error| error.code());
    assert_eq!(code.as_deref(), Some("25006"));
    assert!(error.is_unavailable());
}

#[tokio::test]
async fn a_server_that_has_become_read_only_retires_its_generation() {
    let server = local_postgres::Cluster::temporary().expect("a server");
    let pool = three(&server).await;
    let all = |value: &str| {
        let sql = format!(
            "alter system set default_transaction_read_only = {value}; select pg_reload_conf()"
        );
        server.sql("postgres", &sql).expect("set");
    };
    let mut lease = pool.acquire().await.expect("a lease");
    all("on");
    until("the session knows", async || {
        let shown = sqlx::query_scalar::<_, String>("show default_transaction_read_only");
        shown.fetch_one(&mut *lease).await.expect("a setting") == "on"
    })
    .await;
    write_in_vain(&mut lease).await;
    drop(lease);
    until("the generation is gone", async || {
        pool.stats().closed.iter().sum::<u64>() == 3
    })
    .await;
    all("off");
    until("a new generation writes", async || {
        let insert = sqlx::query("insert into thing values (1)");
        insert.execute(&pool).await.is_ok()
    })
    .await;
    settled(&pool).await;
}

#[tokio::test]
async fn a_session_that_takes_no_writes_says_nothing_of_its_server() {
    let server = local_postgres::Cluster::temporary().expect("a server");
    let pool = three(&server).await;
    let mut lease = pool.acquire().await.expect("a lease");
    sqlx::query("set default_transaction_read_only = on")
        .execute(&mut *lease)
        .await
        .expect("set");
    write_in_vain(&mut lease).await;
    drop(lease);
    settled(&pool).await;
    let closed = pool.stats().closed;
    assert_eq!(closed[db::CloseReason::Failover as usize], 0, "{closed:?}");
    assert_eq!(closed.iter().sum::<u64>(), 1, "only the one: {closed:?}");
    let insert = sqlx::query("insert into thing values (1)");
    insert.execute(&pool).await.expect("another one writes");
}

#[tokio::test]
async fn ordinary_statements_are_followed_by_no_warning_of_the_server() {
    let server = local_postgres::Cluster::temporary().expect("a server");
    let pool = pool_at(&server.url("postgres"), "connection_limit=1");
    for sql in [
        "create table t (n int)",
        "create materialized view v as select 1",
        "create procedure p() language sql as 'select 1'",
        "truncate t",
        "show search_path",
        "explain select 1",
        "notify n",
        "analyze t",
        "refresh materialized view v",
        "alter table t add m int",
        "comment on table t is 'x'",
        "vacuum t",
        "drop materialized view v",
    ] {
        pool.execute(sql).await.expect(sql);
    }
    assert_eq!(pool.stats().recycled, 0, "nothing had to be undone");
    for sql in [
        "call p()",
        "do $$ begin end $$",
        "select 1; select 2",
        "set a.b = 'c'",
    ] {
        pool.execute(sql).await.expect(sql);
        settled(&pool).await;
    }
    let setting: Option<String> = sqlx::query_scalar("select current_setting('a.b', true)")
        .fetch_one(&pool)
        .await
        .expect("an answer");
    assert!(setting.unwrap_or_default().is_empty(), "reset");
    let log = std::fs::read_to_string(server.log_file()).expect("a log");
    assert!(!log.contains("WARNING"), "{log}");
}
