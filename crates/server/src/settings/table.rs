//! Every setting: its key, its meaning, who uses it, and how it is read and shown.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::time::Duration;

use axum::http::Uri;
use tracing_subscriber::EnvFilter;

use crate::settings::values::{Environment, Settings};
use Command::{Doctor, Healthcheck, Migrate};

/// A subcommand that reads settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Serve,
    Migrate,
    Healthcheck,
    Doctor,
}

/// One setting.
pub(super) struct Setting {
    pub(super) key: &'static str,
    pub(super) meaning: &'static str,
    pub(super) allowed: &'static str,
    /// Which subcommands use it beside `serve`, which uses all.
    also: &'static [Command],
    pub(super) read: fn(&mut Settings, &str) -> Option<()>,
    pub(super) show: fn(&Settings) -> String,
}

impl Setting {
    pub(super) fn is_used_by(&self, command: Command) -> bool {
        command == Command::Serve || self.also.contains(&command)
    }

    /// What an error says of a value that cannot be read. Only that of `HOST` is certain to be no secret.
    pub(super) fn shown(&self, value: &str) -> String {
        match self.key {
            "HOST" => format!("; it is {value:?}"),
            _ => String::new(),
        }
    }
}

/// A setting of whole seconds, from so many to an hour.
macro_rules! seconds {
    ($key:literal, $meaning:literal, $least:literal, $also:expr, $($field:ident).+) => {
        Setting {
            key: $key,
            meaning: $meaning,
            allowed: concat!("a whole number, ", $least, " to 3600"),
            also: $also,
            read: |settings, text| read_seconds(text, $least).map(|time| settings.$($field).+ = time),
            show: |settings| settings.$($field).+.as_secs().to_string(),
        }
    };
}

pub(super) const SETTINGS: [Setting; 16] = [
    Setting {
        key: "HOST",
        meaning: "address to listen on",
        allowed: "an IPv4 or IPv6 address, such as 127.0.0.1 or 0.0.0.0, or localhost",
        also: &[Healthcheck],
        read: |settings, text| read_host(text).map(|host| settings.host = host),
        show: |settings| settings.host.to_string(),
    },
    Setting {
        key: "PORT",
        meaning: "port to listen on",
        allowed: "a whole number, 0 to 65535",
        also: &[Healthcheck, Doctor],
        read: |settings, text| text.parse().ok().map(|port| settings.port = port),
        show: |settings| settings.port.to_string(),
    },
    Setting {
        key: "APP_ENV",
        meaning: "whether logs are for people or JSON",
        allowed: "development, production",
        also: &[Migrate, Doctor],
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
        also: &[Migrate],
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
        also: &[],
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
        &[Doctor],
        shutdown_timeout
    ),
    Setting {
        key: "MIGRATE",
        meaning: "whether serve runs the migrations",
        allowed: "true, false, any (also a database called postgres or template1)",
        also: &[Migrate],
        read: |settings, text| {
            settings.migrate_any = text == "any";
            settings.migrate = settings.migrate_any || text.parse().ok()?;
            Some(())
        },
        show: |settings| settings.migrate.to_string(),
    },
    Setting {
        key: "LOG_QUERIES",
        meaning: "whether each statement is logged, without its arguments",
        allowed: "true, false",
        also: &[Migrate],
        read: |settings, text| text.parse().ok().map(|log| settings.log_queries = log),
        show: |settings| settings.log_queries.to_string(),
    },
    Setting {
        key: "SERVER_TIMING",
        meaning: "whether answers say how long they took, and for what",
        allowed: "true, false",
        also: &[],
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
        also: &[],
        read: |settings, text| text.parse().ok().map(|page| settings.pool_page = page),
        show: |settings| settings.pool_page.to_string(),
    },
    Setting {
        key: "OTEL_EXPORTER_OTLP_ENDPOINT",
        meaning: "where traces go, in a build with the feature otel",
        allowed: "http:// or https://, host and port, such as http://localhost:4318",
        also: &[Migrate],
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
        &[Doctor],
        limits.request_timeout
    ),
    seconds!(
        "HEADER_TIMEOUT",
        "seconds the head of a request may take to come",
        1,
        &[],
        limits.header_timeout
    ),
    seconds!(
        "BODY_TIMEOUT",
        "seconds its body may take to come, and a client to read on",
        1,
        &[],
        limits.body_timeout
    ),
    seconds!(
        "KEEP_ALIVE_TIMEOUT",
        "seconds a connection may wait for its next request",
        1,
        &[],
        limits.keep_alive_timeout
    ),
    Setting {
        key: "MAX_CONNECTIONS",
        meaning: "connections at a time, fewer if the limit of open files is lower",
        allowed: "a whole number, 1 to 1000000",
        also: &[],
        read: |settings, text| {
            let number = text.parse().ok().filter(|n| (1..=1_000_000).contains(n))?;
            settings.limits.max_connections = number;
            Some(())
        },
        show: |settings| settings.limits.max_connections.to_string(),
    },
];

/// An address, in brackets too, as URLs have it; or `localhost`: the first of its addresses that this machine has.
fn read_host(text: &str) -> Option<IpAddr> {
    if text.eq_ignore_ascii_case("localhost") {
        let both = [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv6Addr::LOCALHOST.into(),
        ];
        return both
            .into_iter()
            .find(|host| TcpListener::bind((*host, 0)).is_ok());
    }
    let inside = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    match inside {
        Some(inside) => inside.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => text.parse().ok(),
    }
}

/// Whole seconds, `least` to 3600.
fn read_seconds(text: &str, least: u64) -> Option<Duration> {
    let seconds = text.parse().ok();
    let seconds = seconds.filter(|seconds| (least..=3600).contains(seconds))?;
    Some(Duration::from_secs(seconds))
}
