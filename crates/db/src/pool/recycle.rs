//! What happens to a connection that was given back unclean, before anybody else may have it.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgTransactionManager;
use sqlx::{Connection as _, Executor, PgConnection, Row};
use sqlx_core::transaction::TransactionManager;
use tokio::time::timeout;

use crate::error::{is_broken, is_in_transaction};
use crate::pool::between::Sessions;
use crate::pool::opened::Opened;
use crate::pool::state::Shared;
use crate::pool::{control_connection, first_question, opening, proof};
use crate::sqlstate::Loss;

/// How long a connection may take to become clean. It keeps its permit meanwhile, so this is short.
const DEADLINE: Duration = Duration::from_millis(600);
/// The same behind a pooler, where no statement can be cancelled. A connection that is closed in the midst of one costs the
/// server a session too, which works on while the pooler opens another.
const DEADLINE_OF_POOLER: Duration = Duration::from_secs(2);
/// How long a statement that nobody waits for may run on: most are nearly done, and cancelling has its price.
const PATIENCE: Duration = Duration::from_millis(20);

/// What has to be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undo {
    /// Nothing: only answers may be on their way.
    Nothing,
    /// A transaction may be open.
    Transaction,
    /// Settings, locks or listeners of the session may have changed, or a transaction be open.
    Session,
    /// The same, and it may not even be the connection that it was.
    Anything,
}

/// Makes a connection clean, and says whether it is. A statement that nobody waits for is cancelled, at once if its
/// caller has waited for long.
pub(crate) async fn recycle(
    pool: &Arc<Shared>,
    connection: &mut Opened,
    undo: Undo,
    overdue: bool,
) -> bool {
    let deadline = match connection.backend {
        Some(_) => DEADLINE,
        None => DEADLINE_OF_POOLER,
    };
    let work = async {
        settle(pool, connection, overdue).await?;
        let inner = &mut connection.inner;
        match undo {
            Undo::Nothing => {}
            // A BEGIN whose answer nobody took, so sqlx does not know of it.
            Undo::Transaction if PgTransactionManager::get_transaction_depth(inner) == 0 => {
                inner.execute("rollback").await.map(drop)?;
            }
            Undo::Transaction => roll_back_to(inner, 0).await?,
            Undo::Session => reset(pool, inner).await?,
            Undo::Anything => {
                reset(pool, inner).await?;
                return is_sound(pool, connection).await;
            }
        }
        // Otherwise sqlx would take the next BEGIN for a savepoint.
        Ok::<_, sqlx::Error>(PgTransactionManager::get_transaction_depth(inner) == 0)
    };
    matches!(timeout(deadline, work).await, Ok(Ok(true)))
}

/// Waits until the server is ready for the next statement.
async fn settle(
    pool: &Arc<Shared>,
    connection: &mut Opened,
    overdue: bool,
) -> Result<(), sqlx::Error> {
    let patience = if overdue { Duration::ZERO } else { PATIENCE };
    if let Ok(settled) = timeout(patience, read_answers(&mut connection.inner)).await {
        return settled;
    }
    // A session that is a stranger's by now must not be hit.
    if let Some(backend) = connection.backend.as_deref()
        && proof::sessions_for_cancel(pool).await == Sessions::Own
    {
        control_connection::cancel(pool, backend).await;
    }
    // Also proves that the cancel request cannot hit the next caller: it was delivered before this answer.
    read_answers(&mut connection.inner).await
}

/// Errors on the way belong to statements that nobody waits for.
async fn read_answers(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    loop {
        match connection.ping().await {
            Ok(()) => return Ok(()),
            Err(error) if is_broken(&error) => return Err(error),
            Err(_) => {}
        }
    }
}

/// Whether what was lent is the connection that it was: the same session, ready, and no answer but its own on the wire.
async fn is_sound(pool: &Shared, connection: &mut Opened) -> Result<bool, sqlx::Error> {
    // Behind a pooler nothing tells one session from another.
    let Some(backend) = &connection.backend else {
        return Ok(false);
    };
    let now = first_question::ask(pool, &mut connection.inner).await?;
    Ok(now.backend.as_ref() == Some(backend)
        && PgTransactionManager::get_transaction_depth(&connection.inner) == 0)
}

/// Rolls back until sqlx is only so deep in transactions, so that what it knows agrees with the server.
pub(crate) async fn roll_back_to(
    connection: &mut PgConnection,
    depth: usize,
) -> Result<(), sqlx::Error> {
    while PgTransactionManager::get_transaction_depth(connection) > depth {
        PgTransactionManager::rollback(connection).await?;
    }
    Ok(())
}

/// Makes the session as it was when it was opened.
async fn reset(pool: &Shared, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    forget(connection).await?;
    opening::tell(pool, connection).await?;
    let hooked = opening::run_hook(pool, connection).await;
    hooked.map_err(|error| error.source)
}

async fn forget(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    roll_back_to(connection, 0).await?;
    // Before the server forgets the prepared statements, so that sqlx does.
    let discarded = match connection.clear_cached_statements().await {
        Ok(()) => connection.execute("discard all").await.map(drop),
        Err(error) => Err(error),
    };
    match discarded {
        // A transaction that sqlx does not know of. Asked only now: the server warns of a rollback without one.
        Err(error) if is_in_transaction(&error) => {
            connection.execute("rollback").await?;
            connection.clear_cached_statements().await?;
            connection.execute("discard all").await.map(drop)
        }
        discarded => discarded,
    }
}

/// Whether a server takes no writes, or one session of it alone, in which somebody has said so: behind a pooler perhaps a
/// stranger. Asked is what no session has set.
const READS_ONLY: &str = "select pg_is_in_recovery() or (select reset_val = 'on' from pg_settings \
                          where name = 'default_transaction_read_only')";

/// What an error says about the connections, once it is known whether the server or only this session takes no writes. Nothing of
/// a pooler's session, which may be another client's already.
pub(crate) async fn who_is_lost(
    pool: &Shared,
    connection: &mut PgConnection,
    loss: Option<Loss>,
) -> Option<Loss> {
    if loss != Some(Loss::ReadOnly) {
        return loss;
    }
    let asked = async {
        let row = sqlx::raw_sql(READS_ONLY).fetch_one(connection).await?;
        row.try_get_unchecked::<bool, _>(0)
    };
    match timeout(DEADLINE, asked).await {
        Ok(Ok(true)) => Some(Loss::Server),
        Ok(Ok(false)) => {
            tracing::warn!(
                event = "read_only_session",
                "a session of {} takes no writes, although its server does: something has set it to read only, and left it so",
                pool.config.address()
            );
            (!pool.is_pooled()).then_some(Loss::Session)
        }
        Ok(Err(_)) | Err(_) => Some(Loss::Connection),
    }
}
