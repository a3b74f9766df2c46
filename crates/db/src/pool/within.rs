//! Limits of time that count only the time in which this process ran.

use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Sleep, sleep_until};

use crate::pool::state::Shared;

/// As good as no limit.
const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// Before a time is taken for over, the runtime looks once at its sockets: after a pause it sees its timers first.
const LOOK: Duration = Duration::from_millis(1);

pin_project! {
    /// A limit of the time in which the process runs.
    pub(crate) struct Limit<P> {
        pool: P,
        since: Instant,
        limit: Duration,
        looked: bool,
        #[pin]
        sleep: Sleep,
    }
}

impl<P: Deref<Target = Shared>> Limit<P> {
    pub(crate) fn new(pool: P, since: Instant, limit: Duration) -> Self {
        let limit = limit.min(NEVER);
        Self {
            pool,
            since,
            limit,
            looked: false,
            sleep: sleep_until((since + limit).into()),
        }
    }

    /// It begins anew.
    pub(crate) fn restart(self: Pin<&mut Self>, since: Instant, limit: Duration) {
        let this = self.project();
        let limit = limit.min(NEVER);
        (*this.since, *this.limit, *this.looked) = (since, limit, false);
        this.sleep.reset((since + limit).into());
    }

    /// Ready when the time is over.
    pub(crate) fn poll_over(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        loop {
            // A timer does not speak to a task that has used up its turn, which must not make its time endless.
            let late =
                !has_budget_remaining() && this.sleep.deadline().into_std() <= Instant::now();
            if !late && this.sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            let lost = this.pool.lost(*this.since, now);
            let left = this
                .limit
                .saturating_sub((now - *this.since).saturating_sub(lost));
            let more = if !lost.is_zero() && !left.is_zero() {
                (*this.since, *this.limit) = (now, left);
                left
            } else if !std::mem::replace(this.looked, true) {
                LOOK
            } else {
                return Poll::Ready(());
            };
            this.sleep.as_mut().reset((now + more).into());
        }
    }
}

pin_project! {
    /// Waits for its work for so long at most. `None` when the time is over.
    pub(crate) struct Bounded<P, F> {
        #[pin]
        limit: Limit<P>,
        #[pin]
        work: F,
    }
}

impl<P: Deref<Target = Shared>, F: Future> Future for Bounded<P, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.work.poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => this.limit.poll_over(context).map(|()| None),
        }
    }
}

/// Waits for `work` for so long at most. `None` when the time is over.
pub(crate) fn within<F: Future>(pool: &Shared, limit: Duration, work: F) -> Bounded<&Shared, F> {
    Bounded {
        limit: Limit::new(pool, Instant::now(), limit),
        work,
    }
}

pin_project! {
    /// What [`Pool::within`](crate::Pool::within) gives.
    pub struct Within<F> {
        #[pin]
        bounded: Bounded<Arc<Shared>, F>,
    }
}

impl<F> Within<F> {
    pub(crate) fn new(pool: Arc<Shared>, (since, limit): (Instant, Duration), work: F) -> Self {
        let limit = Limit::new(pool, since, limit);
        Self {
            bounded: Bounded { limit, work },
        }
    }
}

impl<F: Future> Future for Within<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().bounded.poll(context)
    }
}

impl<F> std::fmt::Debug for Within<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Within").finish_non_exhaustive()
    }
}

impl Shared {
    /// How much of this time the process did not run.
    pub(crate) fn lost(&self, since: Instant, now: Instant) -> Duration {
        self.state().pace.pauses.lost(since, now)
    }
}
