//! Limits of time that count only the time in which this process ran.

use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::pool::state::Shared;

/// Before a time is taken for over, the runtime looks once at its sockets: after a pause it sees its timers first.
const LOOK: Duration = Duration::from_millis(1);

/// A limit of the time in which the process runs.
pub(crate) struct Limit<'p> {
    pool: &'p Shared,
    since: Instant,
    limit: Duration,
    looked: bool,
}

impl<'p> Limit<'p> {
    pub(crate) fn new(pool: &'p Shared, since: Instant, limit: Duration) -> Self {
        Self {
            pool,
            since,
            limit,
            looked: false,
        }
    }

    /// How long to go on, although the time is over by the clock. `None` when it really is.
    pub(crate) fn more(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let lost = self.pool.lost(self.since, now);
        let left = self
            .limit
            .saturating_sub((now - self.since).saturating_sub(lost));
        if !lost.is_zero() && !left.is_zero() {
            (self.since, self.limit) = (now, left);
            return Some(left);
        }
        let looked = std::mem::replace(&mut self.looked, true);
        (!looked).then_some(LOOK)
    }
}

/// Waits for `work` for so long at most. `None` when the time is over.
pub(crate) async fn within<T>(
    pool: &Shared,
    limit: Duration,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let mut left = limit;
    let mut limit = Limit::new(pool, Instant::now(), limit);
    loop {
        if let Ok(done) = timeout(left, work.as_mut()).await {
            return Some(done);
        }
        left = limit.more()?;
    }
}

impl Shared {
    /// How much of this time the process did not run.
    pub(crate) fn lost(&self, since: Instant, now: Instant) -> Duration {
        self.state().pace.pauses.lost(since, now)
    }
}
