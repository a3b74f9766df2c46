//! Transactions: begun so that giving up half-way harms nobody, and committed so that `Ok` means committed.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::postgres::PgTransactionManager;
use sqlx::{Executor, PgConnection, SqlStr};
use sqlx_core::transaction::TransactionManager;

use crate::error::{Error, is_broken, is_conflict};
use crate::pool::{Lease, Pool, roll_back_to};
use crate::savepoint::{Savepoint, commit_to, control};

/// How a transaction runs. The default is the server's: READ COMMITTED, read and write.
#[derive(Clone, Copy, Debug, Default)]
pub struct TransactionOptions {
    /// How far concurrent transactions are kept apart.
    pub isolation: Isolation,
    /// Every write is an error (SQLSTATE 25006). Default false.
    pub read_only: bool,
    /// How many times [`Pool::transaction`] runs the closure again after a conflict. Default 0.
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
///
/// ```no_run
/// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
/// let mut transaction = pool.begin().await?;
/// sqlx::query("insert into customer (name) values ('Ada')")
///     .execute(&mut *transaction)
///     .await?;
/// transaction.commit().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Transaction {
    lease: Lease,
}

impl Transaction {
    async fn start(mut lease: Lease, options: TransactionOptions) -> Result<Self, Error> {
        lease.enter_transaction(options.read_only);
        let begin = SqlStr::from_static(options.begin());
        control(&mut lease, options.begin(), async |connection| {
            PgTransactionManager::begin(connection, Some(begin)).await
        })
        .await?;
        if let Some(state) = &mut lease.transaction {
            state.depth = 1;
        }
        Ok(Self { lease })
    }

    /// A transaction inside this one: a savepoint. Dropping it undoes what was done since, and nothing else.
    ///
    /// ```no_run
    /// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
    /// let mut transaction = pool.begin().await?;
    /// let mut attempt = transaction.begin().await?;
    /// match sqlx::query("insert into customer (name) values ('Ada')").execute(&mut *attempt).await {
    ///     Ok(_) => attempt.commit().await?,
    ///     Err(_) => attempt.rollback().await?,
    /// }
    /// transaction.commit().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of any statement. Dropping this future half-way ends the whole transaction.
    pub async fn begin(&mut self) -> Result<Savepoint<'_>, Error> {
        Savepoint::start(&mut self.lease).await
    }

    /// Makes everything permanent. `Ok` means that the server has committed this transaction, whatever was begun,
    /// ended or left open on [`raw`](Lease::raw). Only one thing cannot be told from outside: that it was ended there and
    /// another one was begun in its place.
    ///
    /// # Errors
    /// [`Error::TransactionFailed`] when a statement in it had failed, which PostgreSQL answers with a silent
    /// rollback, or when it was ended on the raw connection; [`Error::CommitUnknown`] when the answer was lost; a
    /// deferred constraint's error.
    pub async fn commit(mut self) -> Result<(), Error> {
        self.lease.verify_depth()?;
        if self.lease.is_transaction_doubtful() {
            // A rollback to a savepoint may have saved the transaction: only the server knows. It accepts a savepoint
            // in a transaction that can still commit, and nowhere else.
            let asked = control(&mut self.lease, "savepoint", async |connection| {
                connection.execute("savepoint still_open").await.map(drop)
            });
            if asked.await.is_err() {
                let failed = self.lease.failure();
                let ended = || "it was ended on the raw connection or by a statement".to_owned();
                self.rollback().await?;
                return Err(Error::TransactionFailed(failed.unwrap_or_else(ended)));
            }
        }
        let commit = async |connection: &mut PgConnection| commit_to(connection, 0).await;
        match control(&mut self.lease, "commit", commit).await {
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
        let known = self.lease.verify_depth().is_ok();
        control(&mut self.lease, "rollback", async |connection| {
            roll_back_to(connection, 0).await
        })
        .await?;
        // Otherwise sqlx has a rollback that is not sent yet: the connection is recycled first.
        if known {
            self.lease.leave_transaction();
        }
        Ok(())
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

impl Pool {
    /// A transaction. Dropping it without `commit` rolls back.
    ///
    /// # Errors
    /// Those of [`Pool::acquire`], and the server's.
    #[track_caller]
    pub fn begin(&self) -> impl Future<Output = Result<Transaction, Error>> + Send + use<> {
        self.begin_with(TransactionOptions::default())
    }

    /// A transaction with an isolation level, or read-only.
    ///
    /// ```no_run
    /// # use db::TransactionOptions;
    /// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
    /// let options = TransactionOptions { read_only: true, ..Default::default() };
    /// let mut report = pool.begin_with(options).await?;
    /// let orders: i64 = sqlx::query_scalar("select count(*) from orders").fetch_one(&mut *report).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`Pool::begin`].
    #[track_caller]
    pub fn begin_with(
        &self,
        options: TransactionOptions,
    ) -> impl Future<Output = Result<Transaction, Error>> + Send + use<> {
        let (first, second) = (self.acquire(), self.acquire());
        async move {
            match Transaction::start(first.await?, options).await {
                // Its connection had ended while idle. Nothing has begun, so another one may.
                Err(Error::Sqlx(error)) if is_broken(&error) => {
                    Transaction::start(second.await?, options).await
                }
                started => started,
            }
        }
    }

    /// Runs `work` in a transaction and commits it if it returns `Ok`.
    ///
    /// After a conflict with another transaction (SQLSTATE 40001 or 40P01) it runs again from the start, up to
    /// `options.retries` times, after a pause of a few milliseconds that no two callers share. `work` must do nothing
    /// that a second run may not repeat. Nothing is run again after a COMMIT whose answer was lost.
    ///
    /// ```no_run
    /// # use db::{Isolation, TransactionOptions};
    /// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
    /// let options = TransactionOptions { isolation: Isolation::Serializable, retries: 3, ..Default::default() };
    /// pool.transaction(options, async |transaction| {
    ///     sqlx::query("update account set balance = balance - 1 where id = 1")
    ///         .execute(&mut **transaction)
    ///         .await?;
    ///     Ok::<_, db::Error>(())
    /// })
    /// .await?;
    /// # Ok(()) }
    /// ```
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
            let state = transaction.lease.transaction.as_ref();
            let mut conflict = state.is_some_and(|state| state.conflict);
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
