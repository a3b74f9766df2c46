//! A transactional outbox: an order, its idempotency key and the job it makes are stored together or not at all, and workers
//! do each job, whoever is killed when.
//!
//! ```console
//! $ DATABASE_URL=postgres://… cargo run -p db --example outbox
//! ```

use std::time::Duration;

use db::Pool;
use tokio::time::timeout;

/// `key` is the idempotency key; `delivered` stands for another system, which knows the keys it has seen.
pub(crate) const TABLES: &str = "
    create table if not exists orders (id bigint generated always as identity primary key, key text unique, item text);
    create table if not exists outbox (id bigint generated always as identity primary key, order_id bigint not null);
    create table if not exists delivered (key bigint primary key, order_id bigint not null);";

/// Stores an order once, however often its client sends it, and gives its number.
pub(crate) async fn place(shop: &Pool, key: &str, item: &str) -> Result<i64, db::Error> {
    let mut tx = shop.begin().await?;
    let insert =
        "insert into orders (key, item) values ($1, $2) on conflict (key) do nothing returning id";
    let insert = sqlx::query_scalar(insert).bind(key).bind(item);
    if let Some(id) = insert.fetch_optional(&mut *tx).await? {
        let job = sqlx::query("insert into outbox (order_id) values ($1)").bind(id);
        job.execute(&mut *tx).await?;
        sqlx::query("notify outbox").execute(&mut *tx).await?;
        tx.commit().await?;
        return Ok(id);
    }
    let known = sqlx::query_scalar("select id from orders where key = $1").bind(key);
    Ok(known.fetch_one(&mut *tx).await?)
}

/// Does the jobs as they come, beside as many others as you like.
pub(crate) async fn work(shop: &Pool, other: &Pool) -> Result<(), db::Error> {
    let mut listener = shop.listen(["outbox"]).await?;
    loop {
        while work_one(shop, other).await? {}
        // A killed worker tells nobody of the job it leaves, so look again from time to time.
        let _ = timeout(Duration::from_secs(1), listener.next()).await;
    }
}

/// Does one job, if there is one that nobody else does. Its key makes the second attempt harmless, if this one is killed.
pub(crate) async fn work_one(shop: &Pool, other: &Pool) -> Result<bool, db::Error> {
    let mut tx = shop.begin().await?;
    let next = "select id, order_id from outbox order by id limit 1 for update skip locked";
    let next = sqlx::query_as(next).fetch_optional(&mut *tx).await?;
    let Some((key, order)): Option<(i64, i64)> = next else {
        return Ok(false);
    };
    let deliver = "insert into delivered values ($1, $2) on conflict do nothing";
    sqlx::query(deliver)
        .bind(key)
        .bind(order)
        .execute(other)
        .await?;
    let done = sqlx::query("delete from outbox where id = $1").bind(key);
    done.execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(true)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (shop, other) = (db::pool()?, Pool::new(db::Config::from_env()?));
    sqlx::raw_sql(TABLES).execute(shop).await?;
    for key in ["first", "second", "first"] {
        println!("order {} for key {key}", place(shop, key, "tea").await?);
    }
    let _ = timeout(Duration::from_secs(2), work(shop, &other)).await;
    let count = sqlx::query_scalar("select count(*) from delivered");
    let count: i64 = count.fetch_one(shop).await?;
    println!("{count} delivered");
    Ok(())
}
