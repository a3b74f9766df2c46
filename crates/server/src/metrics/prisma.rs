//! The numbers under the names of Prisma's client (2 to 6), with its buckets in milliseconds, for dashboards that know them.

use std::fmt::{Display, Write};
use std::time::Duration;

use db::{HistogramSnapshot, Stats, Times};

/// Upper bounds in milliseconds.
const BOUNDS: [u64; 10] = [0, 1, 5, 10, 50, 100, 500, 1000, 5000, 50_000];

/// Name, help and value of a metric.
type Row<F> = (&'static str, &'static str, F);
type Counter = fn(&Stats, &Times) -> u64;
type Gauge = fn(&Stats) -> u32;
type Histogram = fn(&Times) -> &HistogramSnapshot;

const COUNTERS: [Row<Counter>; 4] = [
    (
        "client_queries_total",
        "The total number of Prisma Client queries executed",
        |_, times| times.statement.count(),
    ),
    (
        "datasource_queries_total",
        "The total number of datasource queries executed",
        |_, times| times.statement.count(),
    ),
    (
        "pool_connections_closed_total",
        "The total number of pool connections closed",
        |stats, _| stats.closed.iter().sum(),
    ),
    (
        "pool_connections_opened_total",
        "The total number of pool connections opened",
        |stats, _| stats.opened,
    ),
];

const GAUGES: [Row<Gauge>; 5] = [
    (
        "client_queries_active",
        "The number of currently active Prisma Client queries",
        |stats| stats.in_use + stats.waiting,
    ),
    (
        "client_queries_wait",
        "The number of datasource queries currently waiting for a free connection",
        |stats| stats.waiting,
    ),
    (
        "pool_connections_busy",
        "The number of pool connections currently executing datasource queries",
        |stats| stats.in_use,
    ),
    (
        "pool_connections_idle",
        "The number of pool connections that are not busy running a query",
        |stats| stats.idle,
    ),
    (
        "pool_connections_open",
        "The number of pool connections currently open",
        |stats| stats.open,
    ),
];

const HISTOGRAMS: [Row<Histogram>; 3] = [
    (
        "client_queries_duration_histogram_ms",
        "The distribution of the time Prisma Client queries took to run end to end",
        |times| &times.whole,
    ),
    (
        "client_queries_wait_histogram_ms",
        "The distribution of the time all datasource queries spent waiting for a free connection",
        |times| &times.wait,
    ),
    (
        "datasource_queries_duration_histogram_ms",
        "The distribution of the time datasource queries took to run",
        |times| &times.statement,
    ),
];

/// Prisma's twelve metrics as Prometheus' text, in Prisma's order. A client query and a datasource query are both a
/// statement; the client's is timed with its wait for a connection.
pub(crate) fn text(stats: &Stats, times: &Times) -> String {
    let mut text = String::new();
    for (name, help, value) in COUNTERS {
        single(&mut text, name, "counter", help, value(stats, times));
    }
    for (name, help, value) in GAUGES {
        single(&mut text, name, "gauge", help, value(stats));
    }
    for (name, help, of) in HISTOGRAMS {
        histogram(&mut text, name, help, of(times));
    }
    text
}

fn single(text: &mut String, name: &str, kind: &str, help: &str, value: impl Display) {
    head(text, name, kind, help);
    let _ = writeln!(text, "prisma_{name} {value}\n");
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(
        text,
        "# HELP prisma_{name} {help}\n# TYPE prisma_{name} {kind}"
    );
}

fn histogram(text: &mut String, name: &str, help: &str, times: &HistogramSnapshot) {
    head(text, name, "histogram", help);
    for bound in BOUNDS {
        let count = times.not_above(Duration::from_millis(bound));
        let _ = writeln!(text, "prisma_{name}_bucket{{le=\"{bound}\"}} {count}");
    }
    let (count, sum) = (times.count(), times.sum().as_secs_f64() * 1000.0);
    let _ = writeln!(
        text,
        "prisma_{name}_bucket{{le=\"+Inf\"}} {count}\nprisma_{name}_sum {sum}\nprisma_{name}_count {count}\n"
    );
}
