//! Transactions: begun so that giving up half-way harms nobody, and committed so that `Ok` means committed.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::{Executor, SqlStr};

use crate::deadline::within;
use crate::effect::Effect;
use crate::error::{Error, is_broken, is_conflict};
use crate::lease::{Condition, Lease};
use crate::pool::Pool;

/// How a transaction runs. The default is the server's: READ COMMITTED, read and write.
#[derive(Clone, Copy, Debug, Default)]
pub struct TransactionOptions {
    /// How far concurrent transactions are kept apart.
    pub isolation: Isolation,
    /// Refuses every write.
    pub read_only: bool,
    /// How often [`Pool::transaction`] runs the closure again after a conflict. Default 0.
    pub retries: u32,
}

/// PostgreSQL's isolation levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Each statement sees what was committed before it began.
    #[default]
    ReadCommitted,
    /// Each statement sees what was committed before the transaction began.
    RepeatableRead,
    /// As if the transactions ran one after another; one that cannot fails with 40001.
    Serializable,
}

impl TransactionOptions {
    fn begin(self) -> &'static str {
        match (self.isolation, self.read_only) {
            (Isolation::ReadCommitted, false) => "begin",
            (Isolation::ReadCommitted, true) => "begin read only",
            (Isolation::RepeatableRead, false) => "begin isolation level repeatable read",
            (Isolation::RepeatableRead, true) => "begin isolation level repeatable read, read only",
            (Isolation::Serializable, false) => "begin isolation level serializable",
            (Isolation::Serializable, true) => "begin isolation level serializable, read only",
        }
    }
}

/// A transaction on one connection of the pool. Dropping it rolls back.
///
/// `&mut *transaction` is an sqlx executor, as with sqlx's own transactions.
#[derive(Debug)]
pub struct Transaction {
    lease: Lease,
}

impl Transaction {
    pub(crate) async fn begin(
        mut lease: Lease,
        options: TransactionOptions,
    ) -> Result<Self, Error> {
        lease.enter_transaction(options.read_only);
        control(&mut lease, options.begin()).await?;
        Ok(Self { lease })
    }

    /// Makes everything permanent.
    ///
    /// # Errors
    /// [`Error::TransactionFailed`] when a statement in it had failed, which PostgreSQL answers with a silent
    /// rollback; [`Error::CommitUnknown`] when the answer was lost; a deferred constraint's error.
    pub async fn commit(mut self) -> Result<(), Error> {
        let raw = (self.lease.condition >= Condition::Raw)
            .then(|| "a statement on the raw connection failed".to_owned());
        if let Some(failed) = self.failure().or(raw) {
            // A rollback to a savepoint may have saved the transaction: only the server knows.
            if control(&mut self.lease, "select 1").await.is_err() {
                self.rollback().await?;
                return Err(Error::TransactionFailed(failed));
            }
        }
        match control(&mut self.lease, "commit").await {
            Ok(()) => {
                self.lease.leave_transaction();
                Ok(())
            }
            Err(Error::Sqlx(error)) if is_broken(&error) => Err(Error::CommitUnknown(error)),
            Err(error @ Error::StatementTimeout(_)) => Err(Error::CommitUnknown(error.into())),
            Err(error) => Err(error),
        }
    }

    /// Undoes everything. Dropping the transaction does the same in the background.
    ///
    /// # Errors
    /// When the connection breaks; then the server rolls back by itself.
    pub async fn rollback(mut self) -> Result<(), Error> {
        control(&mut self.lease, "rollback").await?;
        self.lease.leave_transaction();
        Ok(())
    }

    fn failure(&self) -> Option<String> {
        self.lease
            .transaction
            .as_ref()
            .and_then(|transaction| transaction.failed.clone())
    }
}

impl Deref for Transaction {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.lease
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Lease {
        &mut self.lease
    }
}

/// Sends one of the transaction's own statements, which leave no mark of their own on the session.
async fn control(lease: &mut Lease, sql: &'static str) -> Result<(), Error> {
    let before = lease.started(&SqlStr::from_static(sql), Effect::None);
    let limit = lease.claim().pool.config.socket_timeout;
    let answer = lease.connection().execute(sqlx::raw_sql(sql));
    let result = match within(limit, answer).await {
        Ok(result) => result,
        Err(error) => {
            lease.overdue = true;
            return Err(error);
        }
    };
    lease.ended(before, Effect::None, result.as_ref().map(drop));
    result.map(drop).map_err(Error::from)
}

impl Pool {
    /// Runs `work` in a transaction and commits it if it returns `Ok`.
    ///
    /// After a conflict with another transaction (SQLSTATE 40001 or 40P01) it runs again from the start, up to
    /// `options.retries` times, after a pause of a few milliseconds that no two callers share. `work` must do nothing
    /// that a second run may not repeat. Nothing is run again after a COMMIT whose answer was lost.
    ///
    /// # Errors
    /// Those of `work`, of [`Pool::begin`] and of [`Transaction::commit`].
    pub async fn transaction<T, E, F>(
        &self,
        options: TransactionOptions,
        mut work: F,
    ) -> Result<T, E>
    where
        E: From<Error>,
        F: AsyncFnMut(&mut Transaction) -> Result<T, E>,
    {
        let mut attempt = 0;
        loop {
            let mut transaction = self.begin_with(options).await?;
            let result = work(&mut transaction).await;
            let mut conflict = transaction
                .lease
                .transaction
                .as_ref()
                .is_some_and(|transaction| transaction.conflict);
            let error = match result {
                Ok(value) => match transaction.commit().await {
                    Ok(()) => return Ok(value),
                    Err(error @ Error::CommitUnknown(_)) => return Err(error.into()),
                    Err(error) => {
                        conflict |= matches!(&error, Error::Sqlx(error) if is_conflict(error));
                        error.into()
                    }
                },
                Err(error) => {
                    // The work's own error says more than a failed rollback, which the lease recovers from anyway.
                    let _ = transaction.rollback().await;
                    error
                }
            };
            if !conflict || attempt == options.retries {
                return Err(error);
            }
            attempt += 1;
            let pause = Duration::from_millis(5 << attempt.min(6));
            tokio::time::sleep(pause.mul_f64(fastrand::f64())).await;
        }
    }
}
