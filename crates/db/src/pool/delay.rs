//! Controlled delay, for `queue_target`: a queue that stays long is cut, so that some are served soon and the others told
//! at once, where otherwise all would wait for as long as they can bear.
//!
//! A burst makes the queue long for a moment, and is left alone. A queue in which nobody has waited for less than the
//! target for a second does not get shorter by itself. Then nobody waits for longer than the target any more, until the
//! queue has emptied and no more has come within a second than the connections can do. Without the second condition a
//! short target, which empties the queue again and again, would end the cut in the middle of the overload, and the queue
//! would grow for another second.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep_until;

/// How long the queue has to be too long before it is cut, and how often is looked whether the cut may end.
const INTERVAL: Duration = Duration::from_secs(1);
/// A wait of this part of the target is none to speak of.
const NO_WAIT: u32 = 10;

pub(crate) struct Delay {
    pub(crate) target: Duration,
    /// Whether the queue is cut. Who waits listens.
    cut: watch::Sender<bool>,
    seen: Mutex<Seen>,
}

struct Seen {
    /// When somebody last waited for no longer than the target, or nobody waited.
    well: Instant,
    /// The current interval of a cut: when it began, and what has happened since.
    interval: Instant,
    calls: u32,
    emptied: bool,
}

impl Seen {
    fn new(now: Instant) -> Self {
        Self {
            well: now,
            interval: now,
            calls: 0,
            emptied: false,
        }
    }
}

impl Delay {
    pub(crate) fn new(target: Duration) -> Self {
        Self {
            target,
            cut: watch::Sender::new(false),
            seen: Mutex::new(Seen::new(Instant::now())),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cut(&self) -> bool {
        *self.cut.borrow()
    }

    /// A caller comes to the queue, where so many wait. Says whether the queue is cut.
    pub(crate) fn arrived(&self, waiting: u32, now: Instant) -> bool {
        let mut seen = self.seen();
        match waiting {
            0 => seen.well = now,
            // Perhaps nobody has been served for long.
            _ => self.begin_if_due(&mut seen, now),
        }
        self.is_cut()
    }

    /// A caller has got a permit after so long. `work` says how long so many calls take, if that is known.
    pub(crate) fn served(
        &self,
        waited: Duration,
        now: Instant,
        work: impl FnOnce(u32) -> Option<Duration>,
    ) {
        let mut seen = self.seen();
        match waited <= self.target {
            true => seen.well = now,
            false => self.begin_if_due(&mut seen, now),
        }
        seen.calls += 1;
        seen.emptied |= waited <= self.target / NO_WAIT;
        let age = now - seen.interval;
        if age < INTERVAL {
            return;
        }
        if self.is_cut() && seen.emptied && work(seen.calls).is_none_or(|work| work <= age) {
            self.cut.send_replace(false);
        }
        *seen = Seen {
            well: seen.well,
            ..Seen::new(now)
        };
    }

    /// A caller was turned away.
    pub(crate) fn refused(&self) {
        self.seen().calls += 1;
    }

    fn begin_if_due(&self, seen: &mut Seen, now: Instant) {
        if now - seen.well > INTERVAL.max(self.target) && !self.is_cut() {
            *seen = Seen {
                well: seen.well,
                ..Seen::new(now)
            };
            self.cut.send_replace(true);
        }
    }

    /// Waits until the caller has waited for longer than a cut queue lets it.
    pub(crate) async fn cut_off(&self, since: Instant) {
        sleep_until((since + self.target).into()).await;
        let _ = self.cut.subscribe().wait_for(|cut| *cut).await;
    }
}
