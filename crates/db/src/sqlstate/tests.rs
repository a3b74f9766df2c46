//! The table, line by line: a real server gives each code, and what follows is what the table says.

use std::time::Duration;

use local_postgres::Cluster;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::*;
use crate::config::Config;
use crate::error::{Error, is_broken};
use crate::metrics::{CloseReason, Outcome};
use crate::pool::Pool;

/// A pool of three connections, all open, on a fresh database.
async fn pool(parameters: &str) -> (Pool, PgConnection) {
    let url = local_postgres::database();
    let config = format!("{url}?connection_limit=3&{parameters}");
    let pool = Pool::new(Config::parse(&config).expect("a valid URL"));
    let mut admin = PgConnection::connect(&url).await.expect("a connection");
    admin
        .execute(
            "create sequence runs; create function fail(code text) returns int language plpgsql as
             $$ begin perform nextval('runs'); raise exception using errcode = code; end $$",
        )
        .await
        .expect("made");
    warm(&pool).await;
    (pool, admin)
}

async fn warm(pool: &Pool) {
    let leases = [pool.acquire(), pool.acquire(), pool.acquire()];
    drop(futures_util::future::join_all(leases).await);
}

/// How often the function has run.
async fn runs(admin: &mut PgConnection) -> i64 {
    let sql = "select case when is_called then last_value else 0 end from runs";
    let runs = sqlx::query_scalar(sql).fetch_one(&mut *admin).await;
    admin
        .execute("alter sequence runs restart")
        .await
        .expect("restarted");
    runs.expect("a number")
}

/// Waits until nothing is recycled any more, and says how many connections were closed, and how many of them for the server.
async fn closed(pool: &Pool) -> (u64, u64) {
    while pool.stats().in_use > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let closed = pool.stats().closed;
    (closed.iter().sum(), closed[CloseReason::Failover as usize])
}

#[tokio::test]
async fn each_code_has_what_the_table_says_of_it() {
    let (pool, mut admin) = pool("").await;
    for (code, statement, after, loss, client, ..) in TABLE.iter().filter(|row| row.0.len() == 5) {
        warm(&pool).await;
        let (before, changed) = closed(&pool).await;
        let failed = sqlx::query("select fail($1)").bind(*code);
        let error = failed.execute(&pool).await.expect_err("raised");
        assert_eq!(Outcome::of(&error).error_type(), Some(*code));
        assert_eq!(is_broken(&error), *after == Ends, "{code}");
        assert_eq!(
            Error::from(error).is_unavailable(),
            *client == Unavailable || *after == Ends,
            "{code}"
        );
        let expected = match (*code, statement) {
            // This server means something else that it cannot do.
            ("0A000", _) => 1,
            (_, NeverRan | Prepared) => 2,
            _ => 1,
        };
        assert_eq!(runs(&mut admin).await, expected, "{code} {statement:?}");
        let (after_it, changed_since) = closed(&pool).await;
        let gone = match (after, loss) {
            (Ends, Server) => 3,
            (Ends, _) if *statement == NeverRan => 2,
            (Ends, _) | (Stays, ReadOnly) => 1,
            (Stays, _) => 0,
        };
        assert_eq!(after_it - before, gone, "{code}: connections closed");
        let evicted = changed_since > changed;
        assert_eq!(evicted, *loss == Server, "{code}: the others are closed");
    }
}

/// What the server answers, as its severity makes it.
async fn answer(pool: &Pool, sql: &str) -> sqlx::Error {
    let mut lease = pool.acquire().await.expect("a lease");
    let sql = AssertSqlSafe(sql.to_owned());
    lease.execute(sql).await.expect_err("an error")
}

#[tokio::test]
async fn what_a_server_says_by_itself_is_what_the_table_expects() {
    let (pool, mut admin) = pool("lock_timeout=50&statement_timeout=200").await;
    let code = |error: &sqlx::Error| {
        crate::error::code_of(error)
            .unwrap_or_default()
            .into_owned()
    };
    let late = answer(&pool, "select pg_sleep(5)").await;
    assert_eq!((&*code(&late), is_broken(&late)), ("57014", false));
    let mut locker = admin.begin().await.expect("begun");
    locker
        .execute("create table locked (id int); lock table locked")
        .await
        .expect("locked");
    locker
        .execute("select pg_advisory_xact_lock(1)")
        .await
        .expect("locked");
    let locked = answer(&pool, "select pg_advisory_lock(1)").await;
    assert_eq!((&*code(&locked), is_broken(&locked)), ("55P03", false));
    locker.rollback().await.expect("rolled back");
    let ended = answer(&pool, "select pg_terminate_backend(pg_backend_pid())").await;
    assert_eq!((&*code(&ended), is_broken(&ended)), ("57P01", true));
    let written = answer(&pool, "set transaction_read_only = on; create table t ()").await;
    assert_eq!((&*code(&written), is_broken(&written)), ("25006", false));
    let gone = answer(&pool, "execute nothing").await;
    assert_eq!((&*code(&gone), is_broken(&gone)), ("26000", false));
    let paused = "set idle_in_transaction_session_timeout = 20; begin";
    let mut lease = pool.acquire().await.expect("a lease");
    lease.execute(paused).await.expect("begun");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let paused = lease.execute("select 1").await.expect_err("ended");
    assert_eq!((&*code(&paused), is_broken(&paused)), ("25P03", true));
    lease = pool.acquire().await.expect("a lease");
    lease
        .execute("set idle_session_timeout = 20")
        .await
        .expect("set");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let idle = lease.execute("select 1").await.expect_err("ended");
    assert_eq!((&*code(&idle), is_broken(&idle)), ("57P05", true));
    drop(lease);
    assert_eq!(closed(&pool).await.1, 0, "none of it is about the server");
}

#[tokio::test]
async fn a_server_without_room_is_no_wrong_password() {
    let server = Cluster::temporary_with(&[("max_connections", "8")]).expect("a server");
    let mut others = Vec::new();
    let full = loop {
        match PgConnection::connect(&server.url("postgres")).await {
            Ok(other) => others.push(other),
            Err(error) => break error,
        }
    };
    let code = crate::error::code_of(&full).expect("a code");
    assert_eq!((&*code, may_be_credentials(&code)), ("53300", false));
    for (code, may_be) in [
        ("28P01", true),
        ("28000", true),
        ("08P01", true),
        ("3D000", false),
        ("57P03", false),
    ] {
        assert_eq!(may_be_credentials(code), may_be, "{code}");
    }
}
