//! The pool's settings: `DATABASE_URL` with Prisma's parameters, taken out before sqlx sees them.

mod address;
mod connection;
pub(crate) mod environment;
pub(crate) mod hooks;
pub(crate) mod hosts;
mod opening;
mod parameters;
pub(crate) mod settings;
mod url;

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use ::url::Url;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use crate::config::connection::{Tls, quote_identifier, reject_session, server, session, tls};
use crate::config::environment::{replica_urls_from_env, url_from_env};
use crate::config::hooks::Hooks;
use crate::config::hosts::{Host, split};
use crate::config::url::{Parameters, check_text};
use crate::limits::Limits;

pub use crate::config::hosts::TargetSessionAttrs;
pub use crate::config::parameters::{ConfigError, PARAMETERS};

/// Everything the pool can be told. [`Config::parse`] reads it from a URL; the fields may be changed afterwards.
///
/// A duration of `None` means "no limit", written `0` in the URL. Nothing here ever prints a password.
#[derive(Clone)]
pub struct Config {
    /// Most connections open at a time, but for a short-lived one beside them that cancels and checks. Default 10.
    pub connection_limit: u32,
    /// Whether the pool takes its share of what the server has for all instances, and follows them as they come and go:
    /// `connection_limit=auto`. Then `connection_limit` is what it has where that cannot be known. Default false.
    pub connection_limit_auto: bool,
    /// Most connections that such a share may have. Default 50.
    pub connection_limit_max: u32,
    /// Connections kept open even when nobody needs them. Default 0.
    pub min_connections: u32,
    /// Most callers that may wait for a connection: a brake against memory running out. Who would wait in vain is turned
    /// away before. Default 10,000.
    pub queue_limit: u32,
    /// Wait that the queue may keep up: one in which everybody has waited for longer for a second is cut, and then nobody
    /// waits for longer. Default: never cut.
    pub queue_target: Option<Duration>,
    /// Longest wait for a free connection. Default 20 s.
    pub pool_timeout: Option<Duration>,
    /// Longest wait for a new connection to open. Default 5 s.
    pub connect_timeout: Option<Duration>,
    /// Longest wait for a statement's answer, enforced by the client. Default 6 s.
    pub socket_timeout: Option<Duration>,
    /// Age at which a connection is replaced, give or take 10 %. Default 30 min.
    pub max_connection_lifetime: Option<Duration>,
    /// Idle time after which a connection is closed. Default 5 min.
    pub max_idle_connection_lifetime: Option<Duration>,
    /// A connection held longer is reported with the place that took it. Default 30 s.
    pub leak_threshold: Option<Duration>,
    /// A statement that takes longer is logged without its arguments. Default 1 s.
    pub slow_statement_threshold: Option<Duration>,
    /// Longest statement, enforced by the server. Default 5 s.
    pub statement_timeout: Option<Duration>,
    /// Longest wait for a lock, enforced by the server. Default 2 s.
    pub lock_timeout: Option<Duration>,
    /// Longest pause inside a transaction, enforced by the server. Default 10 s.
    pub idle_in_transaction_session_timeout: Option<Duration>,
    /// Whether the connections go through a PgBouncer in transaction mode. The pool finds that out by itself, so this is for
    /// those who want it said. Default false.
    pub pgbouncer: bool,
    /// Which of several hosts fits. Default: any.
    pub target_session_attrs: TargetSessionAttrs,
    /// How far a replica may be behind its primary and still be read. Default 5 s.
    pub replica_max_lag: Option<Duration>,
    /// The replicas of this primary, each with its own settings, for [`Pool::read`](crate::Pool::read). Default: none.
    pub replicas: Vec<Self>,
    /// Where the server may be: at least one host.
    hosts: Vec<Host>,
    /// Who connects to which database, and how the connection is secured.
    endpoint: PgConnectOptions,
    pub(crate) tls: Tls,
    /// `search_path` and whatever `options` sets.
    pub(crate) session: Vec<(String, String)>,
    /// The parameters that the URL has, without secrets.
    given: Vec<(String, String)>,
    from_env: bool,
    pub(crate) hooks: Hooks,
}

impl Config {
    /// Reads `DATABASE_URL` from the environment, or from the file that `DATABASE_URL_FILE` names, where Docker and
    /// Kubernetes put secrets, and with commas between them the URLs of replicas from `DATABASE_REPLICA_URLS`. A password that the server does not accept is read there again before the next attempt.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), db::ConfigError> {
    /// let mut config = db::Config::from_env()?;
    /// config.min_connections = 2; // every setting can be changed before the pool is made
    /// let pool = db::Pool::new(config);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When it is missing or not valid; see [`Config::parse`].
    pub fn from_env() -> Result<Self, ConfigError> {
        let replicas = replica_urls_from_env()?;
        let replicas = replicas
            .iter()
            .map(|url| Self::parse(url).map_err(ConfigError::of_replica));
        Ok(Self {
            from_env: true,
            replicas: replicas.collect::<Result<_, _>>()?,
            ..Self::parse(&url_from_env()?)?
        })
    }

    /// Reads `postgres://user:password@host:port/database?parameter=value&…`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), db::ConfigError> {
    /// let config = db::Config::parse("postgres://app@db.example/shop?connection_limit=5&pool_timeout=500ms")?;
    /// assert_eq!(config.connection_limit, 5);
    /// assert_eq!(config.pool_timeout, Some(Duration::from_millis(500)));
    /// assert_eq!(config.connect_timeout, Some(Duration::from_secs(5)), "the default");
    ///
    /// let error = db::Config::parse("postgres://app@db.example/shop?conection_limit=5").expect_err("a typo");
    /// assert!(error.to_string().contains("did you mean `connection_limit`?"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// An unknown parameter or a bad value: the error names the key, what it takes and, for an unknown one, the
    /// nearest known key. It never contains a value.
    pub fn parse(url: &str) -> Result<Self, ConfigError> {
        check_text(url.trim())?;
        let (url, others) = split(url.trim())?;
        let url = Url::parse(&url).map_err(|error| ConfigError::url(&error.to_string()))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(ConfigError::url(
                "it must begin with postgres:// or postgresql://",
            ));
        }
        let mut config = Self::new(server(&url)?);
        config.hosts = [vec![Host::of(&url)?], others].concat();
        let mut given = Parameters::of(&url)?;
        config.given = given.shown();
        given.boolean("pgbouncer", &mut config.pgbouncer)?;
        config.read_limits(&mut given)?;
        config.read_durations(&mut given)?;
        config.read_connection(&mut given)?;
        given.finish()?;
        Ok(config)
    }

    fn new(endpoint: PgConnectOptions) -> Self {
        let seconds = |n| Some(Duration::from_secs(n));
        Self {
            connection_limit: 10,
            connection_limit_auto: false,
            connection_limit_max: 50,
            min_connections: 0,
            queue_limit: 10_000,
            queue_target: None,
            pool_timeout: seconds(20),
            connect_timeout: seconds(5),
            socket_timeout: seconds(6),
            max_connection_lifetime: seconds(1800),
            max_idle_connection_lifetime: seconds(300),
            leak_threshold: seconds(30),
            slow_statement_threshold: seconds(1),
            statement_timeout: seconds(5),
            lock_timeout: seconds(2),
            idle_in_transaction_session_timeout: seconds(10),
            pgbouncer: false,
            target_session_attrs: TargetSessionAttrs::Any,
            replica_max_lag: seconds(5),
            replicas: Vec::new(),
            hosts: Vec::new(),
            endpoint,
            tls: Tls::default(),
            session: Vec::new(),
            given: Vec::new(),
            from_env: false,
            hooks: Hooks::default(),
        }
    }

    fn read_limits(&mut self, given: &mut Parameters) -> Result<(), ConfigError> {
        const LIMIT: RangeInclusive<u32> = 1..=10_000;
        self.connection_limit_auto =
            given.number_or_auto("connection_limit", LIMIT, &mut self.connection_limit)?;
        if !self.connection_limit_auto {
            given.reject("connection_limit_max", "it is for connection_limit=auto")?;
        }
        given.number(
            "connection_limit_max",
            LIMIT,
            &mut self.connection_limit_max,
        )?;
        given.number("queue_limit", 0..=1_000_000, &mut self.queue_limit)?;
        let most = self.most_connections();
        given.number("min_connections", 0..=most, &mut self.min_connections)
    }

    fn read_durations(&mut self, given: &mut Parameters) -> Result<(), ConfigError> {
        const SECOND: Duration = Duration::from_secs(1);
        const MILLISECOND: Duration = Duration::from_millis(1);
        for (key, field) in [
            ("queue_target", &mut self.queue_target),
            ("pool_timeout", &mut self.pool_timeout),
            ("connect_timeout", &mut self.connect_timeout),
            ("socket_timeout", &mut self.socket_timeout),
            ("max_connection_lifetime", &mut self.max_connection_lifetime),
            (
                "max_idle_connection_lifetime",
                &mut self.max_idle_connection_lifetime,
            ),
            ("leak_threshold", &mut self.leak_threshold),
            ("replica_max_lag", &mut self.replica_max_lag),
            (
                "slow_statement_threshold",
                &mut self.slow_statement_threshold,
            ),
        ] {
            given.duration(key, SECOND, field)?;
        }
        for (key, field) in [
            ("statement_timeout", &mut self.statement_timeout),
            ("lock_timeout", &mut self.lock_timeout),
            (
                "idle_in_transaction_session_timeout",
                &mut self.idle_in_transaction_session_timeout,
            ),
        ] {
            // PostgreSQL's own names keep PostgreSQL's own unit.
            given.duration(key, MILLISECOND, field)?;
        }
        Ok(())
    }

    fn read_connection(&mut self, given: &mut Parameters) -> Result<(), ConfigError> {
        let mut options = self.endpoint.clone().disable_statement_logging();
        if let Some(host) = given.text("host") {
            self.hosts = vec![self.hosts[0].at(host)];
        }
        options = self.hosts[0].apply(options);
        let known = TargetSessionAttrs::ALL;
        if let Some(index) = given.choice("target_session_attrs", &known.map(|(name, _)| name))? {
            self.target_session_attrs = known[index].1;
        }
        if let Some(name) = given.text("application_name") {
            options = options.application_name(&name);
        }
        // 0 would leak: sqlx 0.9.0 names a statement and never closes it. One is the smallest that works.
        let mut cache = 100;
        given.number("statement_cache_size", 0..=100_000, &mut cache)?;
        options = options.statement_cache_capacity(cache.max(1) as usize);
        (self.endpoint, self.tls) = tls(given, options)?;
        if let Some(schema) = given.text("schema") {
            self.session
                .push(("search_path".to_owned(), quote_identifier(&schema)));
        }
        self.session.extend(given.session_options()?);
        if self.pgbouncer {
            self.check_for_pooler()?;
        }
        given.reject(
            "sslidentity",
            "convert it to PEM files and name them in sslcert and sslkey",
        )?;
        given.reject(
            "sslpassword",
            "it belongs to sslidentity, which cannot be read; name PEM files in sslcert and sslkey",
        )?;
        given.choice("channel_binding", &["disable", "prefer"])?;
        given.choice("single_use_connections", &["false"]).map(drop)
    }

    /// What sqlx needs to connect, through a pooler or not.
    pub(crate) fn options(&self, pooler: bool) -> PgConnectOptions {
        self.options_at(self.endpoint.clone(), pooler)
    }

    /// The same at the endpoint that the environment names now, for when the password was changed.
    pub(crate) fn options_now(&self, pooler: bool) -> Option<PgConnectOptions> {
        let url = self.from_env.then(url_from_env)?.ok()?;
        Some(self.options_at(Self::parse(&url).ok()?.endpoint, pooler))
    }

    /// What `DIRECT_URL` says: the server itself, for migrations, where `DATABASE_URL` is that of a pooler.
    pub(crate) fn direct_url(&self) -> Option<String> {
        let url = || std::env::var("DIRECT_URL").ok();
        self.from_env
            .then(url)?
            .filter(|url| !url.trim().is_empty())
    }

    /// An error that names a setting of the session which a pooler cannot be told, if there is one.
    pub(crate) fn check_for_pooler(&self) -> Result<(), ConfigError> {
        reject_session(&self.session)
    }

    /// What each transaction is told behind a pooler: the timeouts that somebody has set. The others are those of the role.
    pub(crate) fn in_transactions(&self) -> Limits {
        let default = Self::new(self.endpoint.clone());
        let set = |key: &str, limit: Option<Duration>, default: Option<Duration>| {
            let given = self.given.iter().any(|(given, _)| given == key);
            (given || limit != default).then(|| limit.unwrap_or(Duration::MAX))
        };
        let pause = "idle_in_transaction_session_timeout";
        Limits {
            statement: set(
                "statement_timeout",
                self.statement_timeout,
                default.statement_timeout,
            ),
            lock: set("lock_timeout", self.lock_timeout, default.lock_timeout),
            pause: set(
                pause,
                self.idle_in_transaction_session_timeout,
                default.idle_in_transaction_session_timeout,
            ),
            ..Limits::default()
        }
    }

    fn options_at(&self, endpoint: PgConnectOptions, pooler: bool) -> PgConnectOptions {
        if pooler {
            return endpoint.extra_float_digits(None);
        }
        let timeouts = [
            ("statement_timeout", self.statement_timeout),
            ("lock_timeout", self.lock_timeout),
            (
                "idle_in_transaction_session_timeout",
                self.idle_in_transaction_session_timeout,
            ),
        ];
        endpoint.options(session(&self.session, timeouts))
    }

    /// Whether the limit follows the fleet. Behind a pooler nobody can see it.
    pub(crate) fn follows(&self) -> bool {
        self.connection_limit_auto && !self.pgbouncer
    }

    /// The limit, or the most that it can become.
    #[must_use]
    pub fn most_connections(&self) -> u32 {
        match self.follows() {
            true => self.connection_limit_max,
            false => self.connection_limit,
        }
    }

    /// What sessions are called: as the URL says, or PGAPPNAME, or like the program.
    pub(crate) fn application_name(&self) -> String {
        let program = || {
            let path = std::env::current_exe().ok()?;
            Some(path.file_name()?.to_string_lossy().into_owned())
        };
        let given = self.endpoint.get_application_name().map(str::to_owned);
        given.or_else(program).unwrap_or_default()
    }

    /// What numbers and spans call the pool: `host:port/database`.
    pub(crate) fn pool_name(&self) -> String {
        format!("{}/{}", self.address(), self.database())
    }

    /// The database's name.
    #[must_use]
    pub fn database(&self) -> &str {
        self.endpoint.get_database().unwrap_or("postgres")
    }

    /// The role that the pool connects as.
    #[must_use]
    pub fn username(&self) -> &str {
        self.endpoint.get_username()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand: a derived one would print the password that sqlx's options hold.
        f.debug_struct("Config")
            .field("address", &self.address())
            .field("database", &self.database())
            .field("username", &self.username())
            .field("connection_limit", &self.connection_limit)
            .finish_non_exhaustive()
    }
}
