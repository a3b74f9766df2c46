//! The settings of a service, typed, and their defaults.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The settings of a service. The database's are part of `DATABASE_URL` and belong to `db`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `HOST`: the address to listen on. `localhost` is 127.0.0.1, or ::1 on a machine that has only that.
    pub host: IpAddr,
    /// `PORT`: the port to listen on, 0 for any free one.
    pub port: u16,
    /// `APP_ENV`: how logs are written.
    pub environment: Environment,
    /// `RUST_LOG`: what is logged, as `tracing` filter directives.
    pub log: String,
    /// `SHUTDOWN_DELAY`: how long the service serves on after SIGTERM, with `/readyz` 503. `None`: as [`Environment`] says.
    pub shutdown_delay: Option<Duration>,
    /// `SHUTDOWN_TIMEOUT`: how long running requests have after that.
    pub shutdown_timeout: Duration,
    /// `MIGRATE`: whether migrations run at start.
    pub migrate: bool,
    /// `MIGRATE=any`: also in a database called `postgres` or `template1`, and by the subcommand `migrate` too.
    pub migrate_any: bool,
    /// `LOG_QUERIES`: whether each statement is logged, without its arguments.
    pub log_queries: bool,
    /// `SERVER_TIMING`: whether answers say how long they took, and for what. `None`: as [`Environment`] says.
    pub server_timing: Option<bool>,
    /// `POOL_PAGE`: whether the page `/pool` is served.
    pub pool_page: bool,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`: whether traces are exported. Where to, and how, the exporter reads itself.
    pub traces: bool,
    /// What clients may take of the service.
    pub limits: Limits,
}

/// What clients may take of the service, of time and of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `HEADER_TIMEOUT`: how long the head of a request may take, from the connection or the head's first byte on. Then 408.
    pub header_timeout: Duration,
    /// `BODY_TIMEOUT`: how long a body may take to come (then 408), and how long a client may read nothing of an answer.
    pub body_timeout: Duration,
    /// `REQUEST_TIMEOUT`: how long a request may take once it is there. Then 503.
    pub request_timeout: Duration,
    /// `KEEP_ALIVE_TIMEOUT`: how long a connection may wait for its next request.
    pub keep_alive_timeout: Duration,
    /// `MAX_CONNECTIONS`: with so many open, one that waits for its client makes room for the next.
    pub max_connections: usize,
}

/// Where the service runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Environment {
    /// Logs for people.
    #[default]
    Development,
    /// Logs as JSON, one object a line.
    Production,
}

impl Settings {
    /// The settings of an empty environment.
    pub fn defaults(port: u16) -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port,
            environment: Environment::Development,
            log: "info,sqlx=warn".to_owned(),
            shutdown_delay: None,
            shutdown_timeout: Duration::from_secs(10),
            migrate: true,
            migrate_any: false,
            log_queries: false,
            server_timing: None,
            pool_page: true,
            traces: false,
            limits: Limits {
                header_timeout: Duration::from_secs(5),
                body_timeout: Duration::from_secs(10),
                request_timeout: Duration::from_secs(8),
                // Longer than the balancers in front keep theirs, mostly for 60 s: who closes first must not be us.
                keep_alive_timeout: Duration::from_secs(75),
                max_connections: 10_000,
            },
        }
    }
}

impl Environment {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}
