//! Transactions: begun so that giving up half-way harms nobody, and committed so that `Ok` means committed. One inside
//! another is a savepoint.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::postgres::PgTransactionManager;
use sqlx::{AssertSqlSafe, Executor, PgConnection, SqlSafeStr, SqlStr};
use sqlx_core::transaction::TransactionManager;

use crate::control::{commit_to, control};
use crate::error::{Error, is_broken, is_conflict};
use crate::limits::Limits;
use crate::pool::{Connection, InTransaction, Lease, MaybeLease, roll_back_to};

/// How a transaction runs. The default is the server's: READ COMMITTED, read and write.
///
/// ```no_run
/// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
/// let options = db::TransactionOptions { read_only: true, ..Default::default() };
/// let report = pool.begin_with(options).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TransactionOptions {
    /// How far concurrent transactions are kept apart.
    pub isolation: Isolation,
    /// Every write is an error (SQLSTATE 25006). Default false.
    pub read_only: bool,
    /// How many times [`Pool::transaction`](crate::Pool::transaction) runs the closure again after a conflict. Default 0.
    pub retries: u32,
}

/// PostgreSQL's isolation levels.
///
/// ```
/// let isolation = db::Isolation::Serializable;
/// let options = db::TransactionOptions { isolation, retries: 5, ..Default::default() };
/// ```
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
pub struct Transaction<'c> {
    connection: MaybeLease<'c>,
    /// How the transaction around this one was, and is again when this one is undone.
    around: Option<Box<InTransaction>>,
    open: bool,
    /// Where it goes when it is dropped.
    left: Option<Left>,
}

/// What [`Pool::transaction`](crate::Pool::transaction) finds when its closure has ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Left(Arc<Mutex<LeftBehind>>);

#[derive(Debug, Default)]
pub(crate) struct LeftBehind {
    /// What was dropped without an end.
    pub(crate) open: Option<Lease>,
    /// The closure has ended it itself.
    pub(crate) ended: bool,
    /// It failed for another transaction's sake.
    pub(crate) conflict: bool,
}

impl Left {
    pub(crate) fn with<T>(&self, use_it: impl FnOnce(&mut LeftBehind) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<'c> Transaction<'c> {
    pub(crate) async fn start(
        mut connection: MaybeLease<'c>,
        options: TransactionOptions,
        limits: &Limits,
    ) -> Result<Self, Error> {
        connection.verify()?;
        let around = connection.transaction.clone();
        match &around {
            None => begin(&mut connection, options, limits).await?,
            Some(around) => savepoint(&mut connection, around.depth + 1).await?,
        }
        Ok(Self {
            connection,
            around,
            open: true,
            left: None,
        })
    }

    /// One that was begun before, and left by its closure.
    pub(crate) fn left_behind(lease: Lease) -> Self {
        Self {
            connection: MaybeLease::Taken(lease),
            around: None,
            open: true,
            left: None,
        }
    }

    pub(crate) fn leave_to(mut self, left: Left) -> Self {
        self.left = Some(left);
        self
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
    pub async fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        self.connection.begin().await
    }

    /// Makes everything permanent. `Ok` means that the server has committed this transaction, whatever was begun,
    /// ended or left open on sqlx's own connection. Only one thing cannot be told from outside: that it was ended there and
    /// another one was begun in its place.
    ///
    /// Of a transaction inside another one it leaves what was done to the outer one, which commits it or not.
    ///
    /// # Errors
    /// [`Error::TransactionFailed`] when a statement in it had failed, which PostgreSQL answers with a silent
    /// rollback, or when it was ended on sqlx's own connection; [`Error::CommitUnknown`] when the answer was lost; a
    /// deferred constraint's error.
    pub async fn commit(mut self) -> Result<(), Error> {
        self.connection.verify()?;
        let committed = match &self.around {
            None => self.commit_outermost().await,
            Some(around) => {
                let depth = around.depth;
                let release =
                    async |connection: &mut PgConnection| commit_to(connection, depth).await;
                let released = control(&mut self.connection, "release savepoint", release).await;
                released.inspect(|()| self.leave(depth))
            }
        };
        self.open &= committed.is_err();
        if let Some(left) = &self.left {
            let conflict = matches!(&committed, Err(Error::Sqlx(error)) if is_conflict(error));
            left.with(|left| (left.ended, left.conflict) = (true, conflict));
        }
        committed
    }

    async fn commit_outermost(&mut self) -> Result<(), Error> {
        let patience = self.connection.patience().unwrap_or_default();
        if self.connection.transaction.is_some() && patience.limit.is_zero() {
            self.roll_back_outermost().await?;
            return Err(patience.error());
        }
        if self.connection.is_transaction_doubtful() {
            // A rollback to a savepoint may have saved the transaction: only the server knows. It accepts a savepoint
            // in a transaction that can still commit, and nowhere else.
            let asked = control(&mut self.connection, "savepoint", async |connection| {
                connection.execute("savepoint still_open").await.map(drop)
            });
            if asked.await.is_err() {
                let failed = self.connection.failure();
                let ended = || "it was ended on sqlx's own connection or by a statement".to_owned();
                self.roll_back_outermost().await?;
                return Err(Error::TransactionFailed(failed.unwrap_or_else(ended)));
            }
        }
        let commit = async |connection: &mut PgConnection| commit_to(connection, 0).await;
        match control(&mut self.connection, "commit", commit).await {
            Ok(()) => {
                self.connection.leave_transaction();
                Ok(())
            }
            // A pause for too long was before it, so it surely was not carried out.
            Err(Error::Sqlx(error)) if is_broken(&error) => match patience.explain(error).into() {
                Error::Sqlx(error) => Err(Error::CommitUnknown(error)),
                explained => Err(explained),
            },
            Err(error @ Error::StatementTimeout(_)) => Err(Error::CommitUnknown(error.into())),
            Err(error) => Err(error),
        }
    }

    /// Undoes everything that was done in it. Dropping the transaction does the same, in the background or before the next
    /// statement. An outer transaction goes on, also after a failed statement.
    ///
    /// # Errors
    /// When the connection breaks; then the server rolls back everything by itself.
    pub async fn rollback(mut self) -> Result<(), Error> {
        if let Some(left) = &self.left {
            left.with(|left| left.ended = true);
        }
        let Some(around) = &self.around else {
            return self.roll_back_outermost().await;
        };
        let depth = around.depth;
        control(
            &mut self.connection,
            "rollback to savepoint",
            async |connection| roll_back_to(connection, depth).await,
        )
        .await?;
        self.open = false;
        self.restore(false);
        self.connection.verify()
    }

    async fn roll_back_outermost(&mut self) -> Result<(), Error> {
        let known = self.connection.verify().is_ok();
        control(&mut self.connection, "rollback", async |connection| {
            roll_back_to(connection, 0).await
        })
        .await?;
        // Otherwise sqlx has a rollback that is not sent yet: the connection is recycled first.
        if known {
            self.open = false;
            self.connection.leave_transaction();
        }
        Ok(())
    }

    fn leave(&mut self, depth: usize) {
        if let Some(state) = &mut self.connection.transaction {
            state.depth = depth;
        }
    }

    /// Makes the record of the transaction around this one what it was before.
    fn restore(&mut self, doubtful: bool) {
        if let (Some(around), Some(state)) = (self.around.take(), &mut self.connection.transaction)
        {
            state.restore(*around, doubtful);
        }
    }
}

async fn begin(
    connection: &mut Connection,
    options: TransactionOptions,
    limits: &Limits,
) -> Result<(), Error> {
    connection.enter_transaction(options.read_only, limits);
    // Behind a pooler no session has limits of its own.
    let told = match connection.pool().between.in_transactions() {
        Some(behind) => limits.or(behind).sql("set local"),
        None => limits.sql("set local"),
    };
    let begin = match told {
        None => SqlStr::from_static(options.begin()),
        // Numbers and names of settings, nothing else.
        Some(told) => AssertSqlSafe(format!("{}; {told}", options.begin())).into_sql_str(),
    };
    let text = begin.clone();
    let begun = control(connection, options.begin(), async |connection| {
        PgTransactionManager::begin(connection, Some(text)).await
    })
    .await;
    if let (Ok(()), Some(transaction)) = (&begun, &mut connection.transaction) {
        (transaction.begun, transaction.untouched) = (Some(begin), true);
    }
    // After a timeout it may yet begin: then nothing more must be sent as if it had not.
    if matches!(begun, Err(Error::Sqlx(_))) {
        connection.transaction = None;
    }
    begun
}

async fn savepoint(connection: &mut Connection, depth: usize) -> Result<(), Error> {
    control(connection, "savepoint", async |connection| {
        PgTransactionManager::begin(connection, None).await
    })
    .await?;
    if let Some(state) = &mut connection.transaction {
        state.depth = depth;
    }
    Ok(())
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let depth = self.around.as_ref().map_or(0, |around| around.depth);
        match &mut self.connection {
            MaybeLease::Taken(lease) => {
                // Otherwise the lease is recycled.
                if let Some(left) = &self.left {
                    left.with(|left| left.open = Some(lease.take()));
                }
            }
            MaybeLease::Lent(connection) => {
                // Only written down here; it is sent before the next statement.
                let begun = connection.verify().is_ok();
                while PgTransactionManager::get_transaction_depth(connection) > depth {
                    PgTransactionManager::start_rollback(connection.inner());
                }
                if self.around.is_some() {
                    self.restore(true);
                } else if begun {
                    connection.abandon_transaction();
                }
            }
        }
    }
}

impl Connection {
    /// A transaction on this connection, or a savepoint if it is in one. Dropping it undoes what was done in it.
    ///
    /// ```no_run
    /// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
    /// let mut lease = pool.acquire().await?;
    /// let mut transaction = lease.begin().await?;
    /// sqlx::query("insert into customer (name) values ('Ada')").execute(&mut *transaction).await?;
    /// transaction.commit().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of any statement. After dropping this future half-way the connection takes no further statement.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        self.begin_with(TransactionOptions::default()).await
    }

    /// A transaction with an isolation level, or read-only. The options are not used for a savepoint, which has those of its
    /// transaction.
    ///
    /// # Errors
    /// Those of [`begin`](Self::begin).
    pub async fn begin_with(
        &mut self,
        options: TransactionOptions,
    ) -> Result<Transaction<'_>, Error> {
        Transaction::start(MaybeLease::Lent(self), options, &Limits::default()).await
    }
}

impl Deref for Transaction<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}
