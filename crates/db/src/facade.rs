//! The `metrics` facade, or, without the feature `metrics`, what does nothing in its place.

#[cfg(feature = "metrics")]
pub(crate) use metrics::{
    Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
#[cfg(not(feature = "metrics"))]
pub(crate) use nothing::{
    Histogram, Unit, describe as describe_counter, describe as describe_gauge,
    describe as describe_histogram, metric as counter, metric as gauge, metric as histogram,
};

#[cfg(not(feature = "metrics"))]
mod nothing {
    /// A counter, a gauge or a histogram that nobody reads.
    #[derive(Clone, Debug)]
    pub(crate) struct Histogram;

    impl Histogram {
        pub(crate) fn set(&self, _: impl Into<f64>) {}
        pub(crate) fn absolute(&self, _: u64) {}
        pub(crate) fn record(&self, _: std::time::Duration) {}
    }

    pub(crate) enum Unit {
        Seconds,
    }

    macro_rules! metric {
        ($name:expr $(, $key:expr => $value:expr)*) => {{
            let _ = ($name, $($key, $value),*);
            crate::facade::Histogram
        }};
    }
    macro_rules! describe {
        ($($argument:expr),*) => { let _ = ($($argument),*); };
    }
    pub(crate) use {describe, metric};
}
