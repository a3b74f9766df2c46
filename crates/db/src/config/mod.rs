//! The pool's settings: `DATABASE_URL` with Prisma's parameters, taken out before sqlx sees them.

mod address;
pub(crate) mod connection;
pub(crate) mod environment;
mod error;
mod given;
pub(crate) mod hooks;
pub(crate) mod hosts;
mod opening;
mod options;
mod parameters;
mod pasted;
mod read;
pub(crate) mod settings;
mod text;
pub(crate) mod tls;
mod values;
mod variables;
mod words;

use std::fmt;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use crate::config::connection::{reject_session, session};
use crate::config::environment::{replica_urls_from_env, url_from_env};
use crate::config::given::{Given, given_in};
use crate::config::hooks::Hooks;
use crate::config::hosts::Host;
use crate::config::parameters::THROUGH_PGBOUNCER;
use crate::config::tls::Tls;
use crate::limits::Limits;

pub use crate::config::error::ConfigError;
pub use crate::config::hosts::TargetSessionAttrs;
pub use crate::config::parameters::PARAMETERS;

/// Longest wait for a lock at a replica, where nobody has set another one.
const REPLICA_LOCK_TIMEOUT: Duration = Duration::from_millis(250);

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
    /// The parameters that the URL and the environment have, without secrets.
    given: Vec<Given>,
    /// Whether the URL or the environment has one.
    password: bool,
    from_env: bool,
    direct: Option<Box<Self>>,
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
        let (url, from) = url_from_env()?;
        let replicas = replica_urls_from_env()?;
        let replicas = replicas
            .iter()
            .map(|url| Self::parse(url).map_err(|error| error.of_url("DATABASE_REPLICA_URLS")));
        let direct = std::env::var("DIRECT_URL").ok();
        let direct = direct.filter(|url| !url.trim().is_empty());
        let direct =
            direct.map(|url| Self::parse(&url).map_err(|error| error.of_url("DIRECT_URL")));
        Ok(Self {
            from_env: true,
            direct: direct.transpose()?.map(Box::new),
            replicas: replicas.collect::<Result<_, _>>()?,
            ..Self::parse(&url).map_err(|error| match from {
                "DATABASE_URL" => error,
                from => error.of_url(from),
            })?
        })
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
            password: false,
            from_env: false,
            direct: None,
            hooks: Hooks::default(),
        }
    }

    /// What sqlx needs to connect, through a pooler or not.
    pub(crate) fn options(&self, pooler: bool) -> PgConnectOptions {
        self.options_at(self.endpoint.clone(), pooler)
    }

    /// The same at the endpoint that the environment names now, for when the password was changed.
    pub(crate) fn options_now(&self, pooler: bool) -> Option<PgConnectOptions> {
        let (url, _) = self.from_env.then(url_from_env)?.ok()?;
        Some(self.options_at(Self::parse(&url).ok()?.endpoint, pooler))
    }

    /// Whether there is a password to send, as far as is known before a provider is asked.
    pub(crate) fn has_password(&self) -> bool {
        self.password || self.hooks.credentials.is_some()
    }

    /// What `DIRECT_URL` says: the server itself, for migrations, where `DATABASE_URL` is that of a pooler.
    pub(crate) fn direct(&self) -> Option<Self> {
        self.direct.as_deref().cloned()
    }

    /// An error that names a setting of the session which a pooler cannot be told, if there is one.
    pub(crate) fn check_for_pooler(&self) -> Result<(), ConfigError> {
        // The driver sends it whatever it is told.
        if std::env::var_os("PGOPTIONS").is_some_and(|options| !options.is_empty()) {
            return Err(ConfigError::refused("options", THROUGH_PGBOUNCER).of_variable("PGOPTIONS"));
        }
        reject_session(&self.session)
    }

    /// What each transaction is told behind a pooler: the timeouts that somebody has set. The others are those of the role.
    pub(crate) fn in_transactions(&self) -> Limits {
        let default = Self::new(self.endpoint.clone());
        let set = |key: &str, limit: Option<Duration>, default: Option<Duration>| {
            (given_in(&self.given, key) || limit != default).then(|| limit.unwrap_or(Duration::MAX))
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

    /// Makes this the configuration of a replica, whose primary answers what waits there for a lock: a quarter of the default
    /// and at most [`REPLICA_LOCK_TIMEOUT`], unless somebody has set another one.
    pub(crate) fn wait_less_for_locks(&mut self) {
        let default = Self::new(self.endpoint.clone()).lock_timeout;
        if !given_in(&self.given, "lock_timeout") && self.lock_timeout == default {
            let limit = default.map(|limit| (limit / 4).min(REPLICA_LOCK_TIMEOUT));
            self.lock_timeout = limit;
        }
    }

    fn options_at(&self, endpoint: PgConnectOptions, pooler: bool) -> PgConnectOptions {
        if pooler {
            return endpoint.extra_float_digits(None);
        }
        endpoint.options(self.told())
    }

    /// What a session is told of the URL.
    fn told(&self) -> Vec<(String, String)> {
        let timeouts = [
            ("statement_timeout", self.statement_timeout),
            ("lock_timeout", self.lock_timeout),
            (
                "idle_in_transaction_session_timeout",
                self.idle_in_transaction_session_timeout,
            ),
        ];
        session(&self.session, timeouts)
    }

    /// The statement that tells a session the same, and whose it is, after it was opened.
    pub(crate) fn tell(&self, instance: &str) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let mut told = self.told();
        told.push(("pool.instance".to_owned(), instance.to_owned()));
        let each = told
            .iter()
            .map(|(key, value)| format!("set_config({}, {}, false)", quoted(key), quoted(value)));
        format!("select {}", each.collect::<Vec<_>>().join(", "))
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
