//! Durations counted by fixed bounds: what percentiles are read from, without keeping a sample.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds in microseconds: six to a decade, so that a percentile is right to a quarter or better, and Prisma's among
/// them. What is longer than the last is counted too.
const BOUNDS: [u64; 41] = [
    10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1_000, 1_500, 2_000, 3_000, 5_000, 7_000,
    10_000, 15_000, 20_000, 30_000, 50_000, 70_000, 100_000, 150_000, 200_000, 300_000, 500_000,
    700_000, 1_000_000, 1_500_000, 2_000_000, 3_000_000, 5_000_000, 7_000_000, 10_000_000,
    15_000_000, 20_000_000, 30_000_000, 50_000_000,
];
const BUCKETS: usize = BOUNDS.len() + 1;

/// Counts durations from 10 µs to 50 s, without a lock. What it takes does not grow.
///
/// ```
/// use std::time::Duration;
///
/// let waits = db::Histogram::default();
/// let before = waits.snapshot();
/// for milliseconds in 1..=100 {
///     waits.record(Duration::from_millis(milliseconds));
/// }
/// let since = waits.snapshot().since(&before);
/// assert_eq!(since.count(), 100);
/// assert_eq!(since.not_above(Duration::from_millis(10)), 10);
/// let median = since.quantile(0.5).expect("there are some");
/// assert!((40..=60).contains(&median.as_millis()));
/// ```
#[derive(Debug)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    /// Nanoseconds.
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; BUCKETS],
            sum: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let micros = nanos.div_ceil(1000);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        self.counts[bucket].fetch_add(1, Relaxed);
        if nanos > 0 {
            self.sum.fetch_add(nanos, Relaxed);
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            counts: std::array::from_fn(|bucket| self.counts[bucket].load(Relaxed)),
            sum: self.sum.load(Relaxed),
        }
    }
}

/// What a [`Histogram`] had counted at one moment, or between two.
///
/// ```
/// # use std::time::Duration;
/// let histogram = db::Histogram::default();
/// histogram.record(Duration::from_millis(3));
/// let snapshot = histogram.snapshot();
/// assert_eq!((snapshot.count(), snapshot.sum()), (1, Duration::from_millis(3)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramSnapshot {
    counts: [u64; BUCKETS],
    sum: u64,
}

impl Default for HistogramSnapshot {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            sum: 0,
        }
    }
}

impl HistogramSnapshot {
    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// What was counted since `earlier`, a snapshot of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            counts: std::array::from_fn(|bucket| {
                self.counts[bucket].saturating_sub(earlier.counts[bucket])
            }),
            sum: self.sum.saturating_sub(earlier.sum),
        }
    }

    /// The duration that so much of all (0 to 1) is not above, or `None` if nothing was counted. Between two bounds it is
    /// interpolated; above the last, 50 s, it is that.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (share.clamp(0.0, 1.0) * count as f64).max(1.0);
        let mut below = 0.0;
        for (bucket, counted) in self.counts.iter().enumerate() {
            let counted = *counted as f64;
            if below + counted >= rank {
                let lower = bucket.checked_sub(1).map_or(0, |before| BOUNDS[before]);
                let upper = BOUNDS.get(bucket).copied().unwrap_or(lower);
                let part = (rank - below) / counted;
                let micros = lower as f64 + (upper - lower) as f64 * part;
                return Some(Duration::from_nanos((micros * 1000.0) as u64));
            }
            below += counted;
        }
        BOUNDS.last().copied().map(Duration::from_micros)
    }

    /// How many were not longer than `bound`: exact for 1, 1.5, 2, 3, 5 and 7 times a power of ten from 10 µs to 50 s,
    /// else for the next of these below.
    #[must_use]
    pub fn not_above(&self, bound: Duration) -> u64 {
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        let buckets = BOUNDS.partition_point(|known| *known <= micros);
        self.counts[..buckets].iter().sum()
    }
}
