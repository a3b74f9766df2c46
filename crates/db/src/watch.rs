//! The watch on one statement: how long it took, how it ended, and a word in the log when it was slow.

use std::time::Instant;

use sqlx::SqlStr;

use crate::error::{Error, is_broken};
use crate::pool::Inner;
use crate::shelf::shorten;
use crate::statement::Step;
use crate::stats::Outcome;

/// Times a statement, whichever way it ends.
pub(crate) struct Watch<'a> {
    pub(crate) pool: &'a Inner,
    sql: SqlStr,
    since: Instant,
    pub(crate) rows: u64,
    outcome: Outcome,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(pool: &'a Inner, sql: &SqlStr) -> Self {
        Self {
            pool,
            sql: sql.clone(),
            since: Instant::now(),
            rows: 0,
            outcome: Outcome::Cancelled,
        }
    }

    pub(crate) fn saw(&mut self, step: &Step) {
        self.rows += u64::from(step.is_right());
    }

    pub(crate) fn ended(&mut self, error: Option<&sqlx::Error>) {
        self.outcome = match error {
            None => Outcome::Ok,
            Some(sqlx::Error::Io(error))
                if error.get_ref().is_some_and(|inner| inner.is::<Error>()) =>
            {
                Outcome::Timeout
            }
            Some(error) if is_broken(error) => Outcome::Broken,
            Some(_) => Outcome::Error,
        };
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let time = self.since.elapsed();
        self.pool.stats.statement(self.outcome, time);
        if self
            .pool
            .config
            .slow_statement_threshold
            .is_some_and(|limit| time >= limit)
        {
            let (sql, rows) = (shorten(self.sql.as_str()), self.rows);
            tracing::warn!(
                duration_ms = time.as_millis() as u64,
                rows,
                sql,
                "slow statement: {sql}"
            );
        }
    }
}
