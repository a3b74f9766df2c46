//! A connection lent as sqlx's own comes back to the pool if it is sound, and its caller's traces are gone; else it is closed.

mod support;

use std::mem::swap;
use std::time::Duration;

use db::{CloseReason, Connection, Lease, Pool};
use futures_util::StreamExt;
use sqlx::{Acquire, Connection as _, Executor, PgConnection};
use support::{plain, pool, settled};
use tokio::time::timeout;

/// How sqlx's users write a function that runs statements.
async fn store(connection: &mut PgConnection, n: i32) -> Result<(), sqlx::Error> {
    let insert = sqlx::query("insert into t values ($1)").bind(n);
    insert.execute(connection).await.map(drop)
}

async fn pid(pool: &Pool) -> i32 {
    let pid = sqlx::query_scalar("select pg_backend_pid()");
    pid.fetch_one(pool).await.expect("a pid")
}

/// The connection has come back: still the one with this pid, or closed as lent.
async fn came_back(pool: &Pool, before: i32) {
    let what = format!("{:?}", pool.stats());
    assert_eq!(pid(pool).await, before, "{what}");
    assert_eq!(closed(pool), 0, "{what}");
}

fn closed(pool: &Pool) -> u64 {
    pool.stats().closed[CloseReason::Lent as usize]
}

/// What the next caller must find.
async fn is_as_new(pool: &Pool) {
    let sql = "select current_setting('application_name') like 'lent-% #%' \
               and not exists (select from pg_listening_channels()) \
               and not exists (select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) \
               and not exists (select from pg_prepared_statements where name = 'mine') \
               and pg_current_xact_id_if_assigned() is null";
    let is_new = sqlx::query_scalar(sql).fetch_one(pool).await;
    assert_eq!(is_new.map_err(|error| error.to_string()), Ok(true));
}

#[tokio::test]
async fn a_function_for_a_pg_connection_takes_a_transaction_and_a_lease() {
    let pool = pool("connection_limit=1");
    pool.execute("create table t (n int)").await.expect("made");
    let before = pid(&pool).await;
    for _ in 0..20 {
        let mut tx = pool.begin().await.expect("begun");
        store(&mut tx, 1).await.expect("stored");
        store(tx.as_mut(), 2).await.expect("stored");
        let mut inner = tx.begin().await.expect("a savepoint");
        store(&mut inner, 3).await.expect("stored");
        inner.rollback().await.expect("undone");
        tx.commit().await.expect("committed");
        let mut lease = pool.acquire().await.expect("a lease");
        store(&mut lease, 4).await.expect("stored");
    }
    came_back(&pool, before).await;
    let sum: i64 = sqlx::query_scalar("select sum(n) from t")
        .fetch_one(&pool)
        .await
        .expect("a sum");
    assert_eq!(sum, 20 * (1 + 2 + 4));
    settled(&pool).await;
}

// sqlx's own pool hands all of this to the next caller.
#[tokio::test]
async fn what_was_done_to_a_lent_connection_is_undone() {
    const DONE: [&str; 6] = [
        "set application_name to 'poisoned'",
        "listen somebody",
        "select pg_advisory_lock(1)",
        "prepare mine as select 1",
        "begin",
        "begin; create table gone ()",
    ];
    let pool = pool("connection_limit=1");
    let before = pid(&pool).await;
    for sql in DONE {
        let mut lease = pool.acquire().await.expect("a lease");
        lease.as_mut().execute(sql).await.expect("done");
        drop(lease);
        is_as_new(&pool).await;
    }
    let exists: bool = sqlx::query_scalar("select to_regclass('gone') is not null")
        .fetch_one(&pool)
        .await
        .expect("an answer");
    assert!(!exists, "rolled back");
    came_back(&pool, before).await;
    settled(&pool).await;

    let theirs = plain(&local_postgres::database(), 1).await;
    theirs.execute(DONE[0]).await.expect("done");
    let poisoned: String = sqlx::query_scalar("show application_name")
        .fetch_one(&theirs)
        .await
        .expect("a name");
    assert_eq!(poisoned, "poisoned", "with sqlx's own pool");
}

#[tokio::test]
async fn a_transaction_forgotten_on_a_lent_connection_is_rolled_back() {
    let pool = pool("connection_limit=1");
    let before = pid(&pool).await;
    let mut lease = pool.acquire().await.expect("a lease");
    let forgotten = sqlx::Connection::begin(lease.as_mut())
        .await
        .expect("begun");
    std::mem::forget(forgotten);
    drop(lease);
    is_as_new(&pool).await;
    came_back(&pool, before).await;
    settled(&pool).await;
}

#[tokio::test]
async fn a_copy_given_up_half_way_harms_nobody() {
    let pool = pool("connection_limit=1");
    pool.execute("create table t (n int)").await.expect("made");
    for forgotten in [false, true] {
        let mut lease = pool.acquire().await.expect("a lease");
        let mut copy = lease
            .as_mut()
            .copy_in_raw("copy t from stdin")
            .await
            .expect("begun");
        copy.send(b"1\n".as_slice()).await.expect("sent");
        match forgotten {
            true => std::mem::forget(copy),
            false => drop(copy),
        }
        drop(lease);
        is_as_new(&pool).await;

        let mut lease = pool.acquire().await.expect("a lease");
        let sql = "copy (select generate_series(1, 1000000)) to stdout";
        let mut rows = lease.as_mut().copy_out_raw(sql).await.expect("begun");
        rows.next().await.expect("some").expect("bytes");
        match forgotten {
            true => std::mem::forget(rows),
            false => drop(rows),
        }
        drop(lease);
        is_as_new(&pool).await;
    }
    let rows: i64 = sqlx::query_scalar("select count(*) from t")
        .fetch_one(&pool)
        .await
        .expect("a count");
    assert_eq!(rows, 0, "nothing of what was given up is stored");
    settled(&pool).await;
}

#[tokio::test]
async fn a_connection_that_was_swapped_for_another_is_closed() {
    let pool = pool("connection_limit=3");
    let [mut first, mut second]: [Lease; 2] = [
        pool.acquire().await.expect("a lease"),
        pool.acquire().await.expect("a lease"),
    ];
    // Between the leases nothing is mixed up: a connection and its record go together.
    swap::<Connection>(&mut first, &mut second);
    drop((first, second));
    settled(&pool).await;
    assert_eq!(closed(&pool), 0, "{:?}", pool.stats());

    let mut first = pool.acquire().await.expect("a lease");
    let mut second = pool.acquire().await.expect("a lease");
    swap::<PgConnection>(&mut first, &mut second);
    drop((first, second));
    settled(&pool).await;
    assert_eq!(closed(&pool), 2, "{:?}", pool.stats());

    let other = local_postgres::database();
    let mut foreign = PgConnection::connect(&other).await.expect("a connection");
    let mut lease = pool.acquire().await.expect("a lease");
    swap::<PgConnection>(&mut lease, &mut foreign);
    drop(lease);
    settled(&pool).await;
    assert_eq!(closed(&pool), 3, "{:?}", pool.stats());
    let ours: String = sqlx::query_scalar("select current_database()")
        .fetch_one(&pool)
        .await
        .expect("a name");
    assert!(!other.contains(&ours), "{ours} is not the foreign one");
}

#[tokio::test]
async fn a_lent_connection_that_hangs_is_closed_and_its_permit_comes_back() {
    let pool = pool("connection_limit=1");
    let mut lease = pool.acquire().await.expect("a lease");
    let sleep = lease.as_mut().execute("select pg_sleep(3)");
    timeout(Duration::from_millis(50), sleep)
        .await
        .expect_err("too long");
    drop(lease);
    let next = timeout(Duration::from_secs(2), pool.acquire()).await;
    drop(next.expect("soon").expect("a lease"));
    settled(&pool).await;
}

#[tokio::test]
async fn sqlx_acquire_takes_a_lease_and_a_transaction() {
    async fn store_two<'c>(
        db: impl Acquire<'c, Database = sqlx::Postgres>,
    ) -> Result<(), sqlx::Error> {
        let mut tx = db.begin().await?;
        store(&mut tx, 1).await?;
        store(&mut tx, 2).await?;
        tx.commit().await
    }
    let pool = pool("connection_limit=1");
    pool.execute("create table t (n int)").await.expect("made");
    let mut lease = pool.acquire().await.expect("a lease");
    store_two(&mut lease).await.expect("a transaction");
    drop(lease);
    let mut tx = pool.begin().await.expect("begun");
    store_two(&mut tx).await.expect("a savepoint");
    tx.rollback().await.expect("undone");
    let rows: i64 = sqlx::query_scalar("select count(*) from t")
        .fetch_one(&pool)
        .await
        .expect("a count");
    assert_eq!(rows, 2);
    settled(&pool).await;
}
