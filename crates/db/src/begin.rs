//! How transactions are asked for: of the pool, and of whatever a function was given.

use std::future::ready;
use std::panic::Location;
use std::time::Duration;

use futures_core::future::BoxFuture;
use sqlx::{PgConnection, Postgres};

use crate::error::{Error, is_broken, is_conflict};
use crate::pool::{Connection, Lease, MaybeLease, Origin, Pool, acquire_anywhere};
use crate::transaction::{Left, LeftBehind, Transaction, TransactionOptions};

impl Pool {
    /// A transaction. Dropping it without `commit` rolls back.
    ///
    /// # Errors
    /// Those of [`Pool::acquire`], and the server's.
    #[track_caller]
    pub fn begin(
        &self,
    ) -> impl Future<Output = Result<Transaction<'static>, Error>> + Send + use<> {
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
    ) -> impl Future<Output = Result<Transaction<'static>, Error>> + Send + use<> {
        begin_at(self, options, Location::caller())
    }

    /// Runs `work` in a transaction and commits it if it returns `Ok`.
    ///
    /// After a conflict with another transaction (SQLSTATE 40001 or 40P01), or with a migration that changed what one of its
    /// statements gives, it runs again from the start, up to
    /// `options.retries` times, after a pause of a few milliseconds that no two callers share. `work` must do nothing
    /// that a second run may not repeat. Nothing is run again after a COMMIT whose answer was lost.
    ///
    /// `work` may borrow what is around it, without `move`; what it changes there has to be behind an atomic or a lock, for
    /// it may run more than once. It may also commit or roll back by itself; a transaction that it only drops is committed with
    /// its `Ok`.
    ///
    /// ```no_run
    /// # use db::{Isolation, TransactionOptions};
    /// async fn handler(pool: db::Pool, accounts: Vec<i64>) -> Result<(), db::Error> {
    ///     let options = TransactionOptions { isolation: Isolation::Serializable, retries: 3, ..Default::default() };
    ///     pool.transaction(options, async |mut transaction| {
    ///         for account in &accounts {
    ///             sqlx::query("update account set balance = balance - 1 where id = $1")
    ///                 .bind(account)
    ///                 .execute(&mut *transaction)
    ///                 .await?;
    ///         }
    ///         Ok(())
    ///     })
    ///     .await
    /// }
    /// # fn spawned(pool: db::Pool) { tokio::spawn(handler(pool, vec![1, 2])); }
    /// ```
    ///
    /// # Errors
    /// Those of `work`, of [`Pool::begin`] and of [`Transaction::commit`].
    #[track_caller]
    pub fn transaction<T, E, F, W>(
        &self,
        options: TransactionOptions,
        work: F,
    ) -> impl Future<Output = Result<T, E>>
    where
        E: From<Error>,
        F: FnMut(Transaction<'static>) -> W,
        W: Future<Output = Result<T, E>>,
    {
        transact(self, options, work, Location::caller())
    }
}

fn begin_at(
    pool: &Pool,
    options: TransactionOptions,
    place: &'static Location<'static>,
) -> impl Future<Output = Result<Transaction<'static>, Error>> + Send + use<> {
    let pool = pool.clone();
    async move {
        let limits = pool.1.as_deref().copied().unwrap_or_default();
        let take = async || {
            Ok::<_, Error>(MaybeLease::Taken(Lease(
                acquire_anywhere(&pool.0, pool.1.as_deref(), Origin::Code(place)).await?,
            )))
        };
        match Transaction::start(take().await?, options, &limits).await {
            // Its connection had ended while idle. Nothing has begun, so another one may.
            Err(error) if matches!(&error, Error::Sqlx(error) if is_broken(error)) => {
                Transaction::start(take().await?, options, &limits).await
            }
            Err(Error::Failover) => Transaction::start(take().await?, options, &limits).await,
            started => started,
        }
    }
}

async fn transact<T, E, W>(
    pool: &Pool,
    options: TransactionOptions,
    mut work: impl FnMut(Transaction<'static>) -> W,
    place: &'static Location<'static>,
) -> Result<T, E>
where
    E: From<Error>,
    W: Future<Output = Result<T, E>>,
{
    let mut attempt = 0;
    loop {
        let left = Left::default();
        let transaction = begin_at(pool, options, place).await?;
        let result = work(transaction.leave_to(left.clone())).await;
        let (error, conflict) = match ended(result, &left).await {
            Ok(value) => return Ok(value),
            Err(failed) => failed,
        };
        if !conflict || attempt == options.retries {
            return Err(error);
        }
        attempt += 1;
        let pause = Duration::from_millis(5 << attempt.min(6));
        tokio::time::sleep(pause.mul_f64(fastrand::f64())).await;
    }
}

/// Commits what a closure has left after its `Ok`, or rolls it back. With an error, whether another transaction was the cause.
async fn ended<T, E: From<Error>>(result: Result<T, E>, left: &Left) -> Result<T, (E, bool)> {
    let LeftBehind {
        open,
        ended,
        conflict,
    } = left.with(std::mem::take);
    let of_statement = open.as_ref().and_then(|lease| lease.transaction.as_ref());
    let conflict = conflict || of_statement.is_some_and(|state| state.conflict);
    match (result, open.map(Transaction::left_behind)) {
        (Ok(value), Some(transaction)) => match transaction.commit().await {
            Ok(()) => Ok(value),
            Err(error @ Error::CommitUnknown(_)) => Err((error.into(), false)),
            Err(error) => {
                let lost = matches!(&error, Error::Sqlx(error) if is_conflict(error));
                Err((error.into(), conflict || lost))
            }
        },
        (Ok(value), None) if ended => Ok(value),
        (Ok(_), None) => {
            let why = "it was kept beyond the closure that it was given to".to_owned();
            Err((Error::TransactionFailed(why).into(), false))
        }
        // The closure's own error says more than a failed rollback, which the lease recovers from anyway.
        (Err(error), transaction) => {
            if let Some(transaction) = transaction {
                let _ = transaction.rollback().await;
            }
            Err((error, conflict))
        }
    }
}

/// What a function takes that runs on the pool, on a lease or inside a transaction, as its caller likes.
///
/// sqlx's own `Acquire` is there for `&mut Connection` and what lends one, but not for `&Pool`: it has to return sqlx's own
/// transaction, which only a pool of sqlx's can make.
///
/// ```no_run
/// async fn transfer(mut db: impl db::Acquire, from: i64, to: i64) -> Result<(), db::Error> {
///     // On the pool a transaction, inside of one a savepoint.
///     let mut transaction = db.begin().await?;
///     for (account, change) in [(from, -1), (to, 1)] {
///         sqlx::query("update account set balance = balance + $2 where id = $1")
///             .bind(account)
///             .bind(change)
///             .execute(&mut *transaction)
///             .await?;
///     }
///     transaction.commit().await
/// }
/// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
/// transfer(pool, 1, 2).await?;
///
/// let mut transaction = pool.begin().await?;
/// transfer(&mut transaction, 1, 2).await?;
/// transfer(&mut transaction, 2, 3).await?;
/// transaction.commit().await?;
/// # Ok(()) }
/// ```
pub trait Acquire: Send {
    /// A connection: the caller's, or one of the pool until it is dropped.
    ///
    /// # Errors
    /// Those of [`Pool::acquire`].
    fn acquire(&mut self) -> impl Future<Output = Result<MaybeLease<'_>, Error>> + Send;

    /// A transaction, or a savepoint inside the caller's.
    ///
    /// # Errors
    /// Those of [`Pool::begin`].
    fn begin(&mut self) -> impl Future<Output = Result<Transaction<'_>, Error>> + Send;
}

impl Acquire for &Pool {
    #[track_caller]
    fn acquire(&mut self) -> impl Future<Output = Result<MaybeLease<'_>, Error>> + Send {
        let acquired = Pool::acquire(self);
        async move { Ok(MaybeLease::Taken(acquired.await?)) }
    }

    #[track_caller]
    #[expect(
        clippy::redundant_async_block,
        reason = "it gives a shorter lifetime to what would be 'static"
    )]
    fn begin(&mut self) -> impl Future<Output = Result<Transaction<'_>, Error>> + Send {
        let begun = Pool::begin(self);
        async move { begun.await }
    }
}

/// What lends a connection, to functions that ask for the trait above, for sqlx's own, or for `AsMut`.
macro_rules! lends {
    ($($lender:ty),*) => {$(
        impl Acquire for &mut $lender {
            fn acquire(&mut self) -> impl Future<Output = Result<MaybeLease<'_>, Error>> + Send {
                ready(Ok(MaybeLease::Lent(self)))
            }

            fn begin(&mut self) -> impl Future<Output = Result<Transaction<'_>, Error>> + Send {
                Connection::begin(self)
            }
        }

        impl<'c> sqlx::Acquire<'c> for &'c mut $lender {
            type Database = Postgres;
            type Connection = &'c mut PgConnection;

            fn acquire(self) -> BoxFuture<'c, Result<&'c mut PgConnection, sqlx::Error>> {
                Box::pin(ready(Ok(self.lend())))
            }

            fn begin(self) -> BoxFuture<'c, Result<sqlx::Transaction<'c, Postgres>, sqlx::Error>> {
                sqlx::Acquire::begin(self.lend())
            }
        }

        impl AsMut<PgConnection> for $lender {
            fn as_mut(&mut self) -> &mut PgConnection {
                self.lend()
            }
        }
    )*};
}

lends!(Connection, Lease, MaybeLease<'_>, Transaction<'_>);
