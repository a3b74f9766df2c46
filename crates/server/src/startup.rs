//! The start: connects and migrates in the background, for as long as it takes, and again if the migrations get lost.

use std::time::{Duration, Instant};

use sqlx::migrate::Migrator;

use crate::error::chain;
use crate::health::Readiness;

/// The first pause between two attempts; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause: a database that is back is noticed within a second.
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

/// Makes the service of this name ready, and does so again whenever its database has lost the migrations.
pub(crate) async fn run(
    name: &str,
    pool: db::Pool,
    migrator: Option<&Migrator>,
    readiness: Readiness,
) {
    loop {
        start(name, &pool, migrator, &readiness).await;
        examine(&pool).await;
        readiness.lost().await;
        tracing::warn!("the database of {name} has lost its migrations: starting anew");
    }
}

/// Tries until the database answers and is migrated, then says that the service is ready.
async fn start(name: &str, pool: &db::Pool, migrator: Option<&Migrator>, readiness: &Readiness) {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut last = String::new();
    while let Err(reason) = attempt(name, pool, migrator, readiness).await {
        if reason != last {
            tracing::warn!("{name} is not ready yet: {reason}");
            readiness.starting(reason.clone());
            last = reason;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    readiness.serving();
    let elapsed_ms = started.elapsed().as_millis();
    tracing::info!(elapsed_ms, "{name} is ready after {elapsed_ms} ms");
}

async fn attempt(
    name: &str,
    pool: &db::Pool,
    migrator: Option<&Migrator>,
    readiness: &Readiness,
) -> Result<(), String> {
    let done = match migrator {
        Some(migrator) => pool.migrate(migrator).await,
        None => pool.check().await,
    };
    done.map_err(|error| chain(&error))?;
    if migrator.is_none() && readiness.lacks_migrations().await {
        return Err(format!(
            "the database lacks migrations, and MIGRATE=false: run `{name} migrate`"
        ));
    }
    Ok(())
}

/// Says in one line what the pool may take of the server and what it takes, and warns of what is wrong.
async fn examine(pool: &db::Pool) {
    match pool.examine().await {
        Ok(report) => {
            tracing::info!("{}", report.summary);
            for warning in report.warnings {
                tracing::warn!("{warning}");
            }
        }
        Err(error) => tracing::debug!("the server could not be examined: {error}"),
    }
}
