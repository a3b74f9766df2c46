//! The gate: a fair queue with `connection_limit` permits. Whoever waits for the pool waits here, and nowhere else.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::deadline::within;

/// Why nobody may pass.
#[derive(Debug)]
pub(crate) enum Refused {
    Timeout,
    Overloaded { waiting: u32, retry_after: Duration },
    Closed,
}

pub(crate) struct Gate {
    permits: Semaphore,
    limit: AtomicU32,
    /// Permits that a smaller limit takes away as soon as they come back.
    debt: AtomicU32,
    waiting: AtomicU32,
    queue_limit: u32,
    timeout: Option<Duration>,
    /// How long a connection is held, in nanoseconds, as a moving average.
    hold: AtomicU64,
}

impl Gate {
    pub(crate) fn new(limit: u32, queue_limit: u32, timeout: Option<Duration>) -> Self {
        Self {
            permits: Semaphore::new(limit as usize),
            limit: AtomicU32::new(limit),
            debt: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            queue_limit,
            timeout,
            hold: AtomicU64::new(0),
        }
    }

    /// Takes a permit, which [`Gate::leave`] has to give back. Tells `waited` how long it took, also when the caller
    /// is refused or gives up: a histogram of the winners alone would lie.
    pub(crate) async fn enter(&self, waited: impl Fn(Duration)) -> Result<bool, Refused> {
        match self.permits.try_acquire() {
            Ok(permit) => {
                permit.forget();
                waited(Duration::ZERO);
                return Ok(false);
            }
            Err(tokio::sync::TryAcquireError::Closed) => return Err(Refused::Closed),
            Err(tokio::sync::TryAcquireError::NoPermits) => {}
        }
        self.admit()?;
        let _waiting = Waiting::new(self, waited);
        let permit = within(self.timeout, self.permits.acquire())
            .await
            .map_err(|_| Refused::Timeout)?;
        permit.map_err(|_| Refused::Closed)?.forget();
        Ok(true)
    }

    /// Turns a caller away at once who would only wait in vain.
    fn admit(&self) -> Result<(), Refused> {
        let waiting = self.waiting();
        let expected = self.expected_wait(waiting);
        if waiting >= self.queue_limit || self.timeout.is_some_and(|limit| expected > limit) {
            let retry_after = expected.clamp(Duration::from_secs(1), Duration::from_secs(30));
            return Err(Refused::Overloaded {
                waiting,
                retry_after,
            });
        }
        Ok(())
    }

    fn expected_wait(&self, waiting: u32) -> Duration {
        Duration::from_nanos(
            self.hold.load(Relaxed).saturating_mul(waiting.into()) / u64::from(self.limit().max(1)),
        )
    }

    /// Gives a permit back after it was used for so long.
    pub(crate) fn leave(&self, held: Option<Duration>) {
        if let Some(held) = held {
            // Racing writers lose a sample now and then, which an average can bear.
            // One that was held for an hour must not turn the next burst away.
            let held = self.timeout.map_or(held, |limit| held.min(limit));
            let (old, new) = (
                self.hold.load(Relaxed),
                u64::try_from(held.as_nanos()).unwrap_or(u64::MAX),
            );
            self.hold.store(old - old / 8 + new / 8, Relaxed);
        }
        let paid = self
            .debt
            .fetch_update(Relaxed, Relaxed, |debt| debt.checked_sub(1));
        if paid.is_err() {
            self.permits.add_permits(1);
        }
    }

    /// Changes the number of permits. Those in use stay; fewer come back.
    pub(crate) fn resize(&self, limit: u32) {
        let old = self.limit.swap(limit, Relaxed);
        if limit > old {
            let mut more = limit - old;
            let _ = self.debt.fetch_update(Relaxed, Relaxed, |debt| {
                more = (limit - old).saturating_sub(debt);
                Some(debt.saturating_sub(limit - old))
            });
            self.permits.add_permits(more as usize);
        } else {
            let fewer = (old - limit) as usize;
            let free = self.permits.forget_permits(fewer);
            self.debt.fetch_add((fewer - free) as u32, Relaxed);
        }
    }

    /// Sends everyone away who waits, and everyone who comes.
    pub(crate) fn close(&self) {
        self.permits.close();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.permits.is_closed()
    }

    /// Whether the next caller would pass without waiting.
    pub(crate) fn has_room(&self) -> bool {
        self.permits.available_permits() > 0
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.load(Relaxed)
    }
}

/// Counts a caller for as long as it waits, whichever way the waiting ends.
struct Waiting<'a, F: Fn(Duration)> {
    gate: &'a Gate,
    since: Instant,
    waited: F,
}

impl<'a, F: Fn(Duration)> Waiting<'a, F> {
    fn new(gate: &'a Gate, waited: F) -> Self {
        gate.waiting.fetch_add(1, Relaxed);
        Self {
            gate,
            since: Instant::now(),
            waited,
        }
    }
}

impl<F: Fn(Duration)> Drop for Waiting<'_, F> {
    fn drop(&mut self) {
        self.gate.waiting.fetch_sub(1, Relaxed);
        (self.waited)(self.since.elapsed());
    }
}
