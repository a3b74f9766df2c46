//! What the environment sets: typed, with defaults, and an error that names the setting that cannot be read.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

/// The settings of a service. The database's are part of `DATABASE_URL` and belong to `db`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `HOST`: the address to listen on.
    pub host: IpAddr,
    /// `PORT`: the port to listen on, 0 for any free one.
    pub port: u16,
    /// `APP_ENV`: how logs are written.
    pub environment: Environment,
    /// `RUST_LOG`: what is logged, as `tracing` filter directives.
    pub log: String,
    /// `SHUTDOWN_TIMEOUT`: how long running requests have after SIGTERM.
    pub shutdown_timeout: Duration,
    /// `MIGRATE`: whether migrations run at start.
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

/// A setting that cannot be read: its name and what is allowed, never its value: somebody may have put a secret there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} cannot be read; allowed: {allowed}")]
pub struct SettingError {
    key: &'static str,
    allowed: &'static str,
}

/// One setting.
struct Setting {
    key: &'static str,
    meaning: &'static str,
    allowed: &'static str,
    read: fn(&mut Settings, &str) -> Option<()>,
    show: fn(&Settings) -> String,
}

const SETTINGS: [Setting; 6] = [
    Setting {
        key: "HOST",
        meaning: "address to listen on",
        allowed: "an IPv4 or IPv6 address, such as 127.0.0.1 or 0.0.0.0",
        read: |settings, text| text.parse().ok().map(|host| settings.host = host),
        show: |settings| settings.host.to_string(),
    },
    Setting {
        key: "PORT",
        meaning: "port to listen on",
        allowed: "a whole number, 0 to 65535",
        read: |settings, text| text.parse().ok().map(|port| settings.port = port),
        show: |settings| settings.port.to_string(),
    },
    Setting {
        key: "APP_ENV",
        meaning: "whether logs are for people or JSON",
        allowed: "development, production",
        read: |settings, text| {
            let all = [Environment::Development, Environment::Production];
            let named = all.into_iter().find(|one| one.name() == text);
            named.map(|environment| settings.environment = environment)
        },
        show: |settings| settings.environment.name().to_owned(),
    },
    Setting {
        key: "RUST_LOG",
        meaning: "what is logged",
        allowed: "a level such as info, or target=level, separated by commas",
        read: |settings, text| {
            let filter = EnvFilter::builder().parse(text);
            filter.ok().map(|_| settings.log = text.to_owned())
        },
        show: |settings| settings.log.clone(),
    },
    Setting {
        key: "SHUTDOWN_TIMEOUT",
        meaning: "seconds that running requests have after SIGTERM",
        allowed: "a whole number, 0 to 3600",
        read: |settings, text| {
            let seconds = text.parse().ok().filter(|seconds| *seconds <= 3600)?;
            settings.shutdown_timeout = Duration::from_secs(seconds);
            Some(())
        },
        show: |settings| settings.shutdown_timeout.as_secs().to_string(),
    },
    Setting {
        key: "MIGRATE",
        meaning: "whether serve runs the migrations",
        allowed: "true, false",
        read: |settings, text| text.parse().ok().map(|migrate| settings.migrate = migrate),
        show: |settings| settings.migrate.to_string(),
    },
];

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
        for Setting {
            key, allowed, read, ..
        } in SETTINGS
        {
            let value = lookup(key).unwrap_or_default().trim().to_owned();
            if !value.is_empty() && read(&mut settings, &value).is_none() {
                return Err(SettingError { key, allowed });
            }
        }
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

    /// A line for each setting: what it is for, what it takes, and its value here.
    pub(crate) fn help(&self) -> String {
        let lines = SETTINGS.iter().map(|setting| {
            let Setting {
                key,
                meaning,
                allowed,
                ..
            } = setting;
            let value = (setting.show)(self);
            format!("  {key:<16}  {meaning}: {allowed} ({value})\n")
        });
        lines.collect()
    }
}

impl Environment {
    fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
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
        let defaults = Settings::defaults(4004);
        for empty in [None, Some(" ".to_owned())] {
            assert_eq!(Settings::read(4004, |_| empty.clone()).unwrap(), defaults);
        }
        assert_eq!(defaults.address().to_string(), "127.0.0.1:4004");
    }

    #[test]
    fn each_setting_is_read() {
        let address = read("HOST", "::").unwrap().address();
        assert_eq!(address.to_string(), "[::]:4004");
        assert_eq!(read("PORT", "80").unwrap().port, 80);
        let environment = read("APP_ENV", "production").unwrap().environment;
        assert_eq!(environment, Environment::Production);
        let log = read("RUST_LOG", "warn,db=debug").unwrap().log;
        assert_eq!(log, "warn,db=debug");
        let timeout = read("SHUTDOWN_TIMEOUT", "0").unwrap().shutdown_timeout;
        assert_eq!(timeout, Duration::ZERO);
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

    #[test]
    fn help_has_each_setting_and_its_default() {
        let help = Settings::defaults(4004).help();
        let defaults = [
            "127.0.0.1",
            "4004",
            "development",
            "info,sqlx=warn",
            "10",
            "true",
        ];
        for (setting, default) in SETTINGS.iter().zip(defaults) {
            let mut lines = help.lines();
            let line = lines.find(|line| line.trim_start().starts_with(setting.key));
            assert!(line.unwrap().ends_with(&format!("({default})")), "{line:?}");
        }
    }
}
