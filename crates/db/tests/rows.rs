//! The rows of a stream: when they come, when the connection goes back, and what waits for whom.

mod support;

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use sqlx::{Executor as _, PgConnection, Row};
use support::{plain, pool, pool_at, settled};

#[tokio::test]
async fn a_short_list_has_given_its_connection_back_before_its_first_row_is_looked_at() {
    let url = local_postgres::database();
    let sql = "select generate_series(1, 20)";
    let theirs = plain(&url, 1).await;
    let mut rows = sqlx::query_scalar::<_, i32>(sql).fetch(&theirs);
    rows.next().await.expect("a row").expect("a number");
    assert_eq!(theirs.num_idle(), 0, "sqlx's own pool holds it");
    drop(rows);

    let ours = pool_at(&url, "connection_limit=1");
    let mut rows = sqlx::query_scalar::<_, i32>(sql).fetch(&ours);
    assert_eq!(rows.next().await.expect("a row").expect("a number"), 1);
    assert_eq!((ours.stats().in_use, ours.stats().idle), (0, 1));
    // One connection is enough for a statement for each row.
    let mut count = 1;
    while let Some(row) = rows.try_next().await.expect("a row") {
        let same: i32 = sqlx::query_scalar("select $1")
            .bind(row)
            .fetch_one(&ours)
            .await
            .expect("the connection");
        assert_eq!(same, row);
        count += 1;
    }
    assert_eq!(count, 20);
}

#[tokio::test]
async fn a_stream_and_a_future_outlive_the_reference_to_their_pool() {
    let (mut rows, done) = {
        let pool = pool("connection_limit=1");
        let rows = sqlx::query("select 1").fetch(&pool);
        (rows, tokio::spawn(pool.execute("select 2")))
    };
    rows.next().await.expect("a row").expect("no error");
    done.await.expect("no panic").expect("a result");
}

#[tokio::test]
async fn a_long_result_waits_for_its_reader() {
    let url = local_postgres::database();
    let pool = pool_at(&url, "connection_limit=1");
    let sql = "select repeat('x', 1000) from generate_series(1, 1000000)";
    let mut rows = sqlx::query(sql).fetch(&pool);
    for _ in 0..1000 {
        let row = rows.next().await.expect("a row").expect("no error");
        assert_eq!(row.get::<&str, _>(0).len(), 1000);
    }
    // The server cannot send on: what was read ahead and what the sockets hold is all there is.
    let mut other = <PgConnection as sqlx::Connection>::connect(&url)
        .await
        .expect("a connection");
    let waits =
        "select count(*) from pg_stat_activity where wait_event = 'ClientWrite' and query = $1";
    loop {
        let count: i64 = sqlx::query_scalar(waits)
            .bind(sql)
            .fetch_one(&mut other)
            .await
            .expect("a count");
        if count == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(rows);
    settled(&pool).await;
}

#[tokio::test]
async fn a_reader_may_take_longer_than_the_server() {
    let pool = pool("connection_limit=1&socket_timeout=200ms");
    let sql = "select repeat('x', 1000) from generate_series(1, 20000)";
    let mut rows = sqlx::query(sql).fetch(&pool);
    let mut count = 0;
    while let Some(row) = rows.next().await {
        row.expect("no error: only the server's time counts");
        if count % 10_000 == 0 {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        count += 1;
    }
    assert_eq!(count, 20_000);
}

#[tokio::test]
async fn rows_before_an_error_come_before_it() {
    let pool = pool("connection_limit=1");
    let sql = "select 12 / (4 - number) from generate_series(1, 9) as number";
    let mut rows = sqlx::query_scalar::<_, i32>(sql).fetch(&pool);
    for expected in [4, 6, 12] {
        let row = rows.next().await.expect("a row").expect("a number");
        assert_eq!(row, expected);
    }
    let error = rows.next().await.expect("an end").expect_err("an error");
    assert!(error.to_string().contains("division by zero"), "{error}");
    assert!(rows.next().await.is_none());
    drop(rows);
    settled(&pool).await;
}
