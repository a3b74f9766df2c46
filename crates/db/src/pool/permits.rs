//! The permits: `connection_limit` of them, given in the order of the callers. Who has one may use a connection.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::config::Config;

pub(crate) struct Permits {
    /// Callers wait here, first come, first served. Closed with the pool.
    pub(crate) semaphore: Semaphore,
    pub(crate) limit: AtomicU32,
    /// Permits that a smaller limit takes away as soon as they come back.
    excess: AtomicU32,
    /// Callers in the queue.
    pub(crate) waiting: AtomicU32,
    /// How long a connection is held, in nanoseconds, as a moving average.
    average_use: AtomicU64,
}

impl Permits {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            semaphore: Semaphore::new(config.connection_limit as usize),
            limit: AtomicU32::new(config.connection_limit),
            excess: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            average_use: AtomicU64::new(0),
        }
    }

    /// How long a caller behind so many others is likely to wait.
    pub(crate) fn expected_wait(&self, waiting: u32) -> Duration {
        let work = self
            .average_use
            .load(Relaxed)
            .saturating_mul(waiting.into());
        Duration::from_nanos(work / u64::from(self.limit.load(Relaxed).max(1)))
    }

    /// Gives a permit back after it was used for so long.
    pub(crate) fn give_back(&self, used: Option<Duration>) {
        if let Some(used) = used {
            // Two writers at once lose a sample now and then, which an average can bear.
            let old = self.average_use.load(Relaxed);
            let new = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
            self.average_use.store(old - old / 8 + new / 8, Relaxed);
        }
        let was_excess = self
            .excess
            .fetch_update(Relaxed, Relaxed, |excess| excess.checked_sub(1));
        if was_excess.is_err() {
            self.semaphore.add_permits(1);
        }
    }

    /// Changes the number of permits. Those in use stay; fewer come back.
    pub(crate) fn resize(&self, limit: u32) {
        let old = self.limit.swap(limit, Relaxed);
        if limit > old {
            let mut more = limit - old;
            let _ = self.excess.fetch_update(Relaxed, Relaxed, |excess| {
                more = (limit - old).saturating_sub(excess);
                Some(excess.saturating_sub(limit - old))
            });
            self.semaphore.add_permits(more as usize);
        } else {
            let fewer = (old - limit) as usize;
            let free = self.semaphore.forget_permits(fewer);
            self.excess.fetch_add((fewer - free) as u32, Relaxed);
        }
    }
}
