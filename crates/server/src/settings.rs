//! What the environment sets: typed, with defaults, and an error that names the setting that cannot be read.

mod table;
mod values;

use std::net::SocketAddr;
use std::time::Duration;

use table::{SETTINGS, Setting};

pub(crate) use table::Command;
pub use values::{Environment, Limits, Settings};

/// A setting that cannot be read: its name and what is allowed. Of the value nothing is shown, for somebody may have put a
/// secret there, except for `HOST`, which other programs set too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} cannot be read; allowed: {allowed}{shown}")]
pub struct SettingError {
    key: &'static str,
    allowed: &'static str,
    shown: String,
}

impl SettingError {
    /// The name of the setting.
    pub(crate) fn key(&self) -> &'static str {
        self.key
    }
}

impl Settings {
    /// Reads the settings. An empty value counts as unset, as Compose files like to pass them.
    ///
    /// # Errors
    /// If a value cannot be read.
    pub fn read(
        default_port: u16,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingError> {
        Self::read_for(Command::Serve, default_port, lookup)
    }

    /// Reads the settings that this subcommand uses. The others are not looked at: what is wrong with them stops nobody.
    pub(crate) fn read_for(
        command: Command,
        default_port: u16,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingError> {
        let mut settings = Self::defaults(default_port);
        for setting in SETTINGS.iter().filter(|one| one.is_used_by(command)) {
            let Setting {
                key, allowed, read, ..
            } = *setting;
            let value = lookup(key).unwrap_or_default().trim().to_owned();
            if !value.is_empty() && read(&mut settings, &value).is_none() {
                let shown = setting.shown(&value);
                return Err(SettingError {
                    key,
                    allowed,
                    shown,
                });
            }
        }
        Ok(settings)
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

#[cfg(test)]
mod tests;
