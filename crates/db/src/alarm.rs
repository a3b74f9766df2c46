//! The deadline of one statement after the other, kept by one timer for each connection.
//!
//! A timer of its own for each statement would have to be entered into the runtime's clock and taken out again: for a
//! statement of 100 µs that is a tenth of its cost, because it wakes the thread that sleeps until the next timer is due.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::Error;

/// A timer that is set when it is first needed, and again only when it has rung too early or would ring too late.
#[derive(Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// What `future` gives, or [`Error::StatementTimeout`] if that takes longer than `limit`.
    pub(crate) async fn within<T>(
        &mut self,
        limit: Option<Duration>,
        future: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let Some(limit) = limit else {
            return Ok(future.await);
        };
        let deadline = Instant::now() + limit;
        let mut future = pin!(future);
        poll_fn(|context| {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(value));
            }
            // The clock decides; the timer only sees to it that somebody looks.
            if Instant::now() >= deadline {
                return Poll::Ready(Err(Error::StatementTimeout(limit)));
            }
            let timer = self
                .0
                .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
            }
            // One that was set for an earlier statement may ring early: then it is set for this one.
            while timer.as_mut().poll(context).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(Err(Error::StatementTimeout(limit)));
                }
                timer.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::task::yield_now;

    use super::*;

    const SHORT: Duration = Duration::from_millis(40);

    async fn rings(alarm: &mut Alarm) {
        let started = Instant::now();
        let rung = alarm.within(Some(SHORT), pending::<()>()).await;
        assert!(matches!(rung, Err(Error::StatementTimeout(SHORT))));
        let after = started.elapsed();
        assert!(after >= SHORT && after < SHORT * 50, "{after:?}");
    }

    #[tokio::test]
    async fn each_statement_has_the_whole_of_its_own_deadline() {
        let mut alarm = Alarm::default();
        for earlier in [SHORT / 2, SHORT, SHORT * 1000] {
            alarm.within(Some(earlier), yield_now()).await.unwrap();
            rings(&mut alarm).await;
        }
        rings(&mut alarm).await;
        alarm.within(None, yield_now()).await.unwrap();
    }

    #[tokio::test]
    async fn a_stream_that_never_pauses_ends_all_the_same() {
        let busy = async {
            loop {
                tokio::task::consume_budget().await;
            }
        };
        let rung = Alarm::default().within(Some(SHORT), busy).await;
        rung.expect_err("the deadline holds");
    }
}
