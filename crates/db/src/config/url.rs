//! How the URL's parameters are read, and rejected without repeating their values.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use ::url::Url;

use crate::config::parameters::{ConfigError, PARAMETERS, TOLERATED};

/// These are shown as they were given; of the others that are no number it is only shown that they are set.
const SHOWN: [&str; 6] = [
    "statement_cache_size",
    "schema",
    "application_name",
    "sslmode",
    "sslaccept",
    "host",
];

/// Rejects what would be read as a URL, but not the one that was meant: a part of the password would become the host,
/// the database or a parameter, and be printed as such.
pub(crate) fn check_text(url: &str) -> Result<(), ConfigError> {
    if url.starts_with(['"', '\'']) || url.ends_with(['"', '\'']) {
        return Err(ConfigError::url("it is in quotes: remove them"));
    }
    let after_scheme = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = after_scheme.split(['/', '?']).next().unwrap_or_default();
    let expected = authority.matches('@').count().min(1);
    if url.contains('#') || url.matches('@').count() > expected {
        return Err(ConfigError::url(
            "it has a `#`, or an `@` that is not the one before the host; \
             percent-encode the user, the password and each value: `@` is %40, `#` %23, `/` %2F, `?` %3F",
        ));
    }
    Ok(())
}

/// The parameters of one URL, each taken out as it is read.
pub(crate) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    pub(crate) fn of(url: &Url) -> Result<Self, ConfigError> {
        let mut given = BTreeMap::new();
        for (key, value) in url.query_pairs() {
            let known = PARAMETERS
                .iter()
                .map(|(name, ..)| *name)
                .chain(TOLERATED.iter().copied());
            if !known.clone().any(|name| name == key) {
                return Err(unknown(&key, known));
            }
            if value.contains('\0') {
                return Err(ConfigError::Value {
                    key: key.into(),
                    expected: "without a NUL character".into(),
                });
            }
            if given.insert(key.to_string(), value.into_owned()).is_some() {
                return Err(ConfigError::Value {
                    key: key.into(),
                    expected: "given once".into(),
                });
            }
        }
        Ok(Self(given))
    }

    /// The parameters as they were given, without what may be a secret.
    pub(crate) fn shown(&self) -> Vec<(String, String)> {
        let shown = |(key, value): (&String, &String)| {
            let text = match SHOWN.contains(&key.as_str()) {
                true => value.clone(),
                false => "set".to_owned(),
            };
            (key.clone(), text)
        };
        self.0.iter().map(shown).collect()
    }

    /// Whatever was not read is a parameter listed as known but not handled: a mistake of this crate, not the user's.
    pub(crate) fn finish(self) -> Result<(), ConfigError> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(key) => Err(ConfigError::UnknownKey { key, nearest: None }),
        }
    }

    pub(crate) fn text(&mut self, key: &str) -> Option<String> {
        self.0.remove(key).filter(|value| !value.is_empty())
    }

    pub(crate) fn number(
        &mut self,
        key: &str,
        range: RangeInclusive<u32>,
        field: &mut u32,
    ) -> Result<(), ConfigError> {
        let Some(value) = self.0.remove(key) else {
            return Ok(());
        };
        match value.parse().ok().filter(|number| range.contains(number)) {
            Some(number) => *field = number,
            None => {
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                return Err(ConfigError::Value {
                    key: key.into(),
                    expected,
                });
            }
        }
        Ok(())
    }

    /// The same, or the word `auto`: whether it is that.
    pub(crate) fn number_or_auto(
        &mut self,
        key: &str,
        range: RangeInclusive<u32>,
        field: &mut u32,
    ) -> Result<bool, ConfigError> {
        if self.0.get(key).is_some_and(|value| value == "auto") {
            self.0.remove(key);
            return Ok(true);
        }
        let number = self.number(key, range, field);
        number.map(|()| false).map_err(|error| match error {
            ConfigError::Value { key, expected } => ConfigError::Value {
                key,
                expected: format!("{expected}, or auto"),
            },
            other => other,
        })
    }

    pub(crate) fn boolean(&mut self, key: &str, field: &mut bool) -> Result<(), ConfigError> {
        if let Some(index) = self.choice(key, &["true", "false"])? {
            *field = index == 0;
        }
        Ok(())
    }

    /// The index of the given value among those allowed.
    pub(crate) fn choice(
        &mut self,
        key: &str,
        allowed: &[&str],
    ) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.0.remove(key) else {
            return Ok(None);
        };
        match allowed.iter().position(|name| *name == value) {
            Some(index) => Ok(Some(index)),
            None => Err(ConfigError::Value {
                key: key.into(),
                expected: allowed.join(" or "),
            }),
        }
    }

    /// An error that says what to do instead, if the parameter is given.
    pub(crate) fn reject(&mut self, key: &str, instead: &str) -> Result<(), ConfigError> {
        match self.0.remove(key) {
            None => Ok(()),
            Some(_) => Err(ConfigError::Value {
                key: key.into(),
                expected: format!("absent: {instead}"),
            }),
        }
    }

    /// A bare number counts `unit`s, `0` means no limit, and `500ms`, `2s`, `1min` say their unit.
    pub(crate) fn duration(
        &mut self,
        key: &str,
        unit: Duration,
        field: &mut Option<Duration>,
    ) -> Result<(), ConfigError> {
        let Some(value) = self.0.remove(key) else {
            return Ok(());
        };
        let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &value[digits.len()..] {
            "" => Some(unit),
            "ms" => Some(Duration::from_millis(1)),
            "s" => Some(Duration::from_secs(1)),
            "min" => Some(Duration::from_secs(60)),
            _ => None,
        };
        // A day is longer than any of these should be, and short enough for PostgreSQL and for the clock.
        let length = unit
            .zip(digits.parse::<u32>().ok())
            .and_then(|(unit, n)| unit.checked_mul(n));
        match length.filter(|length| *length <= Duration::from_secs(86_400 * 20)) {
            Some(length) => *field = Some(length).filter(|length| !length.is_zero()),
            None => {
                let expected = "a whole number, alone or with a unit (`500ms`, `2s`, `1min`), at most 20 days; 0 for no limit";
                return Err(ConfigError::Value {
                    key: key.into(),
                    expected: expected.into(),
                });
            }
        }
        Ok(())
    }

    /// `-c name=value` or `--name=value`, as PostgreSQL reads `options`.
    pub(crate) fn session_options(&mut self) -> Result<Vec<(String, String)>, ConfigError> {
        let Some(text) = self.text("options") else {
            return Ok(Vec::new());
        };
        let bad = || ConfigError::Value {
            key: "options".into(),
            expected: "settings like `-c name=value`".into(),
        };
        let mut words = text.split_ascii_whitespace();
        let mut settings = Vec::new();
        while let Some(word) = words.next() {
            let setting = match word
                .strip_prefix("--")
                .or_else(|| word.strip_prefix("-c").filter(|rest| !rest.is_empty()))
            {
                Some(setting) => setting,
                None if word == "-c" => words.next().ok_or_else(bad)?,
                None => return Err(bad()),
            };
            let (name, value) = setting.split_once('=').ok_or_else(bad)?;
            settings.push((name.to_owned(), value.to_owned()));
        }
        Ok(settings)
    }
}

fn unknown<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> ConfigError {
    let nearest = known
        .map(|name| (strsim::jaro_winkler(key, name), name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness > 0.8)
        .map(|(_, name)| name.to_owned());
    ConfigError::UnknownKey {
        key: key.chars().take(64).collect(),
        nearest,
    }
}

/// `None` when the bytes are not UTF-8 or hold a NUL, which PostgreSQL's protocol cannot carry.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let bytes = percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .ok()?;
    (!bytes.contains('\0')).then(|| bytes.into_owned())
}
