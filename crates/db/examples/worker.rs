//! A worker without HTTP: does something every so often, alone among its instances, and ends between two rounds.
//!
//! ```console
//! $ DATABASE_URL=postgres://… cargo run -p db --example worker
//! ```

use std::time::Duration;

use db::{Limits, Pool};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

/// One round. The lock ends with the transaction, however that ends.
async fn tidy_up(pool: &Pool) -> Result<u64, db::Error> {
    let mut tx = pool.begin().await?;
    let lock = sqlx::query_scalar("select pg_try_advisory_xact_lock(hashtext('tidy up'))");
    if !lock.fetch_one(&mut *tx).await? {
        return Ok(0); // another instance does it
    }
    let old = sqlx::query("delete from session where used < now() - interval '1 day'")
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(old.rows_affected())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A round may take longer than a request.
    let limits = Limits {
        statement: Some(Duration::from_secs(60)),
        ..Default::default()
    };
    let pool = db::pool()?.with(limits);
    sqlx::raw_sql("create table if not exists session (used timestamptz not null default now())")
        .execute(&pool)
        .await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut rounds = interval(Duration::from_secs(10));
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = tokio::signal::ctrl_c() => break,
            _ = rounds.tick() => match tidy_up(&pool).await {
                Ok(rows) => println!("{rows} old sessions removed"),
                Err(error) => eprintln!("the next round tries again: {error}"),
            },
        }
    }
    println!("{:?}", pool.close(Duration::from_secs(10)).await);
    Ok(())
}
