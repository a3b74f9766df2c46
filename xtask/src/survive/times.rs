//! Many times, kept as counts, so that an hour's load needs no more memory than a second's.

use std::time::Duration;

/// Each slot is for times up to so much longer than those of the one before it: percentiles are that exact.
const STEP: f64 = 1.01;

#[derive(Clone, Default)]
pub(crate) struct Times {
    /// By slot.
    counts: Vec<u64>,
    count: u64,
    longest: Duration,
}

impl Times {
    pub(crate) fn record(&mut self, time: Duration) {
        let slot = slot(time);
        if slot >= self.counts.len() {
            self.counts.resize(slot + 1, 0);
        }
        self.counts[slot] += 1;
        self.count += 1;
        self.longest = self.longest.max(time);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.longest = self.longest.max(other.longest);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// The time that this share of all do not exceed; zero where there is none.
    pub(crate) fn percentile(&self, share: f64) -> Duration {
        let wanted = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut passed = 0;
        let slot = self.counts.iter().position(|count| {
            passed += count;
            passed >= wanted
        });
        slot.map_or(Duration::ZERO, |slot| end(slot).min(self.longest))
    }

    /// In milliseconds.
    pub(crate) fn p50(&self) -> f64 {
        milliseconds(self.percentile(0.5))
    }

    /// In milliseconds.
    pub(crate) fn p99(&self) -> f64 {
        milliseconds(self.percentile(0.99))
    }
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The first slot is for a microsecond and less.
fn slot(time: Duration) -> usize {
    let microseconds = (time.as_secs_f64() * 1e6).max(1.0);
    (microseconds.ln() / STEP.ln()).ceil() as usize
}

/// The longest time that belongs to a slot.
fn end(slot: usize) -> Duration {
    Duration::from_secs_f64(STEP.powf(slot as f64) / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(milliseconds: impl IntoIterator<Item = u64>) -> Times {
        let mut times = Times::default();
        for time in milliseconds {
            times.record(Duration::from_millis(time));
        }
        times
    }

    #[test]
    fn percentiles_are_exact_to_a_hundredth() {
        let times = times(1..=1000);
        for (share, expected) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = milliseconds(times.percentile(share));
            assert!((expected..=expected * 1.01).contains(&found), "{found}");
        }
        assert_eq!(times.longest(), Duration::from_secs(1));
    }

    #[test]
    fn of_few_times_the_percentile_is_one_of_them() {
        assert_eq!(times([]).percentile(0.99), Duration::ZERO);
        let times = times([3, 7000]);
        assert!((3.0..3.04).contains(&times.p50()), "{}", times.p50());
        assert_eq!(times.p99(), 7000.0);
    }

    #[test]
    fn merged_times_are_those_of_both() {
        let mut all = times([1, 2]);
        all.merge(&times([900]));
        all.merge(&times([5]));
        assert_eq!(
            (all.count(), all.longest()),
            (4, Duration::from_millis(900))
        );
        assert!((2.0..2.03).contains(&all.p50()), "{}", all.p50());
    }
}
