//! What the environment sets: typed, with defaults, and refused by name when it cannot be read.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The settings of a service. The database's are part of `DATABASE_URL` and belong to `db`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `HOST`: the address to listen on; default `127.0.0.1`.
    pub host: IpAddr,
    /// `PORT`: the port to listen on, 0 for any free one; the default is the service's own.
    pub port: u16,
    /// `APP_ENV`: how logs are written; default `development`.
    pub environment: Environment,
    /// `RUST_LOG`: what is logged, as `tracing` filter directives; default `info,sqlx=warn`.
    pub log: String,
    /// `SHUTDOWN_TIMEOUT`: seconds that running requests have after SIGTERM, 0 to 3600; default 10.
    pub shutdown_timeout: Duration,
    /// `MIGRATE`: whether migrations run at start; default `true`.
    pub migrate: bool,
}

/// Where the service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Logs for people.
    Development,
    /// Logs as JSON, one object a line.
    Production,
}

/// A setting that cannot be read. It names the setting and what is allowed, never the value, which may be a secret in
/// the wrong place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {found}, not {expected}; allowed: {allowed}")]
pub struct SettingError {
    key: &'static str,
    found: String,
    expected: &'static str,
    allowed: &'static str,
}

/// What a setting is called and what it takes.
struct Rule {
    key: &'static str,
    expected: &'static str,
    allowed: &'static str,
}

const HOST: Rule = Rule {
    key: "HOST",
    expected: "an IP address",
    allowed: "an IPv4 or IPv6 address, such as 127.0.0.1 or 0.0.0.0",
};
const PORT: Rule = Rule {
    key: "PORT",
    expected: "a port",
    allowed: "a whole number, 0 to 65535",
};
const APP_ENV: Rule = Rule {
    key: "APP_ENV",
    expected: "an environment",
    allowed: "development, production",
};
const RUST_LOG: Rule = Rule {
    key: "RUST_LOG",
    expected: "a log filter",
    allowed: "a level such as info, or target=level, separated by commas",
};
const SHUTDOWN_TIMEOUT: Rule = Rule {
    key: "SHUTDOWN_TIMEOUT",
    expected: "a number of seconds",
    allowed: "a whole number, 0 to 3600",
};
const MIGRATE: Rule = Rule {
    key: "MIGRATE",
    expected: "a truth value",
    allowed: "true, false",
};

impl Settings {
    /// Reads the settings. An empty value counts as unset, as Compose files like to pass them.
    ///
    /// # Errors
    /// If a value cannot be read.
    pub fn read(
        default_port: u16,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingError> {
        let mut settings = Self::defaults(default_port);
        HOST.read(&lookup, &mut settings.host, |text| text.parse().ok())?;
        PORT.read(&lookup, &mut settings.port, |text| text.parse().ok())?;
        APP_ENV.read(&lookup, &mut settings.environment, |text| match text {
            "development" => Some(Environment::Development),
            "production" => Some(Environment::Production),
            _ => None,
        })?;
        RUST_LOG.read(&lookup, &mut settings.log, |text| {
            crate::telemetry::filter(text)
                .is_ok()
                .then(|| text.to_owned())
        })?;
        SHUTDOWN_TIMEOUT.read(&lookup, &mut settings.shutdown_timeout, |text| {
            text.parse()
                .ok()
                .filter(|seconds| *seconds <= 3600)
                .map(Duration::from_secs)
        })?;
        MIGRATE.read(&lookup, &mut settings.migrate, |text| text.parse().ok())?;
        Ok(settings)
    }

    /// The settings of an empty environment.
    pub fn defaults(port: u16) -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port,
            environment: Environment::Development,
            log: "info,sqlx=warn".to_owned(),
            shutdown_timeout: Duration::from_secs(10),
            migrate: true,
        }
    }

    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }
}

impl Rule {
    /// Replaces the default by what the environment has, if it has anything.
    fn read<T>(
        &self,
        lookup: impl Fn(&str) -> Option<String>,
        setting: &mut T,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<(), SettingError> {
        let value = lookup(self.key).unwrap_or_default();
        let value = value.trim();
        if !value.is_empty() {
            *setting = parse(value).ok_or_else(|| self.broken_by(value))?;
        }
        Ok(())
    }

    fn broken_by(&self, value: &str) -> SettingError {
        let found = if value.parse::<i128>().is_ok() {
            "another whole number".to_owned()
        } else if value.parse::<f64>().is_ok() {
            "a number".to_owned()
        } else {
            format!("text of {} characters", value.chars().count())
        };
        let Self {
            key,
            expected,
            allowed,
        } = *self;
        SettingError {
            key,
            found,
            expected,
            allowed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str, value: &str) -> Result<Settings, SettingError> {
        Settings::read(4004, |asked| (asked == key).then(|| value.to_owned()))
    }

    #[test]
    fn an_empty_environment_gives_the_defaults() {
        let settings = Settings::read(4004, |_| None).unwrap();
        assert_eq!(settings, Settings::defaults(4004));
        assert_eq!(
            settings,
            Settings::read(4004, |_| Some(" ".to_owned())).unwrap()
        );
        assert_eq!(settings.address().to_string(), "127.0.0.1:4004");
    }

    #[test]
    fn each_setting_is_read() {
        assert_eq!(
            read("HOST", "::").unwrap().address().to_string(),
            "[::]:4004"
        );
        assert_eq!(read("PORT", "80").unwrap().port, 80);
        assert_eq!(
            read("APP_ENV", "production").unwrap().environment,
            Environment::Production
        );
        assert_eq!(
            read("RUST_LOG", "warn,db=debug").unwrap().log,
            "warn,db=debug"
        );
        assert_eq!(
            read("SHUTDOWN_TIMEOUT", "0").unwrap().shutdown_timeout,
            Duration::ZERO
        );
        assert!(!read("MIGRATE", "false").unwrap().migrate);
    }

    #[test]
    fn a_bad_value_is_named_but_not_shown() {
        for (key, value) in [
            ("HOST", "canary.example.com"),
            ("PORT", "canary"),
            ("PORT", "65536"),
            ("PORT", "-1"),
            ("PORT", "80.5"),
            ("APP_ENV", "canary"),
            ("RUST_LOG", "db=canary=x"),
            ("SHUTDOWN_TIMEOUT", "3601"),
            ("SHUTDOWN_TIMEOUT", "canary"),
            ("MIGRATE", "canary"),
        ] {
            let text = read(key, value).unwrap_err().to_string();
            assert!(text.starts_with(key), "{text}");
            assert!(text.contains("allowed: "), "{text}");
            assert!(!text.contains(value), "{text}");
        }
    }
}
