//! The permits: `connection_limit` of them, given in the order of the callers, and the pace at which they come back. Who
//! has one may use a connection.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::pool::delay::Delay;
use crate::pool::pause::Pauses;
use crate::work::Askers;

pub(crate) struct Permits {
    /// Callers wait here, first come, first served. Closed with the pool.
    pub(crate) semaphore: Semaphore,
    pub(crate) limit: AtomicU32,
    /// No new connection is opened beyond so many, if that is less than the limit.
    pub(crate) most_open: AtomicU32,
    /// Permits that a smaller limit takes away as soon as they come back.
    excess: AtomicU32,
    /// Callers in the queue.
    pub(crate) waiting: AtomicU32,
    /// What `queue_target` asks for.
    pub(crate) delay: Option<Delay>,
    /// Callers whose work is slow and has its share: they do not hold up the queue.
    pub(crate) waiting_for_turn: AtomicU32,
    /// Whose work asks.
    pub(crate) askers: Askers,
    /// What was taken of the limit.
    parts: Mutex<Vec<Part>>,
}

/// A pool of sqlx's own, and how many connections of the limit it has.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) id: usize,
    pub(crate) pool: PgPool,
    pub(crate) connections: u32,
}

fn taken(parts: &[Part]) -> u32 {
    parts.iter().map(|part| part.connections).sum()
}

impl Permits {
    pub(crate) fn new(config: &Config) -> Self {
        // One that follows the fleet begins with what nobody can be refused.
        let limit = match config.follows() {
            true => 1,
            false => config.connection_limit,
        };
        Self {
            semaphore: Semaphore::new(limit as usize),
            limit: AtomicU32::new(limit),
            most_open: AtomicU32::new(u32::MAX),
            excess: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            delay: config.queue_target.map(Delay::new),
            waiting_for_turn: AtomicU32::new(0),
            askers: Askers::default(),
            parts: Mutex::default(),
        }
    }

    pub(crate) fn parts(&self) -> MutexGuard<'_, Vec<Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The permits and what was taken of the limit.
    pub(crate) fn whole_limit(&self) -> u32 {
        self.in_parts() + self.limit.load(Relaxed)
    }

    /// Up to how many connections new ones may be opened.
    pub(crate) fn may_open(&self) -> u32 {
        self.limit.load(Relaxed).min(self.most_open.load(Relaxed))
    }

    /// What parts have of the limit.
    pub(crate) fn in_parts(&self) -> u32 {
        taken(&self.parts())
    }

    /// Changes the whole limit: what was taken of it stays taken. Says whether there is another number of permits now.
    pub(crate) fn resize_whole(&self, limit: u32) -> bool {
        let parts = self.parts();
        let permits = limit.saturating_sub(taken(&parts)).max(1);
        let changes = permits != self.limit.load(Relaxed);
        if changes {
            self.resize(permits);
        }
        changes
    }

    /// Gives a permit back.
    pub(crate) fn give_back(&self) {
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

/// The average is over so many uses: a single slow one does not frighten it, a burst of slow ones is soon forgotten.
const AVERAGED: u32 = 32;
/// Fewer uses than this tell nothing.
const ENOUGH: u32 = 8;
/// After so long without a use, or twice the average if that is longer, what was measured tells nothing any more.
const FRESH: Duration = Duration::from_secs(1);
/// A connection held for longer counts as held for so long: that is somebody's long work, not the pace of the others.
const LONGEST: Duration = Duration::from_secs(5);

/// How long connections are held, as a moving average.
#[derive(Default)]
pub(crate) struct Pace {
    average: Duration,
    uses: u32,
    last: Option<Instant>,
    /// When nothing ran, and so nothing could come back.
    pub(crate) pauses: Pauses,
}

impl Pace {
    /// A connection was held until `now`. Says for how long, but for pauses of the process; what these have spoilt is not measured.
    pub(crate) fn record(&mut self, since: Instant, now: Instant) -> Duration {
        let (used, lost) = (now - since, self.pauses.lost(since, now));
        if lost.is_zero() {
            self.measure(used, now);
        }
        used.saturating_sub(lost)
    }

    fn measure(&mut self, used: Duration, now: Instant) {
        if !self.is_fresh(now) {
            self.uses = 0;
        }
        self.uses = (self.uses + 1).min(AVERAGED);
        self.average = self.average - self.average / self.uses + used.min(LONGEST) / self.uses;
        self.last = Some(now);
    }

    /// How long it takes until so many permits, of `limit`, come back. `None` when nothing was measured lately.
    pub(crate) fn expected_wait(&self, permits: u32, limit: u32, now: Instant) -> Option<Duration> {
        let known = self.uses >= ENOUGH && self.is_fresh(now);
        known.then(|| self.average.saturating_mul(permits) / limit.max(1))
    }

    fn is_fresh(&self, now: Instant) -> bool {
        let fresh = FRESH.max(self.average * 2);
        self.last.is_some_and(|last| now - last < fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_secs(2);
    const FAST: Duration = Duration::from_millis(1);

    /// Ten connections are used so often, each time for so long, beginning at `now`.
    fn used(pace: &mut Pace, times: u32, each: Duration, now: &mut Instant) {
        for _ in 0..times {
            *now += each / 10;
            pace.record(*now - each, *now);
        }
    }

    #[test]
    fn nobody_is_expected_to_wait_before_enough_was_measured() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        assert_eq!(pace.expected_wait(1000, 10, now), None);
        used(&mut pace, ENOUGH - 1, SLOW, &mut now);
        assert_eq!(pace.expected_wait(1000, 10, now), None);
        used(&mut pace, 1, SLOW, &mut now);
        assert_eq!(pace.expected_wait(100, 10, now), Some(SLOW * 10));
        assert_eq!(pace.expected_wait(0, 10, now), Some(Duration::ZERO));
    }

    #[test]
    fn a_burst_of_slow_statements_is_soon_forgotten() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        used(&mut pace, 1000, SLOW, &mut now);
        used(&mut pace, 200, FAST, &mut now);
        let expected = pace.expected_wait(1000, 10, now).expect("a pace");
        assert!(
            expected < Duration::from_secs(1),
            "20 ms later: {expected:?}"
        );
    }

    #[test]
    fn one_connection_held_for_an_hour_turns_nobody_away() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        used(&mut pace, 1000, FAST, &mut now);
        pace.record(now - Duration::from_secs(3600), now);
        let expected = pace.expected_wait(1000, 10, now).expect("a pace");
        assert!(expected < Duration::from_secs(20), "{expected:?}");
    }

    #[test]
    fn a_pause_of_the_process_is_not_taken_for_work() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let second = Duration::from_secs(1);
        pace.pauses.await_tick(start, start + second);
        let mut now = start + second * 45;
        for _ in 0..ENOUGH {
            assert!(pace.record(start - FAST, now) <= FAST, "as long as it ran");
        }
        assert_eq!(
            pace.expected_wait(1000, 10, now),
            None,
            "nothing was measured"
        );
        pace.pauses.ticked(now);
        assert!(
            pace.record(start - FAST, now) <= FAST,
            "the pause is known now"
        );
        now += second;
        used(&mut pace, ENOUGH, FAST, &mut now);
        let expected = pace.expected_wait(1000, 10, now).expect("a pace");
        assert!(expected < second, "{expected:?}");
    }

    #[test]
    fn what_was_measured_before_a_pause_tells_nothing_after_it() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        used(&mut pace, 1000, SLOW, &mut now);
        assert!(
            pace.expected_wait(1, 10, now + SLOW).is_some(),
            "the next may still run"
        );
        now += SLOW * 2;
        assert_eq!(pace.expected_wait(1, 10, now), None);
        used(&mut pace, ENOUGH, FAST, &mut now);
        let expected = pace.expected_wait(1000, 10, now).expect("a new pace");
        assert!(expected < Duration::from_millis(110), "{expected:?}");
    }
}
