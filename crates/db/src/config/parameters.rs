//! The URL's parameters that are ours: each with its default and what it means.

/// Writes the table below, a row on each line.
macro_rules! table {
    ($($key:literal, $default:literal, $meaning:literal;)*) => {
        /// Each parameter of the URL with its default and what it means, as the settings table of the README prints them.
        pub const PARAMETERS: &[(&str, &str, &str)] = &[$(($key, $default, $meaning)),*];
    };
}

table! {
    "connection_limit", "10", "connections open at most, 1 to 10,000; `auto` is a fair share of the server's, for all instances";
    "connection_limit_max", "50", "connections that such a share has at most";
    "pool_timeout", "20", "seconds a caller waits for a free connection";
    "connect_timeout", "5", "seconds a new connection may take to open";
    "socket_timeout", "6", "seconds a statement may take, enforced by the client";
    "min_connections", "0", "connections kept open ahead of need";
    "queue_limit", "10000", "callers that may wait; more are turned away at once";
    "queue_target", "0", "seconds that the wait may stay at before the queue is cut to it; 0 never cuts";
    "max_connection_lifetime", "1800", "seconds until a connection is replaced, ± 10 %";
    "max_idle_connection_lifetime", "300", "seconds until an idle connection is closed";
    "leak_threshold", "30", "seconds a connection may be held before that is reported";
    "slow_statement_threshold", "1", "seconds after which a statement is logged";
    "statement_timeout", "5000", "milliseconds a statement may take, enforced by the server";
    "lock_timeout", "2000", "milliseconds a statement waits for a lock, enforced by the server; 250 at replicas";
    "idle_in_transaction_session_timeout", "10000", "milliseconds a transaction may pause, enforced by the server";
    "statement_cache_size", "100", "prepared statements kept for each connection";
    "pgbouncer", "false", "found without it; `true` says that PgBouncer (1.21 or later) is between";
    "schema", "the role's search_path", "schema that unqualified names refer to";
    "application_name", "the program's name", "name shown in pg_stat_activity, with the instance and its limit: `shop #4f2a9c1b 10`";
    "sslmode", "prefer", "disable, allow, prefer, require, verify-ca or verify-full";
    "sslaccept", "accept_invalid_certs", "`strict` checks the server's certificate and name";
    "sslrootcert", "none", "file of the authority that signed the server's certificate, or `system`";
    "sslcert", "none", "alone the same, as Prisma names it; with sslkey the client's certificate";
    "sslkey", "none", "file of the client certificate's key";
    "host", "the URL's host", "overrides it; a folder for a unix socket";
    "target_session_attrs", "any", "which of several hosts fits: any, read-write, read-only, primary, standby or prefer-standby";
    "replica_max_lag", "5", "seconds that a replica of DATABASE_REPLICA_URLS may be behind and still be read; 0 for no limit";
    "options", "none", "settings for each session: `-c name=value …`";
}

/// What to do about a session's settings behind a pooler.
pub(crate) const THROUGH_PGBOUNCER: &str = "a pooler of transactions such as PgBouncer does not pass it on; use `alter role … set …` instead";
