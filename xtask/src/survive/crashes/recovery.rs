//! How soon after a harm writes are acknowledged again.

use std::time::{Duration, Instant};

/// Writes are counted in spans of so long, to say how many there are a second.
const SPAN: Duration = Duration::from_millis(500);

/// Of the writes before the harm, what counts as recovered.
const SHARE: f64 = 0.95;

/// The load alone, before the first harm and after each: so long there is to recover before the next one.
pub(crate) const REST: Duration = Duration::from_millis(1500);

/// A harm: when it was done, and when what it hit was there again.
#[derive(Clone, Copy)]
pub(crate) struct Harm {
    pub(crate) done: Instant,
    pub(crate) ready: Instant,
}

/// When writes were acknowledged, in order.
pub(crate) struct Acknowledged(Vec<Instant>);

impl Acknowledged {
    pub(crate) fn new(mut times: Vec<Instant>) -> Self {
        times.sort();
        Self(times)
    }

    /// From ready to the first write; `None` if there was none.
    pub(crate) fn first_after(&self, harm: Harm) -> Option<Duration> {
        let first = self.0.get(self.before(harm.ready))?;
        Some(first.duration_since(harm.ready))
    }

    /// From ready to the first span with nearly as many writes as the one before the harm; `None` if there is none
    /// before the next harm.
    pub(crate) fn as_before(&self, harm: Harm) -> Option<Duration> {
        let usual = harm.done.checked_sub(SPAN)?;
        let before = self.between(usual, harm.done);
        if before == 0 {
            return None;
        }
        let wanted = before as f64 * SHARE;
        let last = harm.ready + REST;
        let mut from = harm.ready;
        while from + SPAN <= last {
            if self.between(from, from + SPAN) as f64 >= wanted {
                return Some(from.duration_since(harm.ready));
            }
            from += SPAN / 20;
        }
        None
    }

    fn between(&self, from: Instant, to: Instant) -> usize {
        self.before(to).saturating_sub(self.before(from))
    }

    fn before(&self, moment: Instant) -> usize {
        self.0.partition_point(|time| *time < moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_write_and_the_usual_rate_are_found() {
        let began = Instant::now();
        let at = |milliseconds| began + Duration::from_millis(milliseconds);
        let harm = Harm {
            done: at(1000),
            ready: at(1500),
        };
        // One each 10 ms; after the harm from 1.7 s on, first at half the rate.
        let before = (0..1000).step_by(10);
        let slowly = (1700..2000).step_by(20);
        let after = (2000..4000).step_by(10);
        let times = before.chain(slowly).chain(after).map(at).collect();
        let acknowledged = Acknowledged::new(times);
        let first = acknowledged.first_after(harm);
        assert_eq!(first, Some(Duration::from_millis(200)));
        let full = acknowledged.as_before(harm).unwrap().as_millis();
        assert!((450..=500).contains(&full), "{full}");

        let none = Acknowledged::new(vec![at(10)]);
        assert_eq!((none.first_after(harm), none.as_before(harm)), (None, None));
    }
}
