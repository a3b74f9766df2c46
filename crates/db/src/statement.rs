//! One statement on one lease: sent, timed, healed when a table changed under it, and told about when it was slow.

use std::time::Duration;

use futures_core::stream::BoxStream;
use futures_util::TryStreamExt;
use sqlx::postgres::{PgArguments, PgQueryResult, PgRow, PgStatement};
use sqlx::{Connection, Either, Execute, Executor, Postgres, SqlStr};

use crate::deadline::within;
use crate::effect::Effect;
use crate::error::{Error, is_stale_plan};
use crate::lease::{Condition, Lease};
use crate::watch::Watch;

pub(crate) type Step = Either<PgQueryResult, PgRow>;

/// A statement taken out of sqlx's query, so that it can be looked at and run a second time.
#[derive(Clone)]
pub(crate) struct Statement {
    pub(crate) sql: SqlStr,
    pub(crate) arguments: Option<PgArguments>,
    persistent: bool,
}

impl Statement {
    /// Behind a pooler a statement without a name may be another client's, so it gets one whatever was asked for.
    pub(crate) fn named(self, always: bool) -> Self {
        Self {
            persistent: self.persistent || always,
            ..self
        }
    }

    pub(crate) fn new<'q>(mut query: impl Execute<'q, Postgres>) -> Result<Self, sqlx::Error> {
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?;
        let persistent = query.persistent();
        Ok(Self {
            sql: query.sql(),
            arguments,
            persistent,
        })
    }
}

impl Execute<'_, Postgres> for Statement {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&PgStatement> {
        // What an earlier `prepare` learnt may be out of date, and each connection keeps its own.
        None
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, sqlx::error::BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.persistent
    }
}

impl Lease {
    /// Runs a statement to its end.
    pub(crate) async fn run(
        &mut self,
        statement: Statement,
        mut each: impl FnMut(Step) + Send,
    ) -> Result<(), sqlx::Error> {
        let pool = self.claim().pool.clone();
        let statement = statement.named(pool.config.pgbouncer);
        let mut watch = Watch::new(&pool, &statement.sql);
        // Inside a transaction the failure has ended it already; outside, nothing has happened yet.
        let again = self.transaction.is_none().then(|| statement.clone());
        let before = self.condition;
        let mut result = self.once(statement, &mut watch, &mut each).await;
        if let (Err(error), Some(statement)) = (&result, again)
            && is_stale_plan(error)
            && watch.rows == 0
        {
            result = match self.forget_statements(before).await {
                Ok(()) => self.once(statement, &mut watch, &mut each).await,
                Err(error) => Err(error),
            };
        }
        watch.ended(result.as_ref().err());
        result
    }

    async fn once(
        &mut self,
        statement: Statement,
        watch: &mut Watch<'_>,
        each: &mut (impl FnMut(Step) + Send),
    ) -> Result<(), sqlx::Error> {
        let limit = watch.pool.config.socket_timeout;
        let effect = statement.effect();
        let before = self.started(&statement.sql, effect);
        let rows = async {
            let mut steps = self.connection().fetch_many(statement);
            while let Some(step) = steps.try_next().await? {
                watch.saw(&step);
                each(step);
            }
            Ok(())
        };
        let result = match within(limit, rows).await {
            Ok(result) => result,
            Err(error) => {
                self.overdue = true;
                return Err(error.into());
            }
        };
        self.ended(before, effect, result.as_ref().copied());
        result
    }

    /// Makes the server and sqlx forget their prepared statements, after a table changed under them.
    async fn forget_statements(&mut self, before: Condition) -> Result<(), sqlx::Error> {
        let result = self.connection().clear_cached_statements().await;
        self.ended(before, Effect::None, result.as_ref().copied());
        result
    }
}

/// Runs a statement and gives its rows as they come. The lease, owned or borrowed, is held until the stream ends.
///
/// `socket_timeout` bounds the wait for each row, not the time its reader takes.
pub(crate) fn stream<'e>(
    lease: impl Future<Output = Result<impl std::borrow::BorrowMut<Lease> + Send + 'e, Error>>
    + Send
    + 'e,
    statement: Result<Statement, sqlx::Error>,
) -> BoxStream<'e, Result<Step, sqlx::Error>> {
    Box::pin(async_stream::try_stream! {
        let mut statement = Some(statement?);
        let mut lease = lease.await?;
        let lease = lease.borrow_mut();
        let pool = lease.claim().pool.clone();
        while let Some(current) = statement.take() {
            let current = current.named(pool.config.pgbouncer);
            let mut watch = Watch::new(&pool, &current.sql);
            let again = lease.transaction.is_none().then(|| current.clone());
            let effect = current.effect();
            let before = lease.started(&current.sql, effect);
            let failed = {
                let mut steps = lease.connection().fetch_many(current);
                loop {
                    match next(&mut steps, pool.config.socket_timeout).await {
                        Ok(Some(step)) => {
                            watch.saw(&step);
                            yield step;
                        }
                        Ok(None) => break None,
                        Err(error) => break Some(error),
                    }
                }
            };
            let overdue = matches!(failed, Some(Error::StatementTimeout(_)));
            let failed = failed.map(sqlx::Error::from);
            watch.ended(failed.as_ref());
            if overdue {
                // Still marked: it is cancelled and the connection made fit.
                lease.overdue = true;
            } else {
                lease.ended(before, effect, failed.as_ref().map_or(Ok(()), Err));
            }
            if let Some(error) = failed {
                if !is_stale_plan(&error) || watch.rows > 0 || again.is_none() {
                    Err(error)?;
                }
                lease.forget_statements(before).await?;
                statement = again;
            }
        }
    })
}

async fn next(
    steps: &mut BoxStream<'_, Result<Step, sqlx::Error>>,
    limit: Option<Duration>,
) -> Result<Option<Step>, Error> {
    Ok(within(limit, steps.try_next()).await??)
}
