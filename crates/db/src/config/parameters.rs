//! The URL's parameters: which there are, and what is wrong with one, said without its value.

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
    "lock_timeout", "2000", "milliseconds a statement waits for a lock, enforced by the server";
    "idle_in_transaction_session_timeout", "10000", "milliseconds a transaction may pause, enforced by the server";
    "statement_cache_size", "100", "prepared statements kept for each connection";
    "pgbouncer", "false", "found without it; `true` says that PgBouncer (1.21 or later) is between";
    "schema", "the role's search_path", "schema that unqualified names refer to";
    "application_name", "the program's name", "name shown in pg_stat_activity, with the instance and its limit: `shop #4f2a9c1b 10`";
    "sslmode", "prefer", "disable, allow, prefer, require, verify-ca or verify-full";
    "sslaccept", "accept_invalid_certs", "`strict` checks the server's certificate and name";
    "sslrootcert", "none", "file of the authority that signed the server's certificate";
    "sslcert", "none", "the same, as Prisma names it; with sslkey: the client's certificate";
    "sslkey", "none", "file of the client certificate's key";
    "host", "the URL's host", "overrides it; a folder for a unix socket";
    "target_session_attrs", "any", "which of several hosts fits: any, read-write, read-only, primary, standby or prefer-standby";
    "replica_max_lag", "5", "seconds that a replica of DATABASE_REPLICA_URLS may be behind and still be read; 0 for no limit";
    "options", "none", "settings for each session: `-c name=value …`";
}

/// Understood so that the error can say what to do instead, or accepted where they change nothing.
pub(crate) const TOLERATED: &[&str] = &[
    "sslidentity",
    "sslpassword",
    "channel_binding",
    "single_use_connections",
];

/// What to do about a session's settings behind a pooler.
pub(crate) const THROUGH_PGBOUNCER: &str =
    "PgBouncer does not pass it on; use `alter role … set …` instead";

/// Why `DATABASE_URL` cannot be used. Contains keys and kinds, never values.
///
/// ```
/// let error = db::Config::parse("mysql://db.example/shop").expect_err("not PostgreSQL");
/// assert!(error.to_string().contains("postgres://"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The variable is not set.
    #[error(
        "DATABASE_URL is not set: write DATABASE_URL=postgres://user:password@host:5432/database into the environment or .env"
    )]
    Missing,
    /// The URL itself cannot be read.
    #[error(
        "DATABASE_URL is not a valid URL: {problem}; expected postgres://user:password@host:5432/database?connection_limit=10"
    )]
    Url {
        /// What is wrong with it.
        problem: String,
    },
    /// One of the URLs of `DATABASE_REPLICA_URLS` is wrong, as `DATABASE_URL` would be.
    #[error("{}", .0.to_string().replacen("DATABASE_URL", "DATABASE_REPLICA_URLS", 1))]
    Replica(Box<Self>),
    /// A parameter that does not exist.
    #[error("DATABASE_URL has an unknown parameter `{key}`{}", suggest(.nearest.as_deref()))]
    UnknownKey {
        /// The parameter as written.
        key: String,
        /// The known parameter nearest to it, if one is near.
        nearest: Option<String>,
    },
    /// A parameter whose value is not of its kind.
    #[error("DATABASE_URL has a bad value for `{key}`: it must be {expected}")]
    Value {
        /// The parameter.
        key: String,
        /// What its value has to be.
        expected: String,
    },
}

impl ConfigError {
    /// The same about a URL of a replica.
    pub(crate) fn of_replica(self) -> Self {
        Self::Replica(Box::new(self))
    }

    pub(crate) fn url(problem: &str) -> Self {
        Self::Url {
            problem: problem.to_owned(),
        }
    }
}

fn suggest(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| {
        format!("; did you mean `{nearest}`?")
    })
}
