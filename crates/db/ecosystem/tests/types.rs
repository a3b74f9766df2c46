//! What services do with sqlx, done on the pool, a lease and a transaction: types, streams, COPY, batches, scripts.

use std::collections::BTreeMap;
use std::time::Duration;

use db::{Config, Limits, Pool};
use futures_util::{StreamExt, TryStreamExt};
use rust_decimal::Decimal;
use sqlx::types::Json;
use sqlx::{Executor, PgConnection, Postgres, QueryBuilder, Row};
use time::macros::datetime;
use uuid::Uuid;

fn pool() -> Pool {
    let url = local_postgres::database();
    Pool::new(Config::parse(&format!("{url}?connection_limit=3")).expect("a valid URL"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "mood", rename_all = "lowercase")]
enum Mood {
    Happy,
    Sad,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Address {
    street: String,
    tags: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
struct Record {
    id: Uuid,
    mood: Mood,
    moods: Vec<Mood>,
    price: Decimal,
    prices: Vec<Decimal>,
    address: Json<Address>,
    created: time::OffsetDateTime,
    changed: chrono::DateTime<chrono::Utc>,
    born: chrono::NaiveDate,
    note: Option<String>,
}

async fn store(connection: &mut PgConnection, record: &Record) -> Result<(), sqlx::Error> {
    sqlx::query("insert into record values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)")
        .bind(record.id)
        .bind(record.mood)
        .bind(&record.moods)
        .bind(record.price)
        .bind(&record.prices)
        .bind(&record.address)
        .bind(record.created)
        .bind(record.changed)
        .bind(record.born)
        .bind(&record.note)
        .execute(connection)
        .await
        .map(drop)
}

#[tokio::test]
async fn every_type_comes_back_as_it_went() {
    let pool = pool();
    // A script of several statements, in one message.
    let script = "create type mood as enum ('happy', 'sad');
        create table record (id uuid primary key, mood mood not null, moods mood[] not null, price numeric not null,
            prices numeric[] not null, address jsonb not null, created timestamptz not null, changed timestamptz not null,
            born date not null, note text);
        insert into record values (gen_random_uuid(), 'sad', '{}', 0, '{}', '{\"street\": \"\", \"tags\": []}', now(), now(),
            'today', null)";
    sqlx::raw_sql(script).execute(&pool).await.expect("ran");
    let record = Record {
        id: Uuid::new_v4(),
        mood: Mood::Happy,
        moods: vec![Mood::Sad, Mood::Happy],
        price: "12345678901234567890.0123".parse().expect("a number"),
        prices: vec![Decimal::ONE, Decimal::new(-5, 2)],
        address: Json(Address {
            street: "Größe 1".to_owned(),
            tags: vec!["a".to_owned()],
        }),
        created: datetime!(2026-11-27 20:06:10.123456 UTC),
        changed: "2026-11-27T20:06:10.654321Z".parse().expect("a time"),
        born: chrono::NaiveDate::from_ymd_opt(1815, 12, 10).expect("a date"),
        note: None,
    };
    let mut transaction = pool.begin().await.expect("begun");
    store(&mut transaction, &record).await.expect("stored");
    transaction.commit().await.expect("committed");

    const BY_ID: &str = "select * from record where id = $1";
    let read = || sqlx::query_as::<_, Record>(BY_ID).bind(record.id);
    assert_eq!(read().fetch_one(&pool).await.expect("read"), record);
    let mut lease = pool.acquire().await.expect("a connection");
    assert_eq!(read().fetch_one(&mut *lease).await.expect("read"), record);
    let mut transaction = pool.begin().await.expect("begun");
    assert_eq!(
        read().fetch_one(&mut *transaction).await.expect("read"),
        record
    );
    let path: String = sqlx::query_scalar(
        "select address->'tags'->>0 from record where note is null and price > 0",
    )
    .fetch_one(&pool)
    .await
    .expect("read");
    assert_eq!(path, "a");
}

#[tokio::test]
async fn batches_are_built_and_sent_at_once() {
    let pool = pool();
    pool.execute("create table item (id int primary key, name text not null)")
        .await
        .expect("a table");
    // Values of a statement, ten thousand rows of two.
    let mut insert = QueryBuilder::<Postgres>::new("insert into item (id, name) ");
    insert.push_values(0..10_000, |mut row, id| {
        row.push_bind(id).push_bind(format!("item {id}"));
    });
    let inserted = insert.build().execute(&pool).await.expect("inserted");
    assert_eq!(inserted.rows_affected(), 10_000);
    // Arrays, as many rows as one likes with the same statement.
    let (ids, names): (Vec<i32>, Vec<String>) =
        (10_000..60_000).map(|id| (id, id.to_string())).unzip();
    let sql = "insert into item select * from unnest($1::int[], $2::text[])";
    let inserted = sqlx::query(sql)
        .bind(&ids)
        .bind(&names)
        .execute(&pool)
        .await
        .expect("inserted");
    assert_eq!(inserted.rows_affected(), 50_000);
    let mut find = QueryBuilder::<Postgres>::new("select name from item where id in (");
    let mut list = find.separated(", ");
    for id in [1, 10_001] {
        list.push_bind(id);
    }
    find.push(") order by id");
    let names: Vec<String> = find
        .build_query_scalar()
        .fetch_all(&pool)
        .await
        .expect("read");
    assert_eq!(names, ["item 1", "10001"]);
}

/// The most memory that this process has used so far, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .expect("a line");
    line.split_whitespace()
        .nth(1)
        .expect("a number")
        .parse::<u64>()
        .expect("KiB")
        / 1024
}

#[tokio::test]
async fn a_million_rows_go_out_and_in_with_flat_memory() {
    const MILLION: i64 = 1_000_000;
    let pool = pool();
    // Longer than a request may take.
    let limits = Limits {
        statement: Some(Duration::from_secs(120)),
        ..Default::default()
    };
    let patient = pool.with(limits);
    pool.execute("create table event (id bigint, body text)")
        .await
        .expect("a table");
    let mut transaction = patient.begin().await.expect("begun");
    let before = peak();

    // In: COPY in chunks of 64 KiB, in the transaction, on sqlx's own connection.
    let mut copy = transaction
        .copy_in_raw("copy event from stdin")
        .await
        .expect("COPY begins");
    let mut chunk = String::new();
    for id in 0..MILLION {
        chunk.push_str(&format!("{id}\tthe body of event {id}\n"));
        if chunk.len() > 65_536 || id == MILLION - 1 {
            copy.send(chunk.as_bytes()).await.expect("sent");
            chunk.clear();
        }
    }
    assert_eq!(copy.finish().await.expect("COPY ends"), MILLION as u64);
    transaction.commit().await.expect("committed");

    // Out: a stream of rows, and COPY.
    let mut rows = sqlx::query("select id, body from event").fetch(&patient);
    let (mut count, mut sum) = (0, 0);
    while let Some(row) = rows.try_next().await.expect("a row") {
        count += 1;
        sum += row.get::<i64, _>(0);
    }
    drop(rows);
    assert_eq!((count, sum), (MILLION, MILLION * (MILLION - 1) / 2));
    let mut lease = patient.acquire().await.expect("a connection");
    let mut out = lease
        .copy_out_raw("copy event to stdout")
        .await
        .expect("COPY begins");
    let mut lines = 0;
    while let Some(bytes) = out.next().await {
        lines += bytes
            .expect("bytes")
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
    }
    drop(out);
    drop(lease);
    assert_eq!(lines as i64, MILLION);

    let grown = peak() - before;
    println!("a million rows in, out and out again: {grown} MiB more");
    assert!(grown < 64, "{grown} MiB for rows that are 30 MB as text");

    // A stream that is dropped half-way leaves a connection that works.
    let mut rows = sqlx::query("select id from event").fetch(&pool);
    rows.try_next().await.expect("a row").expect("one");
    drop(rows);
    let one: i64 = sqlx::query_scalar("select 1::bigint")
        .fetch_one(&pool)
        .await
        .expect("served");
    assert_eq!(one, 1);
}

#[tokio::test]
async fn half_a_copy_is_nothing_and_harms_nobody() {
    let pool = pool();
    pool.execute("create table event (id bigint)")
        .await
        .expect("a table");
    let mut lease = pool.acquire().await.expect("a connection");
    let mut copy = lease
        .copy_in_raw("copy event from stdin")
        .await
        .expect("COPY begins");
    copy.send(b"1\n2\n".as_slice()).await.expect("sent");
    drop(copy);
    drop(lease);
    let count: i64 = sqlx::query_scalar("select count(*) from event")
        .fetch_one(&pool)
        .await
        .expect("served");
    assert_eq!(count, 0);
}

/// What sqlx's connection tells of itself, a lease and a transaction tell too.
#[tokio::test]
async fn a_lease_has_what_sqlxs_connection_has() {
    use sqlx::Connection as _;
    let pool = pool();
    let mut lease = pool.acquire().await.expect("a connection");
    for _ in 0..2 {
        let sums: BTreeMap<i32, i32> = sqlx::query_as("select 1, 2")
            .fetch_all(&mut *lease)
            .await
            .expect("rows")
            .into_iter()
            .collect();
        assert_eq!(sums[&1], 2);
    }
    assert_eq!(lease.cached_statements_size(), 1);
    lease.clear_cached_statements().await.expect("cleared");
    assert_eq!(lease.cached_statements_size(), 0);
    assert!(lease.server_version_num().expect("known") >= 150_000);
    assert!(!lease.is_in_transaction());
    lease.shrink_buffers();
    lease.ping().await.expect("alive");
    let mut transaction = pool.begin().await.expect("begun");
    assert!(transaction.is_in_transaction());
    let inner: &mut PgConnection = transaction.as_mut();
    inner.execute("select 1").await.expect("answered");
}
