//! The rows of a statement as a stream. They are read as they come, and the connection goes back when the last one is
//! there, before the reader has looked at them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_core::future::BoxFuture;
use futures_core::stream::Stream;

use crate::statement::run::Step;

/// So many rows are read ahead of their reader at most.
const AHEAD: usize = 128;

/// What has come and was not handed out yet.
type Arrived = Arc<Mutex<Vec<Step>>>;

pub(crate) struct Rows<'e> {
    /// Runs the statement. `None` when it has ended.
    run: Option<BoxFuture<'e, Result<(), sqlx::Error>>>,
    arrived: Arrived,
    /// Those that are being handed out.
    batch: std::vec::IntoIter<Step>,
    /// Why it ended, for the reader who has had the rows before.
    error: Option<sqlx::Error>,
}

impl<'e> Rows<'e> {
    /// The rows of what `run` gives to its argument, which says when the reader should have them first.
    pub(crate) fn of<F>(run: impl FnOnce(Box<dyn FnMut(Step) -> bool + Send>) -> F) -> Self
    where
        F: Future<Output = Result<(), sqlx::Error>> + Send + 'e,
    {
        let arrived = Arrived::default();
        let rows = arrived.clone();
        let each = move |step| {
            let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
            rows.push(step);
            rows.len() >= AHEAD
        };
        Self {
            run: Some(Box::pin(run(Box::new(each)))),
            arrived,
            batch: Vec::new().into_iter(),
            error: None,
        }
    }
}

impl Stream for Rows<'_> {
    type Item = Result<Step, sqlx::Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(step) = this.batch.next() {
                return Poll::Ready(Some(Ok(step)));
            }
            let Some(run) = &mut this.run else {
                return Poll::Ready(this.error.take().map(Err));
            };
            let ended = run.as_mut().poll(context);
            let mut arrived = this.arrived.lock().unwrap_or_else(PoisonError::into_inner);
            this.batch = std::mem::take(&mut *arrived).into_iter();
            match ended {
                Poll::Ready(result) => (this.run, this.error) = (None, result.err()),
                Poll::Pending if this.batch.len() == 0 => return Poll::Pending,
                Poll::Pending => {}
            }
        }
    }
}
