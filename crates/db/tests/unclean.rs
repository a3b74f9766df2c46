//! What a caller does to a session by the way, half-way or behind our back is undone, and harms no neighbour.

mod support;

use std::time::{Duration, Instant};

use db::{CloseReason, Error, Pool, TransactionOptions};
use futures_util::StreamExt;
use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Executor, Row, SqlStr, Statement};
use support::proxy::Proxy;
use support::{dropped_after, plain, pool, pool_at, settled, until};
use tokio::time::sleep;

const LOCKS: &str = "pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";
const LEFTOVER: &str = "pg_class where relname = 'leftover'";

/// Opens so many connections.
async fn warm(pool: &Pool, connections: u32) {
    drop(join_all((0..connections).map(|_| pool.acquire())).await);
    until("all are open", async || pool.stats().idle == connections).await;
}

async fn is_poisoned(pool: &Pool) -> bool {
    sqlx::query_scalar("select current_setting('application_name') = 'poisoned'")
        .fetch_one(pool)
        .await
        .expect("an answer")
}

async fn count(pool: &Pool, from: &'static str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {from}")))
        .fetch_one(pool)
        .await
        .expect("a count")
}

/// Outside a transaction `set local` only warns and changes nothing.
async fn is_in_a_transaction(pool: &Pool) -> bool {
    let mut lease = pool.acquire().await.expect("a lease");
    (&mut lease)
        .execute("set local application_name = 'local'")
        .await
        .expect("a setting");
    sqlx::query_scalar("select current_setting('application_name') = 'local'")
        .fetch_one(&mut *lease)
        .await
        .expect("an answer")
}

fn closed(pool: &Pool, reason: CloseReason) -> u64 {
    pool.stats().closed[reason as usize]
}

#[tokio::test]
async fn a_dropped_set_is_undone() {
    let pool = pool("connection_limit=1");
    warm(&pool, 1).await;
    for polls in (1..6).cycle().take(50) {
        drop(dropped_after(polls, pool.execute("set application_name to 'poisoned'")).await);
        assert!(!is_poisoned(&pool).await, "after {polls} polls");
    }
    settled(&pool).await;
}

#[tokio::test]
async fn a_dropped_begin_is_rolled_back() {
    let pool = pool("connection_limit=1");
    warm(&pool, 1).await;
    for polls in (1..6).cycle().take(50) {
        drop(dropped_after(polls, pool.execute("begin")).await);
        assert!(!is_in_a_transaction(&pool).await, "after {polls} polls");
    }
    settled(&pool).await;
}

#[tokio::test]
async fn a_begin_over_its_deadline_is_rolled_back() {
    let pool = pool("connection_limit=1&socket_timeout=100ms");
    warm(&pool, 1).await;
    let error = Error::from(
        pool.execute("begin; select pg_sleep(3)")
            .await
            .expect_err("too long"),
    );
    assert!(matches!(error, Error::StatementTimeout(_)), "{error:?}");
    assert!(!is_in_a_transaction(&pool).await);
    settled(&pool).await;
}

#[tokio::test]
async fn what_was_done_to_a_lent_connection_does_not_outlive_its_transaction() {
    let pool = pool("connection_limit=1");
    let mut tx = pool.begin().await.expect("a transaction");
    tx.as_mut()
        .execute("set application_name to 'poisoned'")
        .await
        .expect("a setting");
    tx.commit().await.expect("a commit");
    assert!(!is_poisoned(&pool).await);
}

#[tokio::test]
async fn commit_is_an_error_after_a_failure_on_a_lent_connection() {
    let pool = pool("connection_limit=1");
    let mut tx = pool.begin().await.expect("a transaction");
    tx.execute("create table lost ()").await.expect("a table");
    tx.as_mut()
        .execute("select 1 / 0")
        .await
        .expect_err("a division by zero");
    let error = tx.commit().await.expect_err("it was rolled back");
    assert!(matches!(error, Error::TransactionFailed(_)), "{error:?}");
    assert_eq!(count(&pool, "pg_tables where tablename = 'lost'").await, 0);
}

#[tokio::test]
async fn a_lock_taken_by_a_select_is_released() {
    let pool = pool("connection_limit=1");
    sqlx::query("select pg_advisory_lock(7)")
        .execute(&pool)
        .await
        .expect("a lock");
    assert_eq!(count(&pool, LOCKS).await, 0);
}

#[tokio::test]
async fn a_setting_changed_by_a_select_is_undone() {
    let pool = pool("connection_limit=1");
    sqlx::query("select set_config('application_name', 'poisoned', false)")
        .execute(&pool)
        .await
        .expect("a setting");
    assert!(!is_poisoned(&pool).await);
}

#[tokio::test]
async fn a_temporary_table_made_by_a_select_is_gone() {
    let pool = pool("connection_limit=1");
    sqlx::query("select 1 as x into temp leftover")
        .execute(&pool)
        .await
        .expect("a table");
    assert_eq!(count(&pool, LEFTOVER).await, 0);
}

#[tokio::test]
async fn capitals_and_line_breaks_hide_no_select_that_lasts() {
    let pool = pool("connection_limit=1");
    let mut hidden = Vec::new();
    for sql in [
        "SELECT PG_ADVISORY_LOCK(7)",
        "SELECT SET_CONFIG('application_name', 'poisoned', false)",
        "SELECT 1 AS x INTO TEMPORARY TABLE leftover",
        "select 1 as x into\n    temp leftover",
    ] {
        sqlx::query(sql).execute(&pool).await.expect("an answer");
        let left = count(&pool, LOCKS).await + count(&pool, LEFTOVER).await;
        if left > 0 || is_poisoned(&pool).await {
            hidden.push(sql);
            pool.execute("discard all").await.expect("a clean session");
        }
    }
    assert!(hidden.is_empty(), "{hidden:?}");
}

#[tokio::test]
async fn a_comment_hides_no_statement() {
    let pool = pool("connection_limit=1");
    for sql in [
        "-- Select the tenant\nset application_name to 'poisoned'",
        "/* update */ set application_name to 'poisoned'",
        "/* /* nested */ select */ set application_name to 'poisoned'",
    ] {
        sqlx::query(sql).execute(&pool).await.expect("a setting");
        assert!(!is_poisoned(&pool).await, "after {sql}");
    }
}

#[tokio::test]
async fn a_prepared_name_does_not_reach_the_next_caller() {
    let pool = pool("connection_limit=1");
    pool.execute("prepare mine as select 1")
        .await
        .expect("prepared");
    let left = count(&pool, "pg_prepared_statements where name = 'mine'").await;
    assert_eq!(left, 0);
}

#[tokio::test]
async fn discard_all_breaks_no_statement_of_a_later_transaction() {
    let pool = pool("connection_limit=1");
    let query = || sqlx::query_scalar::<_, i32>("select $1::int4").bind(1);
    query().fetch_one(&pool).await.expect("prepared and cached");
    pool.execute("discard all").await.expect("discarded");
    let mut tx = pool.begin().await.expect("a transaction");
    let one = query().fetch_one(&mut *tx).await.expect("prepared anew");
    assert_eq!(one, 1);
}

#[tokio::test]
async fn a_missing_argument_harms_no_neighbour() {
    let pool = pool("connection_limit=6");
    warm(&pool, 6).await;
    for _ in 0..3 {
        sqlx::query("select $1::int, $2::int")
            .bind(1)
            .execute(&pool)
            .await
            .expect_err("one argument of two");
    }
    settled(&pool).await;
    assert_eq!(
        closed(&pool, CloseReason::Failover),
        0,
        "{:?}",
        pool.stats()
    );
}

#[tokio::test]
async fn closed_leases_harm_no_neighbour() {
    let pool = pool("connection_limit=6");
    warm(&pool, 6).await;
    for _ in 0..3 {
        pool.acquire().await.expect("a lease").close();
    }
    settled(&pool).await;
    assert_eq!(closed(&pool, CloseReason::Lent), 3, "{:?}", pool.stats());
    assert_eq!(
        closed(&pool, CloseReason::Failover),
        0,
        "{:?}",
        pool.stats()
    );
}

#[tokio::test]
async fn a_write_in_a_read_only_transaction_costs_no_connection() {
    let pool = pool("connection_limit=4");
    pool.execute("create table thing (id int)")
        .await
        .expect("a table");
    warm(&pool, 4).await;
    let options = TransactionOptions {
        read_only: true,
        ..TransactionOptions::default()
    };
    let mut tx = pool.begin_with(options).await.expect("a transaction");
    sqlx::query("insert into thing values (1)")
        .execute(&mut *tx)
        .await
        .expect_err("read only");
    drop(tx);
    settled(&pool).await;
    let stats = pool.stats();
    assert_eq!(stats.closed.iter().sum::<u64>(), 0, "{stats:?}");
}

#[tokio::test]
async fn late_streams_are_cancelled_and_their_connections_kept() {
    let url = local_postgres::database();
    let pool = pool_at(
        &url,
        "connection_limit=6&socket_timeout=100ms&statement_timeout=0",
    );
    let server = plain(&url, 1).await;
    warm(&pool, 6).await;
    for _ in 0..3 {
        let mut rows = sqlx::query("select pg_sleep(60)").fetch(&pool);
        let row = rows.next().await.expect("an item");
        let error = Error::from(row.map(drop).expect_err("too long"));
        assert!(matches!(error, Error::StatementTimeout(_)), "{error:?}");
    }
    until("none of them runs on", async || {
        let running: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active' and datname = current_database()",
        )
        .fetch_one(&server)
        .await
        .expect("a count");
        running == 0
    })
    .await;
    settled(&pool).await;
    let stats = pool.stats();
    assert_eq!(stats.closed.iter().sum::<u64>(), 0, "{stats:?}");
}

#[tokio::test]
async fn a_prepared_statement_sees_the_columns_of_a_changed_table() {
    let pool = pool("connection_limit=1");
    pool.execute("create table thing (id int); insert into thing values (5)")
        .await
        .expect("a table");
    let statement = (&pool)
        .prepare(SqlStr::from_static("select * from thing"))
        .await
        .expect("a statement");
    statement.query().fetch_one(&pool).await.expect("a row");
    pool.execute("alter table thing alter column id type text, add column more int default 3")
        .await
        .expect("a change");
    let row = statement.query().fetch_one(&pool).await.expect("a row");
    assert_eq!(row.try_get::<String, _>("id").expect("a text"), "5");
    assert_eq!(row.try_get::<i32, _>("more").expect("a number"), 3);
}

#[tokio::test]
async fn prepare_ends_on_a_network_that_swallows_everything() {
    let (server, url) = (local_postgres::shared(), local_postgres::database());
    let proxy = Proxy::start(server.port(), Duration::ZERO).await;
    let pool = pool_at(
        &proxy.url(&url, server.port()),
        "connection_limit=1&socket_timeout=300ms&connect_timeout=300ms",
    );
    warm(&pool, 1).await;
    proxy.swallow(true);
    let started = Instant::now();
    let answer = (&pool).prepare(SqlStr::from_static("select 5"));
    let error = tokio::time::timeout(Duration::from_secs(3), answer)
        .await
        .expect("an end");
    let error = Error::from(error.map(drop).expect_err("no answer"));
    assert!(
        matches!(error, Error::StatementTimeout(_)),
        "{error:?} after {:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn the_time_a_holder_has_waited_is_not_held_against_it() {
    let pool = pool("connection_limit=1&pool_timeout=500ms");
    let first = pool.acquire().await.expect("a lease");
    let second = tokio::spawn(pool.acquire());
    // The wait that must not count.
    sleep(Duration::from_millis(400)).await;
    drop(first);
    let second = second.await.expect("no panic").expect("a lease");
    let Err(Error::PoolTimeout(timeout)) = pool.acquire().await else {
        panic!("the only connection is held");
    };
    let (_, held) = timeout.longest.as_ref().expect("a holder");
    assert!(
        *held < timeout.waited + Duration::from_millis(250),
        "held for as long as this one has waited: {timeout}"
    );
    drop(second);
}
