//! One statement: sent, timed, run again when that is safe and helps, and logged when it was slow.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use futures_core::stream::BoxStream;
use futures_util::TryStreamExt;
use sqlx::postgres::{PgArguments, PgConnection, PgQueryResult, PgRow};
use sqlx::{Connection as _, Either, Execute, Executor, Postgres, SqlStr};
use tokio::time::timeout;

use crate::error::{Error, is_broken, is_stale_plan, was_idle};
use crate::metrics::Outcome;
use crate::only_reads::only_reads;
use crate::pool::{Condition, Lease, Origin, Pool, Shared, acquire, on_one_line};
use crate::session_effect::{SessionEffect, controls_transaction};

pub(crate) type Step = Either<PgQueryResult, PgRow>;

/// A statement taken out of sqlx's query, so that it can be looked at and run a second time.
#[derive(Clone)]
pub(crate) struct Statement {
    pub(crate) sql: SqlStr,
    arguments: Option<PgArguments>,
    persistent: bool,
    effect: SessionEffect,
}

impl Statement {
    pub(crate) fn new<'q>(mut query: impl Execute<'q, Postgres>) -> Result<Self, sqlx::Error> {
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?;
        let (persistent, sql) = (query.persistent(), query.sql());
        Ok(Self {
            effect: SessionEffect::of(sql.as_str(), arguments.is_none()),
            sql,
            arguments,
            persistent,
        })
    }

    /// Sends it. Behind a pooler a statement without a name may be another client's, so it gets one whatever was asked
    /// for. What an earlier `prepare` learnt is left out: it may be out of date, and each connection keeps its own.
    fn send<'c>(
        &self,
        connection: &'c mut PgConnection,
        pool: &Shared,
    ) -> BoxStream<'c, Result<Step, sqlx::Error>> {
        #[cfg(test)]
        crate::statement::way::sent();
        let sql = self.sql.clone();
        match self.arguments.clone() {
            None => connection.fetch_many(sqlx::raw_sql(sql)),
            Some(arguments) => {
                let query = sqlx::query_with(sql, arguments);
                connection.fetch_many(query.persistent(self.persistent || pool.config.pgbouncer))
            }
        }
    }
}

/// Times a statement, however it ends.
struct Timer {
    pool: Arc<Shared>,
    sql: SqlStr,
    since: Instant,
    rows: u64,
    outcome: Outcome,
}

impl Timer {
    fn start(pool: Arc<Shared>, sql: &SqlStr) -> Self {
        Self {
            pool,
            sql: sql.clone(),
            since: Instant::now(),
            rows: 0,
            outcome: Outcome::Cancelled,
        }
    }

    fn failed(&mut self, error: &sqlx::Error) {
        self.outcome = match error {
            error if is_timeout(error) => Outcome::Timeout,
            error if is_broken(error) => Outcome::Broken,
            _ => Outcome::Error,
        };
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let time = self.since.elapsed();
        self.pool.metrics.statement[self.outcome as usize].record(time);
        let slow = self.pool.config.slow_statement_threshold;
        if slow.is_some_and(|limit| time >= limit) {
            let (sql, rows) = (on_one_line(self.sql.as_str()), self.rows);
            tracing::warn!(
                duration_ms = time.as_millis() as u64,
                rows,
                sql,
                "slow statement: {sql}"
            );
        }
    }
}

/// Whether the pool gave up waiting, not the server or the transport.
fn is_timeout(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<Error>()))
}

/// Runs a statement on a connection of the pool, and once more on another one if its connection had ended while idle.
pub(crate) async fn run_on_pool(
    pool: &Pool,
    statement: Statement,
    mut each: impl FnMut(Step) + Send,
) -> Result<(), sqlx::Error> {
    let mut rows = false;
    let mut lease = acquire(&pool.0, Origin::Statement(statement.sql.clone())).await?;
    let mut first = |step: Step| {
        rows |= step.is_right();
        each(step);
    };
    match run(pool.0.clone(), &mut lease, &statement, &mut first).await {
        Err(error) if !rows && may_repeat(&statement, &error) => {
            drop(lease);
            let mut lease = acquire(&pool.0, Origin::Statement(statement.sql.clone())).await?;
            pool.0.metrics.repeated.fetch_add(1, Relaxed);
            run(pool.0.clone(), &mut lease, &statement, &mut each).await
        }
        result => result,
    }
}

/// Whether a statement that failed before its first row has surely not run, or may run twice.
fn may_repeat(statement: &Statement, error: &sqlx::Error) -> bool {
    was_idle(error) || is_broken(error) && !is_timeout(error) && only_reads(statement.sql.as_str())
}

/// Runs a statement to its end.
pub(crate) async fn run(
    pool: Arc<Shared>,
    lease: &mut Lease,
    statement: &Statement,
    each: &mut (impl FnMut(Step) + Send),
) -> Result<(), sqlx::Error> {
    if lease.transaction.is_some() {
        verify(lease, statement)?;
    }
    let mut timer = Timer::start(pool, &statement.sql);
    // Inside a transaction the failure has ended it already. Text without arguments may be several statements, of which
    // some have run.
    let mut second_time = lease.transaction.is_some() || statement.arguments.is_none();
    loop {
        let after = lease.started(&statement.sql, statement.effect);
        let rows = async {
            let mut steps = statement.send(lease.connection(), &timer.pool);
            while let Some(step) = steps.try_next().await? {
                timer.rows += u64::from(step.is_right());
                each(step);
            }
            Ok(())
        };
        let limit = timer.pool.config.socket_timeout;
        let Ok(result) = timeout(limit.unwrap_or(Duration::MAX), rows).await else {
            return Err(overdue(lease, &mut timer));
        };
        let result: Result<(), sqlx::Error> = result;
        lease.ended(after, result.as_ref().copied());
        match &result {
            Ok(()) => timer.outcome = Outcome::Ok,
            Err(error) => timer.failed(error),
        }
        match result {
            Err(error) if is_stale_plan(&error) && timer.rows == 0 && !second_time => {
                second_time = true;
                forget_statements(lease, after).await?;
            }
            result => return result,
        }
    }
}

/// Nothing is sent in a transaction that has ended, or that would end it behind its back.
fn verify(lease: &mut Lease, statement: &Statement) -> Result<(), sqlx::Error> {
    lease.verify_depth()?;
    if controls_transaction(statement.sql.as_str()) {
        let instead = "a transaction is begun and ended by begin, commit and rollback of `Transaction`, not by SQL";
        return Err(sqlx::Error::InvalidArgument(instead.to_owned()));
    }
    Ok(())
}

/// The caller has waited for `socket_timeout`. The lease stays marked: the statement is cancelled and the connection
/// made clean.
fn overdue(lease: &mut Lease, timer: &mut Timer) -> sqlx::Error {
    lease.overdue = true;
    let limit = timer.pool.config.socket_timeout.unwrap_or_default();
    let error = Error::StatementTimeout(limit).into();
    timer.failed(&error);
    error
}

/// Makes the server and sqlx forget their prepared statements, after a table changed under them.
async fn forget_statements(lease: &mut Lease, after: Condition) -> Result<(), sqlx::Error> {
    let limit = lease.pool().config.socket_timeout.unwrap_or(Duration::MAX);
    let forgotten = timeout(limit, lease.connection().clear_cached_statements()).await;
    let result = forgotten.unwrap_or_else(|_| Err(Error::StatementTimeout(limit).into()));
    lease.ended(after, result.as_ref().copied());
    result
}

/// Where a stream gets its connection from.
pub(crate) enum Source<'l> {
    /// The pool, and the lease once there is one. It is held until the stream ends.
    Pool(Pool, Option<Lease>),
    Lease(&'l mut Lease),
}

impl Source<'_> {
    async fn lease(&mut self, sql: &SqlStr) -> Result<&mut Lease, Error> {
        match self {
            Self::Lease(lease) => Ok(lease),
            Self::Pool(_, Some(lease)) => Ok(lease),
            Self::Pool(pool, none) => {
                Ok(none.insert(acquire(&pool.0, Origin::Statement(sql.clone())).await?))
            }
        }
    }

    /// Gives the lease back to get another one, if this is the pool. Counts that.
    fn renew(&mut self) -> bool {
        let Self::Pool(_, lease) = self else {
            return false;
        };
        if let Some(lease) = lease.take() {
            lease.pool().metrics.repeated.fetch_add(1, Relaxed);
        }
        true
    }
}

/// Runs a statement and gives its rows as they come.
///
/// `socket_timeout` bounds the wait for each row, not the time its reader takes.
pub(crate) fn stream<'e>(
    mut source: Source<'e>,
    statement: Result<Statement, sqlx::Error>,
) -> BoxStream<'e, Result<Step, sqlx::Error>> {
    Box::pin(async_stream::try_stream! {
        let statement = statement?;
        let (mut repeated, mut prepared_anew) = (false, false);
        let mut again = true;
        while std::mem::take(&mut again) {
            let lease = source.lease(&statement.sql).await?;
            if lease.transaction.is_some() {
                verify(lease, &statement)?;
            }
            let mut timer = Timer::start(lease.pool(), &statement.sql);
            let after = lease.started(&statement.sql, statement.effect);
            let result = {
                let mut steps = statement.send(lease.connection(), &timer.pool);
                loop {
                    match next(&mut steps, timer.pool.config.socket_timeout).await {
                        Some(Ok(Some(step))) => {
                            timer.rows += u64::from(step.is_right());
                            yield step;
                        }
                        Some(Ok(None)) => break Some(Ok(())),
                        Some(Err(error)) => break Some(Err(error)),
                        None => break None,
                    }
                }
            };
            let Some(result) = result else {
                Err(overdue(lease, &mut timer))?;
                break;
            };
            lease.ended(after, result.as_ref().copied());
            timer.outcome = Outcome::Ok;
            if let Err(error) = result {
                timer.failed(&error);
                let single = lease.transaction.is_none() && statement.arguments.is_some();
                let stale = is_stale_plan(&error) && single;
                let untouched = timer.rows == 0;
                if untouched && stale && !std::mem::replace(&mut prepared_anew, true) {
                    forget_statements(lease, after).await?;
                    again = true;
                } else if untouched && !std::mem::replace(&mut repeated, true) && may_repeat(&statement, &error) {
                    again = source.renew();
                }
                if !again {
                    Err(error)?;
                }
            }
        }
    })
}

/// The next step, or `None` when it does not come in time.
async fn next(
    steps: &mut BoxStream<'_, Result<Step, sqlx::Error>>,
    limit: Option<Duration>,
) -> Option<Result<Option<Step>, sqlx::Error>> {
    let step = timeout(limit.unwrap_or(Duration::MAX), steps.try_next());
    step.await.ok()
}
