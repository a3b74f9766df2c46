//! Every number of the pool, in one table: name, unit, help and field. Names are OpenTelemetry's where it has one.
//!
//! A new counter, gauge or histogram is a line of the table, and the line that counts it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::{is_broken, is_timeout};
use crate::facade::{self, Unit, counter, gauge, histogram};
use crate::histogram::{Histogram, HistogramSnapshot};
use crate::server_limits::ServerLimits;

/// The label that says whose numbers they are: `host:port/database`.
const POOL_NAME: &str = "db.client.connection.pool.name";

/// Why a connection was closed.
///
/// ```
/// # fn example(pool: &db::Pool) {
/// let broken = pool.stats().closed[db::CloseReason::Broken as usize];
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// It had reached `max_connection_lifetime`.
    Lifetime,
    /// It had been idle for `max_idle_connection_lifetime`, or the limit was lowered.
    Idle,
    /// The transport or the protocol failed.
    Broken,
    /// All connections of that time were closed: the server had gone away or become read-only, or by
    /// [`evict`](crate::Pool::evict).
    Failover,
    /// The pool was closed.
    Shutdown,
    /// It was lent to a caller, who closed it, or had it as sqlx's own and left it unsound.
    Lent,
}

impl CloseReason {
    /// The labels of `db.client.connection.closed`, in the order of the variants.
    pub const LABELS: [&str; 6] = ["lifetime", "idle", "broken", "failover", "shutdown", "lent"];
}

/// How a statement ended. The names of the failures are the label `error.type`, but for the server's own, which has its
/// SQLSTATE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    /// The server's error, by its SQLSTATE.
    Error(String),
    Timeout,
    Broken,
    Cancelled,
    /// An error of sqlx's, or of a kind that nobody counts apart.
    Other,
}

/// So many SQLSTATEs are counted apart: the code of the services decides which there are, but it can raise any.
const MOST_CODES: usize = 30;

impl Outcome {
    /// How a statement ended that failed with this error.
    pub(crate) fn of(error: &sqlx::Error) -> Self {
        match error {
            error if is_timeout(error) => Self::Timeout,
            sqlx::Error::Database(error) => match error.code() {
                Some(code) => Self::Error(code.into_owned()),
                None => Self::Other,
            },
            error if is_broken(error) => Self::Broken,
            _ => Self::Other,
        }
    }

    /// The label `error.type` of a failure.
    pub(crate) fn error_type(&self) -> Option<&str> {
        Some(match self {
            Self::Ok => return None,
            Self::Error(code) => code,
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Cancelled => "cancelled",
            Self::Other => "_OTHER",
        })
    }
}

/// How long things took since the start of the pool.
///
/// ```
/// # fn example(pool: &db::Pool) {
/// let times = pool.times();
/// println!("half of the statements took {:?} at most", times.statement.quantile(0.5));
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Times {
    /// The waits for a connection, those in vain included.
    pub wait: HistogramSnapshot,
    /// How long connections were held.
    pub hold: HistogramSnapshot,
    /// How long statements ran, from sending to the end of the answer.
    pub statement: HistogramSnapshot,
    /// The same with the wait for their connection before.
    pub whole: HistogramSnapshot,
}

/// The histograms of callers who share a label, such as one route.
#[derive(Debug)]
pub(crate) struct Labelled {
    pub(crate) wait_time: facade::Histogram,
    pub(crate) use_time: facade::Histogram,
}

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
            $(pub(crate) $histogram: facade::Histogram,)*
            statement: facade::Histogram,
            /// Of statements that failed: each `error.type` and its histogram.
            failed: Mutex<Vec<(String, facade::Histogram)>>,
            pub(crate) wait: Histogram,
            pub(crate) hold: Histogram,
            ran: Histogram,
            whole: Histogram,
            pool: String,
            database: String,
            /// How long the last connection took to open, in nanoseconds; 0 before the first. Not published.
            pub(crate) last_connect: AtomicU64,
        }

        impl Metrics {
            /// The numbers of the pool of this name, of connections to `database`.
            pub(crate) fn new(pool: String, database: &str) -> Self {
                describe();
                let database = database.to_owned();
                Self {
                    $($counter: AtomicU64::default(),)*
                    closed: Default::default(),
                    $($histogram: histogram!($histogram_name, POOL_NAME => pool.clone()),)*
                    statement: histogram!(STATEMENT.0, "db.system.name" => SYSTEM, "db.namespace" => database.clone()),
                    failed: Mutex::default(),
                    wait: Histogram::default(),
                    hold: Histogram::default(),
                    ran: Histogram::default(),
                    whole: Histogram::default(),
                    last_connect: AtomicU64::default(),
                    pool,
                    database,
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
            /// Hands the numbers of a pool to the `metrics` facade, as gauges and counters with absolute values.
            pub(crate) fn publish(&self, pool: &str) {
                $(gauge!($gauge_name, POOL_NAME => pool.to_owned() $(, $gauge_label => $gauge_value)?).set(self.$gauge);)*
                $(counter!($counter_name, POOL_NAME => pool.to_owned()).absolute(self.$counter);)*
                for (label, closed) in CloseReason::LABELS.into_iter().zip(self.closed) {
                    counter!(CLOSED.0, POOL_NAME => pool.to_owned(), "reason" => label).absolute(closed);
                }
            }
        }

        /// Tells the recorder what each metric means.
        fn describe() {
            use facade::{describe_counter, describe_gauge, describe_histogram};
            $(describe_gauge!($gauge_name, $gauge_help);)*
            $(describe_counter!($counter_name, $counter_help);)*
            describe_counter!(CLOSED.0, CLOSED.1);
            $(describe_histogram!($histogram_name, Unit::$unit, $histogram_help);)*
            describe_histogram!(STATEMENT.0, Unit::Seconds, STATEMENT.1);
            for (name, help) in SERVER.into_iter().chain([USABLE]) {
                describe_gauge!(name, help);
            }
            describe_gauge!(LAG.0, Unit::Seconds, LAG.1);
        }
    };
}

impl Metrics {
    /// `host:port/database`.
    pub(crate) fn pool_name(&self) -> &str {
        &self.pool
    }

    /// Counts a statement that ran for so long, after so long a wait for its connection.
    pub(crate) fn statement(&self, outcome: &Outcome, time: Duration, waited: Duration) {
        self.ran.record(time);
        self.whole.record(waited + time);
        match outcome.error_type() {
            None => self.statement.record(time),
            Some(kind) => self.of_failed(kind).record(time),
        }
    }

    fn of_failed(&self, kind: &str) -> facade::Histogram {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = match failed.iter().any(|(known, _)| known == kind) || failed.len() < MOST_CODES
        {
            true => kind,
            false => "_OTHER",
        };
        if let Some((_, histogram)) = failed.iter().find(|(known, _)| known == kind) {
            return histogram.clone();
        }
        let histogram = histogram!(
            STATEMENT.0,
            "db.system.name" => SYSTEM,
            "db.namespace" => self.database.clone(),
            "error.type" => kind.to_owned()
        );
        failed.push((kind.to_owned(), histogram.clone()));
        histogram
    }

    /// The histograms of callers with this label.
    pub(crate) fn labelled(&self, (key, value): (&'static str, &str)) -> Labelled {
        let pool = || self.pool.clone();
        Labelled {
            wait_time: histogram!(WAIT_TIME, POOL_NAME => pool(), key => value.to_owned()),
            use_time: histogram!(USE_TIME, POOL_NAME => pool(), key => value.to_owned()),
        }
    }

    pub(crate) fn times(&self) -> Times {
        Times {
            wait: self.wait.snapshot(),
            hold: self.hold.snapshot(),
            statement: self.ran.snapshot(),
            whole: self.whole.snapshot(),
        }
    }

    /// Hands to the `metrics` facade what pools of sqlx's own have of the limit.
    pub(crate) fn publish_part(&self, limit: u32, idle: u32, in_use: u32) {
        const STATE: &str = "db.client.connection.state";
        let name = || format!("{}/sqlx", self.pool);
        gauge!("db.client.connection.max", POOL_NAME => name()).set(limit);
        for (state, count) in [("idle", idle), ("used", in_use)] {
            gauge!("db.client.connection.count", POOL_NAME => name(), STATE => state).set(count);
        }
    }

    /// Hands to the `metrics` facade what is known of a replica.
    pub(crate) fn publish_replica(&self, usable: bool, lag: Option<Duration>) {
        let name = || self.pool.clone();
        gauge!(USABLE.0, POOL_NAME => name()).set(f64::from(u8::from(usable)));
        let lag = lag.map_or(f64::NAN, |lag| lag.as_secs_f64());
        gauge!(LAG.0, POOL_NAME => name()).set(lag);
    }

    /// Hands to the `metrics` facade how many sessions the server has, of how many, and what the instances may take of them.
    pub(crate) fn publish_server(&self, sessions: u32, server: &ServerLimits) {
        let values = [
            sessions,
            server.usable,
            server.budget,
            server.taken,
            server.instances,
        ];
        for ((name, _), value) in SERVER.iter().zip(values) {
            gauge!(*name, POOL_NAME => self.pool.clone()).set(value);
        }
    }
}

/// What OpenTelemetry calls this kind of database.
pub(crate) const SYSTEM: &str = "postgresql";
// The labelled histograms have the same names as those of the table.
const WAIT_TIME: &str = "db.client.connection.wait_time";
const USE_TIME: &str = "db.client.connection.use_time";
// What the server says, in this order.
const SERVER: [(&str, &str); 5] = [
    (
        "db.server.sessions",
        "Sessions of clients that the server has, those of all instances, looked up once a minute",
    ),
    (
        "db.server.sessions.max",
        "Sessions that the server allows this role and all others together",
    ),
    (
        "db.fleet.budget",
        "Connections that all instances together may take, 80 % of what the server allows",
    ),
    (
        "db.fleet.taken",
        "Connections that the instances may take by their limits, and those that everybody else has open",
    ),
    (
        "db.fleet.instances",
        "Instances of this role with a connection open, this one among them",
    ),
];
const USABLE: (&str, &str) = (
    "db.replica.usable",
    "1 if reads go to this replica, 0 if it does not answer, is too far behind, or is no standby",
);
const LAG: (&str, &str) = (
    "db.replica.lag",
    "How far this replica is behind the primary; NaN while that is not known",
);
// Those with a label of several values: the fields `closed` and `statement`.
const CLOSED: (&str, &str) = (
    "db.client.connection.closed",
    "Connections closed, by reason",
);
const STATEMENT: (&str, &str) = ("db.client.operation.duration", "Time a statement took");

table! {
    gauges {
        limit "db.client.connection.max" "Most connections that may be open";
        idle "db.client.connection.count" ("db.client.connection.state" = "idle") "Connections open and ready for the next caller";
        in_use "db.client.connection.count" ("db.client.connection.state" = "used") "Connections open, by state";
        waiting "db.client.connection.pending_requests" "Callers waiting for a connection";
        up "db.client.database.up" "1, or 0 while the last attempts to open a connection have failed for another reason than want of room";
    }
    counters {
        acquired "db.client.connection.acquired" "Leases given";
        timed_out "db.client.connection.timeouts" "Callers that waited for pool_timeout, or until their deadline, in vain";
        shed "db.client.connection.shed" "Callers turned away because they would wait in vain, or by queue_limit or queue_target";
        opened "db.client.connection.opened" "Connections opened";
        connect_failed "db.client.connection.failures" "Failures to open a connection";
        recycled "db.client.connection.recovered" "Connections given back unclean and made fit again";
        leaked "db.client.connection.leaks" "Connections held for longer than leak_threshold";
        nested "db.client.connection.nested" "Tasks that asked for a second connection while they held one";
        repeated "db.client.connection.repeated" "Statements run again because their connection had ended while idle";
        reads "db.client.read.routed" "Reads that were sent to this server, the primary or a replica";
        fallbacks "db.client.read.fallbacks" "Reads that this replica did not answer and the primary had to";
    }
    histograms {
        wait_time "db.client.connection.wait_time" Seconds "Time a caller waited for a connection";
        create_time "db.client.connection.create_time" Seconds "Time a connection took to open";
        use_time "db.client.connection.use_time" Seconds "Time a connection was held";
    }
}
