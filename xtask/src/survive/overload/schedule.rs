//! When each request of an open loop begins: by the clock, whether or not earlier ones have ended.

use std::time::Duration;

/// A rate that is kept for some time.
#[derive(Clone, Copy)]
pub(crate) struct Phase {
    /// Requests a second.
    pub(crate) rate: f64,
    pub(crate) seconds: f64,
}

/// The phases one after the other.
#[derive(Clone)]
pub(crate) struct Schedule<const N: usize>(pub(crate) [Phase; N]);

impl<const N: usize> Schedule<N> {
    /// The phase of a request and when it begins; `None` after the last one.
    pub(crate) fn moment(&self, request: u64) -> Option<(usize, Duration)> {
        let (mut left, mut began) = (request as f64, 0.0);
        for (index, phase) in self.0.iter().enumerate() {
            let count = phase.rate * phase.seconds;
            if left < count {
                let at = began + left / phase.rate;
                return Some((index, Duration::from_secs_f64(at)));
            }
            left -= count;
            began += phase.seconds;
        }
        None
    }

    /// The phase of a moment.
    pub(crate) fn phase(&self, moment: Duration) -> Option<usize> {
        let mut end = 0.0;
        self.0.iter().position(|phase| {
            end += phase.seconds;
            moment.as_secs_f64() < end
        })
    }

    pub(crate) fn length(&self) -> Duration {
        Duration::from_secs_f64(self.0.iter().map(|phase| phase.seconds).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_begin_by_the_clock() {
        let [slow, fast] =
            [(10.0, 1.0), (100.0, 0.5)].map(|(rate, seconds)| Phase { rate, seconds });
        let schedule = Schedule([slow, fast, slow]);
        let at = |phase, milliseconds| Some((phase, Duration::from_millis(milliseconds)));
        assert_eq!(schedule.moment(0), at(0, 0));
        assert_eq!(schedule.moment(9), at(0, 900));
        assert_eq!(schedule.moment(10), at(1, 1000));
        assert_eq!(schedule.moment(59), at(1, 1490));
        assert_eq!(schedule.moment(60), at(2, 1500));
        assert_eq!(schedule.moment(70), None);
        let phases = [0, 999, 1000, 1499, 1500, 2499, 2500];
        let phases = phases.map(|at| schedule.phase(Duration::from_millis(at)));
        let expected = [Some(0), Some(0), Some(1), Some(1), Some(2), Some(2), None];
        assert_eq!(phases, expected);
        assert_eq!(schedule.length(), Duration::from_millis(2500));
    }
}
