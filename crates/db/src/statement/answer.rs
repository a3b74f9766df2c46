//! What callers make of what a statement answers.

use sqlx::Either;
use sqlx::postgres::{PgQueryResult, PgRow};

pub(crate) type Step = Either<PgQueryResult, PgRow>;

/// What is made of what a statement answers.
pub(crate) trait Answer: Send {
    /// One row is enough: sqlx has a shorter way for it.
    const ONE_ROW: bool = false;
    /// The rows are handed out as they come.
    const STREAM: bool = false;

    fn take(&mut self, steps: impl Iterator<Item = Step>);

    /// Nothing of the answer was taken, so that the statement may begin again.
    fn is_empty(&self) -> bool;
}

impl Answer for PgQueryResult {
    fn take(&mut self, steps: impl Iterator<Item = Step>) {
        self.extend(steps.filter_map(Either::left));
    }

    fn is_empty(&self) -> bool {
        self.rows_affected() == 0
    }
}

impl Answer for Option<PgRow> {
    const ONE_ROW: bool = true;

    fn take(&mut self, mut steps: impl Iterator<Item = Step>) {
        *self = steps.next().and_then(Either::right);
    }

    fn is_empty(&self) -> bool {
        self.is_none()
    }
}
