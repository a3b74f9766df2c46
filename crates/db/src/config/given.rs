//! The parameters that were given, by the URL or by libpq's variables. No error repeats a value.

use std::collections::BTreeMap;

use crate::config::error::ConfigError;
use crate::config::options;
use crate::config::parameters::PARAMETERS;
use crate::config::variables::VARIABLES;
use crate::config::words::{Word, nearest, word};

/// These are shown as they were given; of the others that are no number it is only shown that they are set.
const SHOWN: [&str; 6] = [
    "statement_cache_size",
    "schema",
    "application_name",
    "sslmode",
    "sslaccept",
    "host",
];

/// Settings of a session that have a parameter of their own, each with whether it is a duration.
const OF_SESSIONS: [(&str, bool); 5] = [
    ("statement_timeout", true),
    ("lock_timeout", true),
    ("idle_in_transaction_session_timeout", true),
    ("application_name", false),
    ("extra_float_digits", false),
];

/// A parameter that was given, for people to look at.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) key: &'static str,
    /// Its value, or that it is set.
    pub(crate) text: String,
    /// `URL` or `environment`.
    pub(crate) from: &'static str,
}

pub(crate) fn given_in(given: &[Given], key: &str) -> bool {
    given.iter().any(|one| one.key == key)
}

/// The parameters of one URL.
#[derive(Default)]
pub(crate) struct Parameters {
    pub(super) values: BTreeMap<String, String>,
    /// What `options` sets and has no parameter of its own.
    pub(crate) session: BTreeMap<String, String>,
    /// Taken, though they change nothing here.
    pub(crate) needless: Vec<String>,
}

impl Parameters {
    /// Those of the URL.
    pub(crate) fn of(query: Vec<(String, String)>) -> Result<Self, ConfigError> {
        let mut given = Self::default();
        for (key, value) in query {
            if given.values.contains_key(&key) {
                return Err(ConfigError::value(&key, "given once"));
            }
            if !value.is_empty() || !matches!(&*key, "user" | "password" | "dbname") {
                given
                    .take(key, value)
                    .map_err(|error| given.hidden(error))?;
            }
        }
        given.read_ssl()?;
        let options = given.text("options").unwrap_or_default();
        for (name, value) in options::read(&options)? {
            if !given.set(&name, value) {
                let (key, name) = match name.as_str() {
                    "search_path" => ("schema", "search_path"),
                    name => (name, name),
                };
                let expected = format!("given once: `options` sets {name} too");
                return Err(ConfigError::value(key, &expected));
            }
        }
        Ok(given)
    }

    /// Adds what the URL leaves out and the environment has, as libpq does; where it names a host, nothing of where the server
    /// is. An empty variable is not there. Gives the parameters that were added, each with its variable.
    pub(crate) fn complete(
        &mut self,
        at_host: bool,
        at_port: bool,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Vec<(String, &'static str)>, ConfigError> {
        let raw = variable;
        let variable = |name: &str| raw(name).filter(|value| !value.is_empty());
        // These two are a pair there, where Prisma gives the first alone another meaning.
        let own_pair = self.has("sslcert") || self.has("sslkey");
        let located = at_host || self.has("host");
        let of_url = |key| match key {
            "host" | "hostaddr" => located,
            "port" => located || at_port,
            _ => false,
        };
        // The driver reads these two by itself, and an empty one as the name of a file.
        for name in ["PGSSLCERT", "PGSSLKEY"] {
            if raw(name).is_some_and(|value| value.is_empty()) {
                let error = ConfigError::value("sslcert", "the name of a file, or not set at all");
                return Err(error.of_variable(name));
            }
        }
        if own_pair
            && !self.has("sslkey")
            && (variable("PGSSLCERT").is_some() || variable("PGSSLKEY").is_some())
        {
            let error = ConfigError::refused(
                "sslcert",
                "unset it: the driver would send it beside the URL's sslcert",
            );
            return Err(error.of_variable("PGSSLCERT"));
        }
        let mut taken = Vec::new();
        for &(name, key) in VARIABLES {
            let value = variable(name).filter(|_| !self.has(key) && !of_url(key));
            let Some(value) = value else { continue };
            let of_variable = |error: ConfigError| error.of_variable(name);
            if key == "sslcert" && variable("PGSSLKEY").is_none() {
                return Err(of_variable(ConfigError::value(
                    key,
                    "set together with PGSSLKEY",
                )));
            }
            if key != "options" {
                self.take(key.to_owned(), value).map_err(of_variable)?;
                taken.push((key.to_owned(), name));
                continue;
            }
            taken.push((key.to_owned(), name));
            for (setting, value) in options::read(&value).map_err(of_variable)? {
                // The URL's wins, setting by setting: the driver sends both.
                if self.set(&setting, value) {
                    taken.push((setting, name));
                }
            }
        }
        Ok(taken)
    }

    /// `ssl=true` is an alias of libpq's for `sslmode=require`; `no-verify` is node-postgres' word for what libpq calls that.
    fn read_ssl(&mut self) -> Result<(), ConfigError> {
        let mode = self.values.get("sslmode").cloned();
        if mode.as_deref() == Some("no-verify") {
            return Err(ConfigError::value(
                "sslmode",
                "`require` in the place of `no-verify`: it encrypts and checks nothing; `verify-full` checks the server",
            ));
        }
        let Some(ssl) = self.text("ssl") else {
            return Ok(());
        };
        match (ssl.as_str(), mode.as_deref()) {
            ("true", None) => drop(
                self.values
                    .insert("sslmode".to_owned(), "require".to_owned()),
            ),
            ("true", Some("require" | "verify-ca" | "verify-full")) => {}
            ("true", Some(_)) => {
                return Err(ConfigError::value(
                    "sslmode",
                    "require, verify-ca or verify-full beside `ssl=true`, or without that",
                ));
            }
            _ => {
                return Err(ConfigError::value(
                    "ssl",
                    "true, which means sslmode=require; sslmode says it better",
                ));
            }
        }
        Ok(())
    }

    /// How many digits floating-point numbers have as text, which `options` may say.
    pub(crate) fn digits(&mut self) -> Result<Option<i8>, ConfigError> {
        let Some(text) = self.text("extra_float_digits") else {
            return Ok(None);
        };
        let digits = text
            .parse()
            .ok()
            .filter(|digits| (-15..=3).contains(digits));
        let bad = || {
            ConfigError::value(
                "options",
                "with a whole number from -15 to 3 for extra_float_digits",
            )
        };
        digits.map(Some).ok_or_else(bad)
    }

    /// The same without a name that may be the rest of a password.
    fn hidden(&self, error: ConfigError) -> ConfigError {
        match error {
            ConfigError::UnknownKey { .. } if self.has("password") => ConfigError::url(
                "it has an unknown parameter behind `password`; write a `&` that is part of the password as %26",
            ),
            error => error,
        }
    }

    /// Keeps a parameter that has a meaning here.
    fn take(&mut self, key: String, value: String) -> Result<(), ConfigError> {
        let ours = PARAMETERS.iter().any(|(name, ..)| *name == key);
        match (ours, word(&key)) {
            (true, _) | (false, Some(Word::Part)) => drop(self.values.insert(key, value)),
            (false, Some(Word::Needless(values, _)))
                if values.is_empty() || values.contains(&&*value) =>
            {
                self.needless.push(key);
            }
            (false, Some(Word::Needless(values, instead))) if !instead.starts_with(['r', 'w']) => {
                let expected = format!("{}: {instead}", values[0]);
                return Err(ConfigError::value(&key, &expected));
            }
            (false, Some(Word::Needless(_, instead) | Word::Refused(instead))) => {
                return Err(ConfigError::refused(&key, instead));
            }
            (false, Some(Word::Write(name))) => {
                return Err(ConfigError::refused(
                    &key,
                    &format!("write `{name}`{}", unit(name)),
                ));
            }
            (false, None) => {
                return Err(ConfigError::UnknownKey {
                    nearest: nearest(&key).map(str::to_owned),
                    key: key.chars().take(64).collect(),
                });
            }
        }
        Ok(())
    }

    /// Keeps what `options` sets, if that is not set yet. Says whether it was not.
    fn set(&mut self, name: &str, value: String) -> bool {
        let own = OF_SESSIONS.iter().find(|(known, _)| *known == name);
        let (settings, value) = match own {
            Some((_, true)) => (&mut self.values, options::duration(&value)),
            Some((_, false)) => (&mut self.values, value),
            None if name == "search_path" && self.has("schema") => return false,
            None => (&mut self.session, value),
        };
        if settings.contains_key(name) {
            return false;
        }
        settings.insert(name.to_owned(), value);
        true
    }

    /// Adds a piece of the URL, where no parameter says otherwise.
    pub(crate) fn piece(&mut self, key: &str, value: Option<String>) {
        if let Some(value) = value {
            self.values.entry(key.to_owned()).or_insert(value);
        }
    }

    pub(crate) fn is_set(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|value| !value.is_empty())
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// The parameters as they were given, without what may be a secret.
    pub(crate) fn shown(&self, from: &'static str) -> Vec<Given> {
        let ours = PARAMETERS.iter().map(|(key, ..)| *key);
        let given = ours.filter_map(|key| {
            let text = match (self.values.get(key), key) {
                (Some(value), key) if SHOWN.contains(&key) => value.clone(),
                (Some(_), _) => "set".to_owned(),
                (None, "options") if !self.session.is_empty() => "set".to_owned(),
                (None, _) => return None,
            };
            Some(Given { key, text, from })
        });
        given.collect()
    }

    /// Whatever was not read is a parameter listed as known but not handled: a mistake of this crate, not the user's.
    pub(crate) fn finish(self) -> Result<(), ConfigError> {
        match self.values.into_keys().next() {
            None => Ok(()),
            Some(key) => Err(ConfigError::UnknownKey { key, nearest: None }),
        }
    }
}

/// How a duration of ours is written, for those who come with another unit.
fn unit(name: &str) -> &'static str {
    match name {
        name if name.ends_with("_timeout")
            || name.ends_with("_lifetime")
            || name.ends_with("_threshold") =>
        {
            ", in seconds or with a unit: `500ms`, `2s`, `1min`"
        }
        _ => "",
    }
}
