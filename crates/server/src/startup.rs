//! The start: connects and migrates in the background, for as long as it takes.

use std::time::{Duration, Instant};

use crate::Service;
use crate::error::chain;
use crate::health::Readiness;

/// The first pause between two attempts; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause: a database that is back is noticed within a second.
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

/// Tries until the database answers and is migrated, then says that the service is ready.
pub(crate) async fn run(service: Service, pool: db::Pool, migrate: bool, readiness: Readiness) {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut last = String::new();
    loop {
        let attempt = if migrate {
            pool.migrate(service.migrator).await
        } else {
            pool.check().await
        };
        let Err(error) = attempt else { break };
        let reason = chain(&error);
        if reason != last {
            tracing::warn!(reason, "{} is not ready yet: {reason}", service.name);
            readiness.starting(reason.clone());
            last = reason;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    readiness.serving();
    let elapsed_ms = started.elapsed().as_millis();
    tracing::info!(
        elapsed_ms,
        "{} is ready after {elapsed_ms} ms",
        service.name
    );
    examine(&pool).await;
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
