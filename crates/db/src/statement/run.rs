//! One statement: sent, timed, run again when that is safe and helps, and logged when it was slow.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgConnection, PgStatement};
use sqlx::{Either, Execute, Executor, Postgres, SqlStr};
use tracing::Span;

use crate::error::{Error, is_broken, is_stale_plan};
use crate::metrics::Outcome;
use crate::only_reads::only_reads;
use crate::pool::{
    Connection, Limit, Origin, Patience, Pool, Replica, Shared, acquire, on_one_line,
};
use crate::session_effect::{SessionEffect, controls_transaction};
use crate::statement::again;
use crate::statement::answer::{Answer, collect, pause};
use crate::{caller, spans};

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
        // A text that was made at run time is copied now, so that its other clones are not copies.
        let (persistent, sql) = (query.persistent(), query.sql().clone());
        Ok(Self {
            effect: SessionEffect::of_text(&sql, arguments.is_none()),
            sql,
            arguments,
            persistent,
        })
    }

    /// Whether it may run a second time after this error, which came before its first row.
    fn may_repeat(&self, pool: &Pool, connection: &Connection, error: &sqlx::Error) -> bool {
        again::may_repeat(pool, connection, &self.sql, self.arguments.is_some(), error)
    }

    /// What sqlx gets of it. Behind a pooler a statement without a name may be another client's, so it gets one whatever
    /// was asked for.
    fn sent(&self, pool: &Shared) -> Self {
        #[cfg(test)]
        crate::statement::way::sent();
        let mut sent = self.clone();
        if pool.is_pooled() {
            sent.persistent = true;
            sent.sql = pool.renewed.text(&self.sql);
        }
        sent
    }
}

impl Execute<'_, Postgres> for Statement {
    fn sql(self) -> SqlStr {
        self.sql
    }

    /// What an earlier `prepare` learnt is left out: it may be out of date, and each connection keeps its own.
    fn statement(&self) -> Option<&PgStatement> {
        None
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.persistent
    }
}

/// Times a statement, however it ends.
struct Timer<'s> {
    pool: &'s Shared,
    sql: &'s SqlStr,
    since: Instant,
    /// When its answer was there.
    ended: Option<Instant>,
    rows: u64,
    /// The first look at the socket after it was sent found nothing.
    quiet: bool,
    outcome: Outcome,
    /// How long the caller waited for the connection before.
    waited: Duration,
    span: Span,
}

impl<'s> Timer<'s> {
    fn start(pool: &'s Shared, sql: &'s SqlStr, connection: &mut Connection) -> Self {
        let asked = connection.asked.take();
        let waited = std::mem::take(&mut connection.waited);
        Self {
            pool,
            sql,
            since: asked.unwrap_or_else(Instant::now),
            ended: None,
            rows: 0,
            quiet: false,
            outcome: Outcome::Cancelled,
            waited,
            span: spans::statement(&pool.config, sql.as_str()),
        }
    }
}

impl Timer<'_> {
    /// Each statement, for who asks for it by the target: without its arguments.
    fn log(&self, time: Duration) {
        if tracing::enabled!(target: "db::query", tracing::Level::DEBUG) {
            let (sql, rows) = (on_one_line(self.sql.as_str()), self.rows);
            let [ms, wait_ms] = [time, self.waited].map(|time| time.as_secs_f64() * 1000.0);
            let error = self.outcome.error_type();
            tracing::debug!(
                target: "db::query",
                duration_ms = ms,
                wait_ms,
                rows,
                error,
                "{sql} ({ms:.1} ms, {rows} rows, after a wait of {wait_ms:.1} ms)"
            );
        }
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        let time = match self.ended {
            Some(ended) => ended - self.since,
            None => self.since.elapsed(),
        };
        self.pool
            .metrics
            .statement(&self.outcome, time, self.waited);
        caller::ran(time);
        self.log(time);
        spans::rows(&self.span, self.rows);
        spans::ended(&self.span, &self.outcome);
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

/// Runs a statement on a connection of the pool, and once more on another one if its connection had ended while idle.
pub(crate) async fn run_on_pool(
    pool: &Pool,
    statement: &Statement,
    answer: &mut impl Answer,
) -> Result<(), sqlx::Error> {
    if let Some(replica) = &pool.0.replica {
        return Box::pin(run_on_replica(pool, replica, statement, answer)).await;
    }
    let origin = Origin::Statement(statement.sql.clone());
    let mut connection = acquire(&pool.0, pool.1.as_deref(), origin).await?;
    if pool.1.is_some() {
        connection = Box::pin(limited(pool, connection, statement)).await?;
    }
    match run(&pool.0, &mut connection, statement, answer).await {
        Err(error) if answer.is_empty() && statement.may_repeat(pool, &connection, &error) => {
            again::make_way(pool, &mut connection, &error).await;
            drop(connection);
            pool.0.metrics.repeated.fetch_add(1, Relaxed);
            // Boxed, because each statement would carry the size of what almost none needs.
            Box::pin(once(pool, statement, answer)).await
        }
        result => result,
    }
}

/// A connection whose session knows the pool's own limits: another one if it had ended, for nothing of the statement was sent.
async fn limited(
    pool: &Pool,
    mut connection: Connection,
    statement: &Statement,
) -> Result<Connection, sqlx::Error> {
    match connection.limit(pool).await {
        Err(Error::Sqlx(error)) if is_broken(&error) => drop(connection),
        told => return Ok(told.map(|()| connection)?),
    }
    let origin = Origin::Statement(statement.sql.clone());
    let mut another = acquire(&pool.0, pool.1.as_deref(), origin).await?;
    another.limit(pool).await?;
    Ok(another)
}

/// Runs a read on a replica, or on the primary if the replica does not answer, or has just failed in the same.
async fn run_on_replica(
    pool: &Pool,
    replica: &Replica,
    statement: &Statement,
    answer: &mut impl Answer,
) -> Result<(), sqlx::Error> {
    let (health, sql) = (&replica.health, statement.sql.as_str());
    if replica.may_be_asked(sql) {
        let ran = tokio::select! {
            ran = once(pool, statement, answer) => ran,
            () = health.lost() => Err(Error::NoAnswer(Duration::ZERO).into()),
        };
        let Err(error) = ran.map_err(Error::from) else {
            health.strain.answered(sql);
            return Ok(());
        };
        tracing::debug!("a replica did not answer a read: {error}");
        if !health.leaves_statement(sql, &error) || !answer.is_empty() {
            return Err(error.into());
        }
    }
    pool.0.metrics.fallbacks.fetch_add(1, Relaxed);
    let ran = run_on_pool(&pool.primary(replica), statement, answer).await;
    ran.map_err(|error| health.strain.primary_failed(sql, error))
}

async fn once(
    pool: &Pool,
    statement: &Statement,
    answer: &mut impl Answer,
) -> Result<(), sqlx::Error> {
    let origin = Origin::Statement(statement.sql.clone());
    let mut connection = acquire(&pool.0, pool.1.as_deref(), origin).await?;
    if pool.1.is_some() {
        connection = Box::pin(limited(pool, connection, statement)).await?;
    }
    run(&pool.0, &mut connection, statement, answer).await
}

/// Runs a statement to its end.
pub(crate) async fn run(
    pool: &Shared,
    connection: &mut Connection,
    statement: &Statement,
    answer: &mut impl Answer,
) -> Result<(), sqlx::Error> {
    connection.verify()?;
    // What a replica carries out writes nothing, whatever functions it calls.
    if caller::writes_count() && pool.replica.is_none() && !only_reads(statement.sql.as_str()) {
        caller::wrote();
    }
    let patience = match connection.transaction.is_some() {
        true => verify(connection, statement)?,
        false => None,
    };
    let limit = patience.as_ref().map(|patience| patience.limit);
    let limit = limit.or(connection.socket_timeout).unwrap_or(Duration::MAX);
    let mut timer = Timer::start(pool, &statement.sql, connection);
    let transaction = connection.transaction.as_mut();
    let first = transaction.is_some_and(|state| std::mem::take(&mut state.untouched));
    // Text without arguments may be several statements, of which some have run, and is not prepared.
    let mut second_time = statement.arguments.is_none();
    loop {
        timer.ended = None;
        let after = connection.started(&statement.sql, statement.effect);
        let sent = read(connection.inner(), statement, &mut timer, limit, answer);
        let Some(result) = sent.await else {
            connection.overdue = true;
            timer.outcome = Outcome::Timeout;
            let error =
                patience.map_or(Error::StatementTimeout(limit), |patience| patience.error());
            return Err(error.into());
        };
        connection.ended(after, result.as_ref().copied());
        timer.ended = Some(Instant::now());
        connection.answered = timer.ended;
        match &result {
            Ok(()) => timer.outcome = Outcome::Ok,
            Err(error) => {
                timer.outcome = Outcome::of(error);
                connection.was_over = !timer.quiet && is_broken(error);
            }
        }
        match result {
            Err(error) if is_stale_plan(&error) && timer.rows == 0 && !second_time => {
                second_time = true;
                let sent = (&statement.sql, timer.since, after);
                if !Box::pin(again::prepare_anew(connection, sent, first)).await? {
                    return Err(error);
                }
            }
            Err(error) if is_broken(&error) => return Err(again::explain(patience, error)),
            result => return result,
        }
    }
}

/// Sends a statement and hands out what comes. `None` when that takes longer than `limit`, which bounds the
/// whole answer, or each wait where the rows are handed out as they come.
async fn read<A: Answer>(
    connection: &mut PgConnection,
    statement: &Statement,
    timer: &mut Timer<'_>,
    limit: Duration,
    answer: &mut A,
) -> Option<Result<(), sqlx::Error>> {
    let mut ends = pin!(Limit::new(timer.pool, timer.since, limit));
    let sent = statement.sent(timer.pool);
    if A::ONE_ROW {
        let mut row = connection.fetch_optional(sent);
        let row = poll_fn(|context| {
            let row = row.poll_unpin(context);
            timer.quiet |= row.is_pending();
            until(ends.as_mut(), context, row)
        });
        let row = row.await?;
        return Some(row.map(|row| {
            timer.rows += u64::from(row.is_some());
            answer.take(row.map(Either::Right).into_iter());
        }));
    }
    let mut steps = connection.fetch_many(sent);
    let mut came = Vec::with_capacity(A::ROOM);
    loop {
        let ended = poll_fn(|context| {
            let ended = collect(&mut steps, context, &mut came);
            timer.quiet |= ended.is_pending() || !came.is_empty();
            until(ends.as_mut(), context, ended)
        })
        .await?;
        timer.rows += came.iter().filter(|step| step.is_right()).count() as u64;
        answer.take(came.drain(..));
        if let Some(result) = ended {
            return Some(result);
        }
        if A::STREAM {
            pause().await;
            ends.as_mut().restart(Instant::now(), limit);
        }
    }
}

/// What is there, or `None` once the deadline is over.
fn until<T>(
    ends: Pin<&mut Limit<&Shared>>,
    context: &mut Context<'_>,
    next: Poll<T>,
) -> Poll<Option<T>> {
    match next {
        Poll::Ready(next) => Poll::Ready(Some(next)),
        Poll::Pending => ends.poll_over(context).map(|()| None),
    }
}

/// Nothing is sent in a transaction that has ended, or that would end it behind its back. Gives how long it may take.
fn verify(
    connection: &mut Connection,
    statement: &Statement,
) -> Result<Option<Patience>, sqlx::Error> {
    let patience = connection.patience();
    if let Some(over) = patience
        .as_ref()
        .filter(|patience| patience.limit.is_zero())
    {
        return Err(over.error().into());
    }
    if controls_transaction(statement.sql.as_str()) {
        let instead = "a transaction is begun and ended by begin, commit and rollback of `Transaction`, not by SQL";
        return Err(sqlx::Error::InvalidArgument(instead.to_owned()));
    }
    Ok(patience)
}
