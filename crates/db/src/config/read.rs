//! How the URL, its parameters and libpq's variables become a [`Config`].

use std::env::VarError;
use std::ops::RangeInclusive;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgSslMode;

use crate::config::connection::{quote_identifier, server};
use crate::config::error::ConfigError;
use crate::config::given::{Given, Parameters, given_in};
use crate::config::text::{Named, Text};
use crate::config::tls::tls;
use crate::config::variables::VARIABLES;
use crate::config::{Config, TargetSessionAttrs, hosts};

/// Reads a URL, and from `variable` what it leaves out.
fn parse(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
    let text = Text::read(url)?;
    let mut given = Parameters::of(text.query)?;
    given.piece("user", text.user);
    given.piece("password", text.password);
    given.piece("dbname", text.database);
    let mut shown = given.shown("URL");
    let (at_host, at_port) = (
        text.hosts.iter().any(|(name, _)| !name.is_empty()),
        text.hosts.iter().any(|(_, port)| port.is_some()),
    );
    let variables = given.complete(at_host, at_port, variable)?;
    let mut completed = given.shown("environment");
    completed.retain(|one| !given_in(&shown, one.key));
    shown.append(&mut completed);
    let config = config(given, &text.hosts, shown);
    config.map_err(|error| {
        let variable = variables
            .iter()
            .find(|(key, _)| error.key() == Some(key.as_str()));
        match variable {
            Some((_, name)) => error.of_variable(name),
            None => error,
        }
    })
}

fn config(
    mut given: Parameters,
    named: &[Named],
    shown: Vec<Given>,
) -> Result<Config, ConfigError> {
    let by_address = given.has("hostaddr") && (given.has("host") || !named.is_empty());
    let hosts = hosts::read(named, &mut given)?;
    let password = given.is_set("password");
    let mut config = Config::new(server(&mut given, &hosts));
    config.password = password;
    config.hosts = hosts;
    config.given = shown;
    given.boolean("pgbouncer", &mut config.pgbouncer)?;
    config.read_limits(&mut given)?;
    config.read_durations(&mut given)?;
    config.read_connection(&mut given)?;
    if by_address && matches!(config.endpoint.get_ssl_mode(), PgSslMode::VerifyFull) {
        return Err(ConfigError::refused(
            "hostaddr",
            "with sslmode=verify-full write the name alone: sqlx checks the certificate against what it connects to",
        ));
    }
    for key in &given.needless {
        tracing::debug!("the parameter `{key}` is taken, and changes nothing here");
    }
    given.finish()?;
    Ok(config)
}

impl Config {
    /// Reads `postgres://user:password@host:port/database?parameter=value&…` as libpq does, and libpq's variables of the
    /// environment (`PGUSER`, `PGSSLMODE`, …) where it says nothing. Prisma's parameters are those of the pool.
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
    /// nearest known key. For a parameter of another pool or driver it says what to write instead. It never contains a value.
    pub fn parse(url: &str) -> Result<Self, ConfigError> {
        let unreadable = |name: &&str| matches!(std::env::var(name), Err(VarError::NotUnicode(_)));
        let mut names = VARIABLES.iter().map(|(name, _)| *name);
        if let Some(name) = names.find(unreadable) {
            return Err(ConfigError::value(name, "UTF-8").of_variable(name));
        }
        parse(url, |name| std::env::var(name).ok())
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
        // Of several one is chosen for each attempt; sqlx would keep the socket of a first one that has one.
        if let [host] = &self.hosts[..] {
            options = host.apply(options);
        }
        let known = TargetSessionAttrs::ALL;
        if let Some(index) = given.choice("target_session_attrs", &known.map(|(name, _)| name))? {
            self.target_session_attrs = known[index].1;
        }
        let fallback = given.text("fallback_application_name");
        if let Some(name) = given.text("application_name").or(fallback) {
            options = options.application_name(&name);
        }
        // sqlx's own would be in force in the place of the role's, and says no more than the server's default.
        options = options.extra_float_digits(given.digits()?);
        // 0 would leak: sqlx 0.9.0 names a statement and never closes it. One is the smallest that works.
        let mut cache = 100;
        given.number("statement_cache_size", 0..=100_000, &mut cache)?;
        options = options.statement_cache_capacity(cache.max(1) as usize);
        (self.endpoint, self.tls) = tls(given, options)?;
        if let Some(schema) = given.text("schema") {
            if schema.contains(',') {
                return Err(ConfigError::value(
                    "schema",
                    "one schema; several are options=-c%20search_path%3Dshop,public",
                ));
            }
            self.session
                .push(("search_path".to_owned(), quote_identifier(&schema)));
        }
        self.session.extend(std::mem::take(&mut given.session));
        match self.pgbouncer {
            true => self.check_for_pooler(),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(url: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        parse(url, |name| {
            let set = variables.iter().find(|(known, _)| *known == name);
            set.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn each_variable_of_libpq_counts_where_the_url_says_nothing() {
        let all = [
            ("PGHOST", "a,b"),
            ("PGPORT", "1,2"),
            ("PGUSER", "u"),
            ("PGDATABASE", "d"),
            ("PGSSLMODE", "verify-full"),
            ("PGCONNECT_TIMEOUT", "7"),
            ("PGTARGETSESSIONATTRS", "read-write"),
            ("PGAPPNAME", "shop"),
            ("PGOPTIONS", "-c statement_timeout=9s -c work_mem=9MB"),
            ("PGTZ", ""),
        ];
        let config = with("postgres://", &all).expect("valid");
        assert_eq!(config.address(), "a:1,b:2");
        assert_eq!((config.username(), config.database()), ("u", "d"));
        assert!(matches!(
            config.endpoint.get_ssl_mode(),
            PgSslMode::VerifyFull
        ));
        assert_eq!(config.connect_timeout, Some(Duration::from_secs(7)));
        assert_eq!(config.target_session_attrs, TargetSessionAttrs::ReadWrite);
        assert_eq!(config.application_name(), "shop");
        assert_eq!(config.statement_timeout, Some(Duration::from_secs(9)));
        let setting = config
            .settings()
            .into_iter()
            .find(|one| one.key == "sslmode");
        assert_eq!(setting.map(|one| one.from), Some("environment"));

        let at_port = with("postgres://:7", &all).expect("valid");
        assert_eq!(at_port.address(), "a:7,b:7");
        let url = "postgres://v@c/e?sslmode=prefer&connect_timeout=1&application_name=x&statement_timeout=1s\
                   &target_session_attrs=any";
        let config = with(url, &all).expect("valid");
        assert_eq!(config.address(), "c:5432", "nor its port");
        assert_eq!((config.username(), config.database()), ("v", "e"));
        assert!(matches!(config.endpoint.get_ssl_mode(), PgSslMode::Prefer));
        assert_eq!(config.connect_timeout, Some(Duration::from_secs(1)));
        assert_eq!(config.application_name(), "x");
        assert_eq!(config.statement_timeout, Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_variable_that_cannot_count_is_named() {
        for (name, value, word) in [
            ("PGCHANNELBINDING", "require", "verify-full"),
            ("PGSSLMODE", "canary", "verify-full"),
            ("PGSSLCRL", "canary", "revoked"),
            ("PGREQUIREPEER", "canary", "unix socket"),
            ("PGSERVICE", "canary", "URL"),
            ("PGPORT", "canary", "65535"),
            ("PGCONNECT_TIMEOUT", "canary", "whole number"),
            ("PGTZ", "canary", "at time zone"),
            ("PGOPTIONS", "canary", "-c name=value"),
            ("PGOPTIONS", "-c extra_float_digits=canary", "-15 to 3"),
            ("PGGEQO", "canary", "options=-c%20geqo"),
            ("PGOPTIONS", "-c statement_timeout=canary", "whole number"),
            ("PGSSLCERT", "canary", "PGSSLKEY"),
            ("PGSSLKEY", "", "not set at all"),
        ] {
            let error = with("postgres://u@/d", &[(name, value)]).expect_err(name);
            let said = error.to_string();
            assert!(said.contains(name) && said.contains(word), "{name}: {said}");
            assert!(!said.contains("canary"), "{name}: {said}");
        }
    }
}
