//! What one load has shown.

use super::sample::Sample;

/// What one load has shown. Times are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Measured {
    pub(crate) limit: u32,
    pub(crate) requests: u64,
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) longest: f64,
    /// Answers other than 2xx, and none.
    pub(crate) failed: u64,
    /// p99 of the waits for a connection.
    pub(crate) wait_p99: Option<f64>,
    /// Callers who got no connection: in vain, or turned away.
    pub(crate) refused: f64,
    pub(crate) samples: Vec<Sample>,
    /// Sessions that ran something on the server, by seconds.
    pub(crate) active: Vec<(f64, f64)>,
}
