//! Numbers: counted in one place, read as a [`Stats`] snapshot or as metrics with OpenTelemetry's names.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use metrics::Histogram;

use crate::publish;

/// What the pool looks like and has done so far. Gauges are read together, so they agree with each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Most connections that may be open.
    pub limit: u32,
    /// Connections open: `idle + in_use`.
    pub open: u32,
    /// Connections ready for the next caller.
    pub idle: u32,
    /// Connections with a caller, or being made fit for the next one.
    pub in_use: u32,
    /// Callers waiting for a connection.
    pub waiting: u32,
    /// Leases given since the start.
    pub acquired: u64,
    /// Callers that waited for `pool_timeout` in vain.
    pub timed_out: u64,
    /// Callers turned away because the queue was too long.
    pub shed: u64,
    /// Connections opened.
    pub opened: u64,
    /// Failures to open one.
    pub dial_failed: u64,
    /// Connections closed, by reason, in the order of [`Reason`].
    pub closed: [u64; Reason::ALL.len()],
    /// Connections given back in an unclean state and made fit again.
    pub recovered: u64,
    /// Tasks that asked for a second connection while they held one.
    pub nested: u64,
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
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

impl Reason {
    /// Every reason with its label.
    pub const ALL: [(Self, &str); 5] = [
        (Self::Lifetime, "lifetime"),
        (Self::Idle, "idle"),
        (Self::Broken, "broken"),
        (Self::Failover, "failover"),
        (Self::Shutdown, "shutdown"),
    ];
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

/// The counters and the handles of the histograms, looked up once.
pub(crate) struct Counted {
    acquired: AtomicU64,
    timed_out: AtomicU64,
    shed: AtomicU64,
    opened: AtomicU64,
    dial_failed: AtomicU64,
    closed: [AtomicU64; Reason::ALL.len()],
    recovered: AtomicU64,
    nested: AtomicU64,
    last_dial: AtomicU64,
    wait: Histogram,
    create: Histogram,
    held: Histogram,
    statement: [Histogram; OUTCOMES.len()],
}

impl Counted {
    pub(crate) fn new() -> Self {
        publish::describe();
        Self {
            acquired: AtomicU64::default(),
            timed_out: AtomicU64::default(),
            shed: AtomicU64::default(),
            opened: AtomicU64::default(),
            dial_failed: AtomicU64::default(),
            closed: Default::default(),
            recovered: AtomicU64::default(),
            nested: AtomicU64::default(),
            last_dial: AtomicU64::default(),
            wait: metrics::histogram!("db.client.connection.wait_time"),
            create: metrics::histogram!("db.client.connection.create_time"),
            held: metrics::histogram!("db.client.connection.use_time"),
            statement: OUTCOMES.map(
                |outcome| metrics::histogram!("db.client.operation.duration", "outcome" => outcome),
            ),
        }
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.wait.record(time.as_secs_f64());
    }

    pub(crate) fn acquired(&self) {
        self.acquired.fetch_add(1, Relaxed);
    }

    pub(crate) fn timed_out(&self) {
        self.timed_out.fetch_add(1, Relaxed);
    }

    pub(crate) fn shed(&self) {
        self.shed.fetch_add(1, Relaxed);
    }

    pub(crate) fn nested(&self) {
        self.nested.fetch_add(1, Relaxed);
    }

    pub(crate) fn recovered(&self) {
        self.recovered.fetch_add(1, Relaxed);
    }

    pub(crate) fn held(&self, time: Duration) {
        self.held.record(time.as_secs_f64());
    }

    pub(crate) fn statement(&self, outcome: Outcome, time: Duration) {
        self.statement[outcome as usize].record(time.as_secs_f64());
    }

    pub(crate) fn dialled(&self, time: Duration) {
        self.last_dial
            .store(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.create.record(time.as_secs_f64());
    }

    /// It is on the shelf now, and counted there too.
    pub(crate) fn opened(&self) {
        self.opened.fetch_add(1, Relaxed);
    }

    pub(crate) fn dial_failed(&self) {
        self.dial_failed.fetch_add(1, Relaxed);
    }

    /// How long the last connection took to open, if one ever did.
    pub(crate) fn usual_dial(&self) -> Option<Duration> {
        Some(self.last_dial.load(Relaxed))
            .filter(|nanos| *nanos > 0)
            .map(Duration::from_nanos)
    }

    pub(crate) fn closed(&self, reason: Reason, connections: usize) {
        self.closed[reason as usize].fetch_add(connections as u64, Relaxed);
    }

    /// Adds what was counted to the gauges that the shelf and the gate give.
    pub(crate) fn snapshot(&self, gauges: Stats) -> Stats {
        Stats {
            acquired: self.acquired.load(Relaxed),
            timed_out: self.timed_out.load(Relaxed),
            shed: self.shed.load(Relaxed),
            opened: self.opened.load(Relaxed),
            dial_failed: self.dial_failed.load(Relaxed),
            closed: std::array::from_fn(|index| self.closed[index].load(Relaxed)),
            recovered: self.recovered.load(Relaxed),
            nested: self.nested.load(Relaxed),
            ..gauges
        }
    }
}
