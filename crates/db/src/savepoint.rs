//! Savepoints, and how transactions of any depth are ended so that sqlx knows how deep a connection is in them.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::postgres::PgTransactionManager;
use sqlx::{PgConnection, SqlStr};
use sqlx_core::transaction::TransactionManager;
use tokio::time::timeout;

use crate::error::Error;
use crate::metrics::Outcome;
use crate::pool::{InTransaction, Lease, roll_back_to};
use crate::session_effect::SessionEffect;
use crate::spans;

/// Sends one of the transaction's own statements, which leave no mark of their own on the session. `text` is what traces say
/// of it.
pub(crate) async fn control(
    lease: &mut Lease,
    text: &str,
    send: impl AsyncFnOnce(&mut PgConnection) -> Result<(), sqlx::Error>,
) -> Result<(), Error> {
    const NOTHING: SqlStr = SqlStr::from_static("");
    let after = lease.started(&NOTHING, SessionEffect::None);
    let pool = lease.pool();
    let limit = pool.config.socket_timeout.unwrap_or(Duration::MAX);
    let span = spans::statement(&pool.config, text);
    let Ok(result) = timeout(limit, send(lease.connection())).await else {
        lease.overdue = true;
        spans::ended(&span, &Outcome::Timeout);
        return Err(Error::StatementTimeout(limit));
    };
    if let Err(error) = &result {
        spans::ended(&span, &Outcome::of(error));
    }
    lease.ended(after, result.as_ref().copied());
    result.map_err(Error::from)
}

/// Commits until sqlx is only so deep in transactions: first what was left open inside, on the raw connection.
pub(crate) async fn commit_to(
    connection: &mut PgConnection,
    depth: usize,
) -> Result<(), sqlx::Error> {
    while PgTransactionManager::get_transaction_depth(connection) > depth {
        PgTransactionManager::commit(connection).await?;
    }
    Ok(())
}

/// A transaction inside another one, from [`Transaction::begin`](crate::Transaction::begin). Dropping it undoes what was
/// done since.
///
/// `&mut *savepoint` is an sqlx executor.
#[derive(Debug)]
pub struct Savepoint<'t> {
    lease: &'t mut Lease,
    /// How the transaction was before, and is again when this is undone.
    before: InTransaction,
    open: bool,
}

impl<'t> Savepoint<'t> {
    pub(crate) async fn start(lease: &'t mut Lease) -> Result<Self, Error> {
        lease.verify_depth()?;
        let before = lease.transaction.clone().unwrap_or_default();
        control(lease, "savepoint", async |connection| {
            PgTransactionManager::begin(connection, None).await
        })
        .await?;
        if let Some(state) = &mut lease.transaction {
            state.depth = before.depth + 1;
        }
        let open = true;
        Ok(Self {
            lease,
            before,
            open,
        })
    }

    /// A savepoint inside this one.
    ///
    /// # Errors
    /// Those of [`Transaction::begin`](crate::Transaction::begin).
    pub async fn begin(&mut self) -> Result<Savepoint<'_>, Error> {
        Savepoint::start(self.lease).await
    }

    /// Leaves what was done to the outer transaction, which commits it or not.
    ///
    /// # Errors
    /// Those of any statement; when one in it had failed, that it must be rolled back.
    pub async fn commit(mut self) -> Result<(), Error> {
        self.lease.verify_depth()?;
        let depth = self.before.depth;
        control(self.lease, "release savepoint", async |connection| {
            commit_to(connection, depth).await
        })
        .await?;
        self.open = false;
        if let Some(state) = &mut self.lease.transaction {
            state.depth = depth;
        }
        Ok(())
    }

    /// Undoes what was done in it. The outer transaction goes on, also after a failed statement.
    ///
    /// # Errors
    /// When the connection breaks; then the server rolls back everything.
    pub async fn rollback(mut self) -> Result<(), Error> {
        let depth = self.before.depth;
        control(self.lease, "rollback to savepoint", async |connection| {
            roll_back_to(connection, depth).await
        })
        .await?;
        self.open = false;
        self.restore(false);
        self.lease.verify_depth()
    }

    fn restore(&mut self, doubtful: bool) {
        if let Some(state) = &mut self.lease.transaction {
            let changed = state.changed;
            *state = std::mem::take(&mut self.before);
            state.changed |= changed;
            state.doubtful |= doubtful;
        }
    }
}

impl Drop for Savepoint<'_> {
    fn drop(&mut self) {
        if self.open {
            // Only written down here; it is sent before the next statement.
            let connection = self.lease.connection();
            while PgTransactionManager::get_transaction_depth(connection) > self.before.depth {
                PgTransactionManager::start_rollback(connection);
            }
            self.restore(true);
        }
    }
}

impl Deref for Savepoint<'_> {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        self.lease
    }
}

impl DerefMut for Savepoint<'_> {
    fn deref_mut(&mut self) -> &mut Lease {
        self.lease
    }
}
