//! What happens to a connection that was given back unclean: it is made fit in the background, or thrown away.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqlSafeStr};
use tokio::time::timeout;

use crate::claim::Claim;
use crate::error::is_broken;
use crate::lease::Condition;
use crate::pool::Inner;
use crate::shelf::Slot;

/// How long a connection may take to become fit. It keeps its permit meanwhile, so this is short.
const DEADLINE: Duration = Duration::from_millis(600);
/// How long a statement that nobody waits for may run on: most are nearly done, and cancelling has its price.
const PATIENCE: Duration = Duration::from_millis(20);

/// Takes over an unclean connection with its permit.
pub(crate) fn spawn(
    mut claim: Claim,
    mut slot: Slot,
    condition: Condition,
    overdue: bool,
    failover: bool,
) {
    let pool = claim.pool.clone();
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return pool.discard(&mut claim, slot, failover);
    };
    claim.disown();
    runtime.spawn(async move {
        let fit = timeout(DEADLINE, settle(&pool, &mut slot, condition, overdue)).await;
        if matches!(fit, Ok(Ok(()))) && !failover {
            pool.stats.recovered();
            pool.put(&mut claim, slot);
        } else {
            pool.discard(&mut claim, slot, failover);
        }
    });
}

async fn settle(
    pool: &Inner,
    slot: &mut Slot,
    condition: Condition,
    overdue: bool,
) -> Result<(), sqlx::Error> {
    let patience = if overdue { Duration::ZERO } else { PATIENCE };
    let drained = timeout(patience, drain(&mut slot.connection)).await;
    match drained {
        Ok(drained) => drained?,
        Err(_) => {
            cancel(pool, slot.backend.as_deref()).await;
            // Also proves that the cancel request cannot hit the next caller: it was delivered before this answer.
            drain(&mut slot.connection).await?;
        }
    }
    match condition {
        Condition::InTransaction => slot.connection.execute("rollback").await.map(drop),
        Condition::Changed => {
            slot.connection.execute("rollback").await?;
            // Before the server forgets them, so that sqlx does.
            slot.connection.clear_cached_statements().await?;
            slot.connection.execute("discard all").await.map(drop)
        }
        Condition::Clean | Condition::Unsettled | Condition::Raw | Condition::Broken => Ok(()),
    }
}

/// Reads until the server is ready for the next statement. Errors on the way belong to statements long forgotten.
async fn drain(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    loop {
        match connection.ping().await {
            Ok(()) => return Ok(()),
            Err(error) if is_broken(&error) => return Err(error),
            Err(_) => {}
        }
    }
}

/// Asks the server to stop what the connection runs. Best effort: the deadline covers what it does not.
async fn cancel(pool: &Inner, backend: Option<&str>) {
    let Some(backend) = backend else { return };
    let sql = format!("select pg_cancel_backend(pid) from pg_stat_activity where {backend}");
    if let Err(error) = pool
        .side
        .run(pool, Some(AssertSqlSafe(sql).into_sql_str()))
        .await
    {
        tracing::debug!("a statement could not be cancelled: {error}");
    }
}
