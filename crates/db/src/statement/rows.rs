//! The rows of a statement as a stream. They are read as they come, and the connection goes back when the last one is
//! there, before the reader has looked at them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_core::future::BoxFuture;
use futures_core::stream::Stream;

use crate::statement::answer::{Answer, Step};

/// What has come and was not handed out yet, and whether anything ever was.
#[derive(Clone, Default)]
pub(crate) struct Arrived(Arc<Mutex<(Vec<Step>, bool)>>);

impl Arrived {
    fn with<T>(&self, use_it: impl FnOnce(&mut (Vec<Step>, bool)) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Answer for Arrived {
    const STREAM: bool = true;
    /// A page of twenty, one more that says whether another page follows, and the end.
    const ROOM: usize = 22;

    fn take(&mut self, steps: impl Iterator<Item = Step>) {
        self.with(|(arrived, any)| {
            arrived.extend(steps);
            *any |= !arrived.is_empty();
        });
    }

    fn is_empty(&self) -> bool {
        self.with(|(_, any)| !*any)
    }
}

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
    /// The rows that `run` puts into its argument.
    pub(crate) fn of<F>(run: impl FnOnce(Arrived) -> F) -> Self
    where
        F: Future<Output = Result<(), sqlx::Error>> + Send + 'e,
    {
        let arrived = Arrived::default();
        Self {
            run: Some(Box::pin(run(arrived.clone()))),
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
            let arrived = this.arrived.with(|(arrived, _)| std::mem::take(arrived));
            this.batch = arrived.into_iter();
            match ended {
                Poll::Ready(result) => (this.run, this.error) = (None, result.err()),
                Poll::Pending if this.batch.len() == 0 => return Poll::Pending,
                Poll::Pending => {}
            }
        }
    }
}
