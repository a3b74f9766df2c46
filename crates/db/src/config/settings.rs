//! The settings in force, for people to look at: each with where it came from, and no secret.

use std::time::Duration;

use crate::config::Config;
use crate::config::given::given_in;
use crate::config::parameters::PARAMETERS;
use crate::duration::seconds;

/// One setting of the pool.
///
/// ```no_run
/// # fn example(pool: &db::Pool) {
/// for setting in pool.config().settings() {
///     println!("{} = {} ({})", setting.key, setting.value, setting.from);
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// The parameter of the URL.
    pub key: &'static str,
    /// Its value for people, such as `20 s`.
    pub value: String,
    /// Where the value came from: `URL`, `environment` for one of libpq's variables, `default`, or `code` where a field was changed after the URL was read.
    pub from: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

impl Config {
    /// The settings in force, in the order of [`PARAMETERS`].
    ///
    /// ```
    /// # fn main() -> Result<(), db::ConfigError> {
    /// let config = db::Config::parse("postgres://app@db.example/shop?connection_limit=5")?;
    /// let limit = &config.settings()[0];
    /// assert_eq!((limit.key, limit.value.as_str(), limit.from), ("connection_limit", "5", "URL"));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        let defaults = Self {
            pgbouncer: self.pgbouncer,
            ..Self::new(self.endpoint.clone())
        };
        let row = |&(key, default, meaning): &(&'static str, &str, &'static str)| {
            let given = self.given.iter().find(|given| given.key == key);
            let value = self.value(key);
            let from = match given {
                Some(given) => given.from,
                None if value != defaults.value(key) => "code",
                None => "default",
            };
            let text = given.map(|given| given.text.clone());
            Setting {
                key,
                value: value.or(text).unwrap_or_else(|| default.to_owned()),
                from,
                meaning,
            }
        };
        PARAMETERS.iter().map(row).collect()
    }

    /// The value of a field for people, if the parameter has one.
    fn value(&self, key: &str) -> Option<String> {
        let time = |limit: Option<Duration>| limit.map_or_else(|| "no limit".to_owned(), seconds);
        Some(match key {
            "connection_limit" if self.connection_limit_auto => "auto".to_owned(),
            "connection_limit" => self.connection_limit.to_string(),
            "connection_limit_max" => self.connection_limit_max.to_string(),
            "min_connections" => self.min_connections.to_string(),
            "queue_limit" => self.queue_limit.to_string(),
            "pgbouncer" => self.pgbouncer.to_string(),
            "target_session_attrs" => self.target_session_attrs.to_string(),
            "queue_target" => self
                .queue_target
                .map_or_else(|| "never".to_owned(), seconds),
            "pool_timeout" => time(self.pool_timeout),
            "connect_timeout" => time(self.connect_timeout),
            "socket_timeout" => time(self.socket_timeout),
            "max_connection_lifetime" => time(self.max_connection_lifetime),
            "max_idle_connection_lifetime" => time(self.max_idle_connection_lifetime),
            "replica_max_lag" => time(self.replica_max_lag),
            "leak_threshold" => time(self.leak_threshold),
            "slow_statement_threshold" => time(self.slow_statement_threshold),
            "statement_timeout" | "lock_timeout" | "idle_in_transaction_session_timeout"
                if self.pgbouncer && !given_in(&self.given, key) =>
            {
                "as set for the role".to_owned()
            }
            "statement_timeout" => time(self.statement_timeout),
            "lock_timeout" => time(self.lock_timeout),
            "idle_in_transaction_session_timeout" => time(self.idle_in_transaction_session_timeout),
            _ => return None,
        })
    }
}
