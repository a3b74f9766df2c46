//! What can go wrong, said so that the reader knows what to do.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use sqlx::error::DatabaseError;

use crate::connect_error::ConnectError;
use crate::queue_error::{PoolTimeout, QueueLimit, overloaded};
use crate::said::said;
use crate::sqlstate::{self, AtReplica, Loss, StatementAfter};

/// Every error of this crate.
///
/// Executors have to return [`sqlx::Error`]; the pool's own errors travel inside it and `Error::from` takes them out.
///
/// ```no_run
/// # async fn example(pool: &db::Pool) -> u16 {
/// let result = sqlx::query("insert into customer (email) values ('ada@example.com')").execute(pool).await;
/// match result.map_err(db::Error::from) {
///     Ok(_) => 201,
///     Err(error) if error.constraint() == Some("customer_email_unique") => 409,
///     Err(error) if error.is_unavailable() => 503, // with Retry-After: error.retry_after()
///     Err(_) => 500,
/// }
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection became free within `pool_timeout`, or before the caller's deadline.
    #[error("{0}")]
    PoolTimeout(Box<PoolTimeout>),
    /// A caller was turned away, because it would have waited in vain or the queue is at a limit.
    #[error("{}", overloaded(*.waiting, *.expected_wait, *.limit))]
    Overloaded {
        /// Callers in the queue.
        waiting: u32,
        /// How long one more would wait, as the connections came back lately. `None` when too few have.
        expected_wait: Option<Duration>,
        /// What it was turned away for.
        limit: QueueLimit,
        /// When to try again: the expected wait, from 1 s to 30 s.
        retry_after: Duration,
    },
    /// No connection could be opened.
    #[error("{0}")]
    Connect(Arc<ConnectError>),
    /// [`Pool::close`](crate::Pool::close) was called.
    #[error("the connection pool is closed")]
    Closed,
    /// The server did not answer a statement within `socket_timeout`. Whether it ran is not known.
    #[error("no answer to a statement within {0:?} (socket_timeout)")]
    StatementTimeout(Duration),
    /// The transaction took longer than [`Limits::transaction`](crate::Limits::transaction). It is rolled back.
    #[error("the transaction took longer than {0:?} (limits.transaction) and is rolled back")]
    TransactionTimeout(Duration),
    /// A transaction paused for longer than this between two statements, so the server rolled it back and closed the
    /// connection.
    #[error(
        "the transaction paused for longer than {0:?} (idle_in_transaction_session_timeout): the server has ended it"
    )]
    TransactionPaused(Duration),
    /// The server did not answer a sign-of-life check, such as [`Pool::check`](crate::Pool::check), within a limit that
    /// is not a setting.
    #[error("the database did not answer a check within {0:?}")]
    NoAnswer(Duration),
    /// A standby was promoted in the place of the server that this connection is to. Nothing was sent to the old one.
    #[error(
        "the database has another server since this connection was opened, so nothing was sent on it: begin again"
    )]
    Failover,
    /// `commit` of a transaction in which a statement failed: PostgreSQL rolled it back.
    #[error("the transaction was rolled back because a statement in it failed: {0}")]
    TransactionFailed(String),
    /// The answer to COMMIT was lost. Whether the transaction took effect is not known.
    #[error("the connection broke during COMMIT, so whether it took effect is not known: {}", said(.0))]
    CommitUnknown(sqlx::Error),
    /// A migration failed, or the database holds other migrations than this program.
    #[error("{}", of_migration(.0))]
    Migrate(sqlx::migrate::MigrateError),
    // No variant names a source: its own text is already in this one's, without what `said` leaves out.
    /// Anything else that sqlx reports.
    #[error("{}", of_sqlx(.0))]
    Sqlx(sqlx::Error),
}

impl Error {
    /// Whether the database or the pool is the trouble, not the request: HTTP's 503.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::PoolTimeout(_) | Self::Overloaded { .. } | Self::Connect(_) | Self::Closed => {
                true
            }
            Self::StatementTimeout(_)
            | Self::TransactionTimeout(_)
            | Self::NoAnswer(_)
            | Self::Failover
            | Self::CommitUnknown(_) => true,
            Self::TransactionFailed(_) | Self::TransactionPaused(_) | Self::Migrate(_) => false,
            Self::Sqlx(error) => {
                is_broken(error)
                    || is_at_wrong_server(error)
                    || error
                        .as_database_error()
                        .is_some_and(sqlstate::is_unavailable)
                    || matches!(error, sqlx::Error::PoolClosed | sqlx::Error::PoolTimedOut)
            }
        }
    }

    /// When trying again makes sense, if it does: for HTTP's `Retry-After`. At least a second.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after, .. } => Some(*retry_after),
            _ => self.is_unavailable().then_some(Duration::from_secs(1)),
        }
    }

    /// PostgreSQL's own error, if that is what this is.
    #[must_use]
    pub fn as_database(&self) -> Option<&dyn DatabaseError> {
        match self {
            Self::Sqlx(error) | Self::CommitUnknown(error) => error.as_database_error(),
            Self::Connect(error) => error.source.as_database_error(),
            _ => None,
        }
    }

    /// The name of the constraint that was violated, if one was.
    #[must_use]
    pub fn constraint(&self) -> Option<&str> {
        self.as_database()?.constraint()
    }
}

impl From<sqlx::migrate::MigrateError> for Error {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self::Migrate(error)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<Error>()) => {
                match error.into_inner().map(|inner| inner.downcast::<Error>()) {
                    Some(Ok(inner)) => *inner,
                    // Not reached: the guard looked.
                    Some(Err(other)) => Self::Sqlx(sqlx::Error::Io(io::Error::other(other))),
                    None => Self::Closed,
                }
            }
            error => Self::Sqlx(error),
        }
    }
}

impl From<Error> for sqlx::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Sqlx(error) => error,
            error @ (Error::PoolTimeout(_)
            | Error::StatementTimeout(_)
            | Error::TransactionTimeout(_)
            | Error::NoAnswer(_)) => {
                sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, error))
            }
            error => sqlx::Error::Io(io::Error::other(error)),
        }
    }
}

/// sqlx's words, or ours without its own before them.
fn of_migration(error: &sqlx::migrate::MigrateError) -> String {
    match error {
        sqlx::migrate::MigrateError::Source(why) => why.to_string(),
        error => said(error),
    }
}

/// Also who says so, where that is not the server.
fn of_sqlx(error: &sqlx::Error) -> String {
    let error_of_pooler = error
        .as_database_error()
        .is_some_and(sqlstate::is_of_pooler);
    match error_of_pooler {
        true => format!(
            "{} (a pooler has ended the session, not the server: how long a statement waits in its queue, and for how many sessions \
             of the server, is a matter of its own settings, not of connection_limit)",
            said(error)
        ),
        false => said(error),
    }
}

/// Whether the pool gave up waiting, not the server or the transport.
pub(crate) fn is_timeout(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<Error>()))
}

/// Whether the statement was not sent, or not carried out, because its server is no longer the one that takes writes.
pub(crate) fn is_at_wrong_server(error: &sqlx::Error) -> bool {
    let inner = |error: &io::Error| {
        let inner = error.get_ref()?.downcast_ref::<Error>()?;
        Some(matches!(inner, Error::Failover))
    };
    match error {
        sqlx::Error::Io(error) => inner(error).unwrap_or(false),
        error => statement_of(error) == Some(StatementAfter::NotHere),
    }
}

/// Whether a replica failed in what a primary may answer: it does not answer, it takes no writes, it stopped a statement or kept it
/// waiting to go on replaying, it lacks a table or a schema that was just made, or it is in trouble itself (its time, memory,
/// disk or data).
pub(crate) fn is_of_replica(error: &Error) -> bool {
    match error {
        Error::Connect(_) | Error::NoAnswer(_) | Error::StatementTimeout(_) | Error::Failover => {
            true
        }
        Error::Sqlx(error) => {
            let at_replica = error.as_database_error().map(sqlstate::at_replica);
            is_broken(error) || at_replica.is_some_and(|done| done != AtReplica::Stands)
        }
        _ => false,
    }
}

/// Whether the connection that gave this error is of no further use.
pub(crate) fn is_broken(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => sqlstate::ends(&**error),
        _ => false,
    }
}

/// What a connection's error says about the other connections of the pool.
pub(crate) fn loss(error: &sqlx::Error) -> Loss {
    let said = error.as_database_error();
    said.map_or(Loss::Connection, sqlstate::loss)
}

/// Whether no statement of ours has run on the session that ended so.
pub(crate) fn never_ran(error: &sqlx::Error) -> bool {
    statement_of(error) == Some(StatementAfter::NeverRan)
}

/// Whether the statement took too long, so that a second time would take the same again.
pub(crate) fn is_out_of_time(error: &sqlx::Error) -> bool {
    statement_of(error) == Some(StatementAfter::OutOfTime)
}

/// Whether the statement was not accepted because a transaction is open.
pub(crate) fn is_in_transaction(error: &sqlx::Error) -> bool {
    statement_of(error) == Some(StatementAfter::InTransaction)
}

/// Whether a prepared statement no longer fits the tables (or is gone), so that preparing it anew helps.
pub(crate) fn is_stale_plan(error: &sqlx::Error) -> bool {
    statement_of(error) == Some(StatementAfter::Prepared)
}

/// Whether the transaction lost against another one and may be run again.
pub(crate) fn is_conflict(error: &sqlx::Error) -> bool {
    statement_of(error) == Some(StatementAfter::Conflict)
}

fn statement_of(error: &sqlx::Error) -> Option<StatementAfter> {
    error.as_database_error().map(sqlstate::statement)
}

/// PostgreSQL's code for an error of the server.
pub(crate) fn code_of(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error()?.code()
}
