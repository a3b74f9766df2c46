//! What a statement answers, as it comes, and what callers make of it.

use std::future::poll_fn;
use std::task::{Context, Poll};

use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use sqlx::Either;
use sqlx::postgres::{PgQueryResult, PgRow};

/// So many rows are read ahead of their reader at most.
const AHEAD: usize = 128;

pub(crate) type Step = Either<PgQueryResult, PgRow>;

/// What is made of what a statement answers.
pub(crate) trait Answer: Send {
    /// One row is enough: sqlx has a shorter way for it.
    const ONE_ROW: bool = false;
    /// The rows are handed out as they come.
    const STREAM: bool = false;
    /// So many steps are expected.
    const ROOM: usize = 1;

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

/// Takes what is there. How it ended, or `None` if more will come; pending only if there is nothing.
pub(crate) fn collect(
    steps: &mut BoxStream<'_, Result<Step, sqlx::Error>>,
    context: &mut Context<'_>,
    came: &mut Vec<Step>,
) -> Poll<Option<Result<(), sqlx::Error>>> {
    while came.len() < AHEAD {
        match steps.poll_next_unpin(context) {
            Poll::Ready(Some(Ok(step))) => came.push(step),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => return Poll::Ready(Some(Ok(()))),
            Poll::Pending if came.is_empty() => return Poll::Pending,
            Poll::Pending => break,
        }
    }
    Poll::Ready(None)
}

/// Lets the reader have what has come. It polls again when it wants more.
pub(crate) async fn pause() {
    let mut paused = false;
    poll_fn(|_| match std::mem::replace(&mut paused, true) {
        false => Poll::Pending,
        true => Poll::Ready(()),
    })
    .await;
}
