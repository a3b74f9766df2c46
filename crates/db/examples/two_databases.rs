//! Two databases in one process: the one of `DATABASE_URL`, and one beside it with a pool of its own.
//!
//! ```console
//! $ DATABASE_URL=postgres://…/shop ARCHIVE_URL='postgres://…/archive?connection_limit=2' cargo run -p db --example two_databases
//! ```

use std::time::Duration;

use db::{Config, Pool};
use sqlx::Executor;

/// Moves rows from one to the other. No transaction covers both: a row is stored there first, under the same key, and removed
/// here afterwards, so that one that is killed in between is moved again and not lost.
async fn archive(shop: &Pool, archive: &Pool) -> Result<u64, db::Error> {
    let mut tx = shop.begin().await?;
    let done = "delete from orders where id in (select id from orders where done limit 100) returning id, item";
    let orders: Vec<(i64, String)> = sqlx::query_as(done).fetch_all(&mut *tx).await?;
    let (ids, items): (Vec<i64>, Vec<String>) = orders.into_iter().unzip();
    let store =
        "insert into orders select * from unnest($1::bigint[], $2::text[]) on conflict do nothing";
    let stored = sqlx::query(store)
        .bind(&ids)
        .bind(&items)
        .execute(archive)
        .await?;
    tx.commit().await?;
    Ok(stored.rows_affected())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let shop = db::pool()?;
    let store = Pool::new(Config::parse(&std::env::var("ARCHIVE_URL")?)?);
    shop.execute("create table if not exists orders (id bigint generated always as identity, item text, done bool)").await?;
    store
        .execute("create table if not exists orders (id bigint primary key, item text)")
        .await?;
    shop.execute("insert into orders (item, done) values ('tea', true), ('milk', false)")
        .await?;
    println!(
        "{} moved from {} to {}",
        archive(shop, &store).await?,
        shop.name(),
        store.name()
    );
    // The numbers of both are in the metrics, each under its name.
    println!(
        "{} and {} connections open",
        shop.publish().open,
        store.publish().open
    );
    shop.close(Duration::from_secs(5)).await;
    store.close(Duration::from_secs(5)).await;
    Ok(())
}
