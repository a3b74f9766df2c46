//! Every number of the pool, in one table: name, unit, help and field. Names are OpenTelemetry's where it has one.
//!
//! A new counter, gauge or histogram is a line of the table, and the line that counts it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use metrics::{Histogram, Unit, counter, gauge, histogram};

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// It had reached `max_connection_lifetime`.
    Lifetime,
    /// It had been idle for `max_idle_connection_lifetime`, or the limit was lowered.
    Idle,
    /// The transport or the protocol failed, or nobody could tell what state it was in.
    Broken,
    /// The server had gone away or become read-only: all connections of that time were closed.
    Failover,
    /// The pool was closed.
    Shutdown,
}

impl CloseReason {
    /// The labels of `db.client.connection.closed`, in the order of the variants.
    pub const LABELS: [&str; 5] = ["lifetime", "idle", "broken", "failover", "shutdown"];
}

/// How a statement ended.
#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    Ok,
    Error,
    Timeout,
    Broken,
    Cancelled,
}

const OUTCOMES: [&str; 5] = ["ok", "error", "timeout", "broken", "cancelled"];

/// Writes the types and functions of this file from the table below.
macro_rules! table {
    (
        gauges { $($gauge:ident $gauge_name:literal $(($gauge_label:literal = $gauge_value:literal))? $gauge_help:literal;)* }
        counters { $($counter:ident $counter_name:literal $counter_help:literal;)* }
        histograms { $($histogram:ident $histogram_name:literal $unit:ident $histogram_help:literal;)* }
    ) => {
        /// What the pool looks like and has done so far. Gauges are read together, so they agree with each other.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            /// Connections open: `idle + in_use`.
            pub open: u32,
            $(#[doc = $gauge_help] pub $gauge: u32,)*
            $(#[doc = $counter_help] pub $counter: u64,)*
            /// Connections closed, by reason, in the order of [`CloseReason`].
            pub closed: [u64; CloseReason::LABELS.len()],
        }

        /// The counters, and the histograms, looked up once.
        pub(crate) struct Metrics {
            $(pub(crate) $counter: AtomicU64,)*
            pub(crate) closed: [AtomicU64; CloseReason::LABELS.len()],
            $(pub(crate) $histogram: Histogram,)*
            pub(crate) statement: [Histogram; OUTCOMES.len()],
            /// How long the last connection took to open, in nanoseconds; 0 before the first. Not published.
            pub(crate) last_connect: AtomicU64,
        }

        impl Metrics {
            pub(crate) fn new() -> Self {
                describe();
                Self {
                    $($counter: AtomicU64::default(),)*
                    closed: Default::default(),
                    $($histogram: histogram!($histogram_name),)*
                    statement: OUTCOMES.map(|outcome| histogram!(STATEMENT.0, "outcome" => outcome)),
                    last_connect: AtomicU64::default(),
                }
            }

            /// Adds what was counted to the gauges, which the state gives.
            pub(crate) fn stats(&self, gauges: Stats) -> Stats {
                Stats {
                    $($counter: self.$counter.load(Relaxed),)*
                    closed: std::array::from_fn(|index| self.closed[index].load(Relaxed)),
                    ..gauges
                }
            }
        }

        impl Stats {
            /// Hands the numbers to the `metrics` facade, as gauges and counters with absolute values.
            pub(crate) fn publish(&self) {
                $(gauge!($gauge_name $(, $gauge_label => $gauge_value)?).set(self.$gauge);)*
                $(counter!($counter_name).absolute(self.$counter);)*
                for (label, closed) in CloseReason::LABELS.into_iter().zip(self.closed) {
                    counter!(CLOSED.0, "reason" => label).absolute(closed);
                }
            }
        }

        /// Tells the recorder what each metric means.
        fn describe() {
            use metrics::{describe_counter, describe_gauge, describe_histogram};
            $(describe_gauge!($gauge_name, $gauge_help);)*
            $(describe_counter!($counter_name, $counter_help);)*
            describe_counter!(CLOSED.0, CLOSED.1);
            $(describe_histogram!($histogram_name, Unit::$unit, $histogram_help);)*
            describe_histogram!(STATEMENT.0, Unit::Seconds, STATEMENT.1);
        }
    };
}

// Those with a label of several values: the fields `closed` and `statement`.
const CLOSED: (&str, &str) = (
    "db.client.connection.closed",
    "Connections closed, by reason",
);
const STATEMENT: (&str, &str) = (
    "db.client.operation.duration",
    "Time a statement took, by outcome",
);

table! {
    gauges {
        limit "db.client.connection.max" "Most connections that may be open";
        idle "db.client.connection.count" ("state" = "idle") "Connections open and ready for the next caller";
        in_use "db.client.connection.count" ("state" = "used") "Connections open, by state";
        waiting "db.client.connection.pending_requests" "Callers waiting for a connection";
    }
    counters {
        acquired "db.client.connection.acquired" "Leases given";
        timed_out "db.client.connection.timeouts" "Callers that waited for pool_timeout, or until their deadline, in vain";
        shed "db.client.connection.shed" "Callers turned away because they would wait in vain, or by queue_limit or queue_target";
        opened "db.client.connection.opened" "Connections opened";
        connect_failed "db.client.connection.failures" "Failures to open a connection";
        recycled "db.client.connection.recovered" "Connections given back unclean and made fit again";
        nested "db.client.connection.nested" "Tasks that asked for a second connection while they held one";
        repeated "db.client.connection.repeated" "Statements run again because their connection had ended while idle";
    }
    histograms {
        wait_time "db.client.connection.wait_time" Seconds "Time a caller waited for a connection";
        create_time "db.client.connection.create_time" Seconds "Time a connection took to open";
        use_time "db.client.connection.use_time" Seconds "Time a connection was held";
    }
}
