//! The values of parameters by their kinds, each taken out as it is read. No error repeats one.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::error::ConfigError;
use crate::config::given::Parameters;

impl Parameters {
    pub(crate) fn text(&mut self, key: &str) -> Option<String> {
        self.values.remove(key).filter(|value| !value.is_empty())
    }

    pub(crate) fn number(
        &mut self,
        key: &str,
        range: RangeInclusive<u32>,
        field: &mut u32,
    ) -> Result<(), ConfigError> {
        let Some(value) = self.values.remove(key) else {
            return Ok(());
        };
        match value.parse().ok().filter(|number| range.contains(number)) {
            Some(number) => *field = number,
            None => {
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                return Err(ConfigError::value(key, &expected));
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
        if self.values.get(key).is_some_and(|value| value == "auto") {
            self.values.remove(key);
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
        let Some(value) = self.values.remove(key) else {
            return Ok(None);
        };
        match allowed.iter().position(|name| *name == value) {
            Some(index) => Ok(Some(index)),
            None => Err(ConfigError::value(key, &allowed.join(" or "))),
        }
    }

    /// An error that says what to do instead, if the parameter is given.
    pub(crate) fn reject(&mut self, key: &str, instead: &str) -> Result<(), ConfigError> {
        match self.values.remove(key) {
            None => Ok(()),
            Some(_) => Err(ConfigError::refused(key, instead)),
        }
    }

    /// A bare number counts `unit`s, `0` means no limit, and `500ms`, `2s`, `1min` say their unit.
    pub(crate) fn duration(
        &mut self,
        key: &str,
        unit: Duration,
        field: &mut Option<Duration>,
    ) -> Result<(), ConfigError> {
        let Some(value) = self.values.remove(key) else {
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
                return Err(ConfigError::value(key, expected));
            }
        }
        Ok(())
    }
}
