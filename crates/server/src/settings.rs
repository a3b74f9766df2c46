//! What the environment sets: typed, with defaults, and an error that names the setting that cannot be read.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::http::Uri;
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
    /// `SHUTDOWN_DELAY`: how long the service serves on after SIGTERM, with `/readyz` 503. `None`: as [`Environment`] says.
    pub shutdown_delay: Option<Duration>,
    /// `SHUTDOWN_TIMEOUT`: how long running requests have after that.
    pub shutdown_timeout: Duration,
    /// `MIGRATE`: whether migrations run at start.
    pub migrate: bool,
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

/// A setting of whole seconds, from so many to an hour.
macro_rules! seconds {
    ($key:literal, $meaning:literal, $least:literal, $($field:ident).+) => {
        Setting {
            key: $key,
            meaning: $meaning,
            allowed: concat!("a whole number, ", $least, " to 3600"),
            read: |settings, text| read_seconds(text, $least).map(|time| settings.$($field).+ = time),
            show: |settings| settings.$($field).+.as_secs().to_string(),
        }
    };
}

const SETTINGS: [Setting; 16] = [
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
        key: "SHUTDOWN_DELAY",
        meaning: "seconds to serve on after SIGTERM, not ready",
        allowed: "a whole number, 0 to 3600",
        read: |settings, text| {
            read_seconds(text, 0).map(|time| settings.shutdown_delay = Some(time))
        },
        show: |settings| {
            let delay = settings
                .shutdown_delay
                .map(|delay| delay.as_secs().to_string());
            delay.unwrap_or_else(|| "0; in production 5".to_owned())
        },
    },
    seconds!(
        "SHUTDOWN_TIMEOUT",
        "seconds that running requests have after that",
        0,
        shutdown_timeout
    ),
    Setting {
        key: "MIGRATE",
        meaning: "whether serve runs the migrations",
        allowed: "true, false",
        read: |settings, text| text.parse().ok().map(|migrate| settings.migrate = migrate),
        show: |settings| settings.migrate.to_string(),
    },
    Setting {
        key: "LOG_QUERIES",
        meaning: "whether each statement is logged, without its arguments",
        allowed: "true, false",
        read: |settings, text| text.parse().ok().map(|log| settings.log_queries = log),
        show: |settings| settings.log_queries.to_string(),
    },
    Setting {
        key: "SERVER_TIMING",
        meaning: "whether answers say how long they took, and for what",
        allowed: "true, false",
        read: |settings, text| {
            text.parse()
                .ok()
                .map(|show| settings.server_timing = Some(show))
        },
        show: |settings| {
            let set = settings.server_timing.map(|show| show.to_string());
            set.unwrap_or_else(|| "true; in production false".to_owned())
        },
    },
    Setting {
        key: "POOL_PAGE",
        meaning: "whether the live page /pool is served",
        allowed: "true, false",
        read: |settings, text| text.parse().ok().map(|page| settings.pool_page = page),
        show: |settings| settings.pool_page.to_string(),
    },
    Setting {
        key: "OTEL_EXPORTER_OTLP_ENDPOINT",
        meaning: "where traces go, in a build with the feature otel",
        allowed: "http:// or https://, host and port, such as http://localhost:4318",
        read: |settings, text| {
            let uri = text.parse::<Uri>().ok()?;
            let known =
                uri.authority().is_some() && matches!(uri.scheme_str(), Some("http" | "https"));
            known.then(|| settings.traces = true)
        },
        show: |_| "nowhere".to_owned(),
    },
    seconds!(
        "REQUEST_TIMEOUT",
        "seconds a request may take",
        1,
        limits.request_timeout
    ),
    seconds!(
        "HEADER_TIMEOUT",
        "seconds the head of a request may take to come",
        1,
        limits.header_timeout
    ),
    seconds!(
        "BODY_TIMEOUT",
        "seconds its body may take to come, and a client to read on",
        1,
        limits.body_timeout
    ),
    seconds!(
        "KEEP_ALIVE_TIMEOUT",
        "seconds a connection may wait for its next request",
        1,
        limits.keep_alive_timeout
    ),
    Setting {
        key: "MAX_CONNECTIONS",
        meaning: "connections at a time, fewer if the limit of open files is lower",
        allowed: "a whole number, 1 to 1000000",
        read: |settings, text| {
            let number = text.parse().ok().filter(|n| (1..=1_000_000).contains(n))?;
            settings.limits.max_connections = number;
            Some(())
        },
        show: |settings| settings.limits.max_connections.to_string(),
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
            shutdown_delay: None,
            shutdown_timeout: Duration::from_secs(10),
            migrate: true,
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

    /// How long the service serves on after the signal: in production for 5 s unless it is set, so that balancers
    /// learn that it goes.
    pub(crate) fn shutdown_delay(&self) -> Duration {
        let default = match self.environment {
            Environment::Development => Duration::ZERO,
            Environment::Production => Duration::from_secs(5),
        };
        self.shutdown_delay.unwrap_or(default)
    }

    /// Whether answers carry `Server-Timing`: in development unless it is set.
    pub(crate) fn server_timing(&self) -> bool {
        let default = self.environment == Environment::Development;
        self.server_timing.unwrap_or(default)
    }

    /// What is logged: `RUST_LOG`, and each statement if that is asked for.
    pub(crate) fn filter(&self) -> String {
        match self.log_queries {
            true => format!("{},db::query=debug", self.log),
            false => self.log.clone(),
        }
    }

    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    /// What is wrong with the order of the durations: each has to leave time for those inside it. One line each.
    pub(crate) fn disorder(&self, pool: &db::Config) -> Vec<String> {
        let nested = [
            ("lock_timeout", pool.lock_timeout),
            ("statement_timeout", pool.statement_timeout),
            ("socket_timeout", pool.socket_timeout),
            ("REQUEST_TIMEOUT", Some(self.limits.request_timeout)),
            ("SHUTDOWN_TIMEOUT", Some(self.shutdown_timeout)),
        ];
        // 0 is no limit, which leaves the others as they are.
        let set: Vec<_> = nested
            .into_iter()
            .filter_map(|(key, time)| time.map(|time| (key, time)))
            .collect();
        let wrong = set.windows(2).filter(|pair| pair[0].1 >= pair[1].1);
        let lines = wrong.map(|pair| {
            let [(inner, short), (outer, long)] = [pair[0], pair[1]];
            format!("{outer} ({long:?}) should be longer than {inner} ({short:?}), which then ends first and says why")
        });
        lines.collect()
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
            format!("  {key:<18}  {meaning}: {allowed} ({value})\n")
        });
        lines.collect()
    }
}

/// Whole seconds, `least` to 3600.
fn read_seconds(text: &str, least: u64) -> Option<Duration> {
    let seconds = text.parse().ok();
    let seconds = seconds.filter(|seconds| (least..=3600).contains(seconds))?;
    Some(Duration::from_secs(seconds))
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
mod tests;
