//! The numbers as metrics, with OpenTelemetry's names.

use metrics::Unit;

use crate::stats::{Reason, Stats};

impl Stats {
    /// Hands the numbers to the `metrics` facade, as gauges and counters with absolute values.
    pub(crate) fn publish(&self) {
        metrics::gauge!("db.client.connection.count", "state" => "idle").set(self.idle);
        metrics::gauge!("db.client.connection.count", "state" => "used").set(self.in_use);
        metrics::gauge!("db.client.connection.max").set(self.limit);
        metrics::gauge!("db.client.connection.pending_requests").set(self.waiting);
        metrics::counter!("db.client.connection.acquired").absolute(self.acquired);
        metrics::counter!("db.client.connection.timeouts").absolute(self.timed_out);
        metrics::counter!("db.client.connection.shed").absolute(self.shed);
        metrics::counter!("db.client.connection.opened").absolute(self.opened);
        metrics::counter!("db.client.connection.failures").absolute(self.dial_failed);
        metrics::counter!("db.client.connection.recovered").absolute(self.recovered);
        metrics::counter!("db.client.connection.nested").absolute(self.nested);
        for (reason, label) in Reason::ALL {
            metrics::counter!("db.client.connection.closed", "reason" => label)
                .absolute(self.closed[reason as usize]);
        }
    }
}

/// Tells the recorder what each metric means.
pub(crate) fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_gauge!("db.client.connection.count", "Connections open, by state");
    describe_gauge!(
        "db.client.connection.max",
        "Most connections that may be open"
    );
    describe_gauge!(
        "db.client.connection.pending_requests",
        "Callers waiting for a connection"
    );
    describe_counter!("db.client.connection.acquired", "Leases given");
    describe_counter!(
        "db.client.connection.timeouts",
        "Callers that waited for pool_timeout in vain"
    );
    describe_counter!(
        "db.client.connection.shed",
        "Callers turned away because the queue was too long"
    );
    describe_counter!("db.client.connection.opened", "Connections opened");
    describe_counter!(
        "db.client.connection.failures",
        "Failures to open a connection"
    );
    describe_counter!(
        "db.client.connection.recovered",
        "Connections given back unclean and made fit again"
    );
    describe_counter!(
        "db.client.connection.nested",
        "Tasks that asked for a second connection while they held one"
    );
    describe_counter!(
        "db.client.connection.closed",
        "Connections closed, by reason"
    );
    describe_histogram!(
        "db.client.connection.wait_time",
        Unit::Seconds,
        "Time a caller waited for a connection"
    );
    describe_histogram!(
        "db.client.connection.create_time",
        Unit::Seconds,
        "Time a connection took to open"
    );
    describe_histogram!(
        "db.client.connection.use_time",
        Unit::Seconds,
        "Time a connection was held"
    );
    describe_histogram!(
        "db.client.operation.duration",
        Unit::Seconds,
        "Time a statement took, by outcome"
    );
}
