//! Time in which this process did not run: stopped, asleep with its machine, or moved with it. Nobody has worked or waited in it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A tick that comes so much later than planned means a pause.
const LATE: Duration = Duration::from_millis(500);
/// So many pauses are remembered.
const REMEMBERED: usize = 8;

/// The pauses, as what ticks once a second finds them. One that has just ended is seen before the next tick.
#[derive(Clone, Default)]
pub(crate) struct Pauses {
    /// Since when the next tick is waited for, and when it is due.
    awaited: Option<(Instant, Instant)>,
    past: VecDeque<(Instant, Instant)>,
}

impl Pauses {
    /// The next tick is due then.
    pub(crate) fn await_tick(&mut self, now: Instant, due: Instant) {
        self.awaited = Some((now, due));
    }

    /// It has come, or none will.
    pub(crate) fn ticked(&mut self, now: Instant) {
        if let Some(pause) = self.unfinished(now) {
            self.past.truncate(REMEMBERED - 1);
            self.past.push_front(pause);
        }
        self.awaited = None;
    }

    fn unfinished(&self, now: Instant) -> Option<(Instant, Instant)> {
        let (since, due) = self.awaited?;
        (now > due + LATE).then_some((since, now))
    }

    /// How much of this time the process did not run.
    pub(crate) fn lost(&self, since: Instant, now: Instant) -> Duration {
        let pauses = self.past.iter().copied().chain(self.unfinished(now));
        pauses
            .map(|(from, to)| to.min(now).saturating_duration_since(from.max(since)))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_tick_that_comes_late_is_a_pause_before_and_after_it_was_seen() {
        let (mut pauses, start) = (Pauses::default(), Instant::now());
        pauses.await_tick(start, start + SECOND);
        let in_time = start + SECOND + LATE;
        assert_eq!(pauses.lost(start, in_time), Duration::ZERO);
        let late = start + SECOND * 45;
        assert_eq!(pauses.lost(start, late), SECOND * 45);
        assert_eq!(pauses.lost(start + SECOND * 5, late), SECOND * 40);
        pauses.ticked(late);
        pauses.await_tick(late, late + SECOND);
        let later = late + SECOND / 2;
        assert_eq!(pauses.lost(start, later), SECOND * 45);
        assert_eq!(pauses.lost(late, later), Duration::ZERO);
    }

    #[test]
    fn where_nothing_ticks_nothing_is_missed() {
        let (mut pauses, start) = (Pauses::default(), Instant::now());
        assert_eq!(pauses.lost(start, start + SECOND * 45), Duration::ZERO);
        pauses.await_tick(start, start + SECOND);
        pauses.ticked(start);
        assert_eq!(pauses.lost(start, start + SECOND * 45), Duration::ZERO);
    }

    #[test]
    fn many_pauses_are_remembered_and_not_all() {
        let (mut pauses, mut now) = (Pauses::default(), Instant::now());
        let start = now;
        for _ in 0..20 {
            pauses.await_tick(now, now + SECOND);
            now += SECOND * 10;
            pauses.ticked(now);
        }
        assert_eq!(pauses.lost(start, now), SECOND * 80);
    }
}
