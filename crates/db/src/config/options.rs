//! `options`: the settings of each session, as PostgreSQL reads them from its command line.

use std::collections::BTreeMap;

use crate::config::error::ConfigError;

/// Settings of a session that the driver sets itself, each with what to do.
const OF_THE_DRIVER: [(&str, &str); 3] = [
    (
        "timezone",
        "without TimeZone: sessions have UTC, which the driver sets; convert in SQL (`at time zone`), or set it in `Config::after_connect`",
    ),
    (
        "datestyle",
        "without DateStyle: the driver sets it; format in SQL (`to_char`), or set it in `Config::after_connect`",
    ),
    (
        "client_encoding",
        "without client_encoding: the driver reads UTF8 only",
    ),
];

/// The settings in their order, names as PostgreSQL compares them: in small letters, with `_` for `-`. The last of two wins.
pub(crate) fn read(text: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut words = split(text).into_iter();
    let mut settings = BTreeMap::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--") {
            Some(setting) => setting.to_owned(),
            None if word == "-c" => words.next().ok_or_else(|| bad(&word))?,
            None => match word.strip_prefix("-c") {
                Some(setting) => setting.to_owned(),
                None => return Err(bad(&word)),
            },
        };
        let (name, value) = setting.split_once('=').ok_or_else(|| bad(&word))?;
        let name = name.to_ascii_lowercase().replace('-', "_");
        // What the driver sets anyway.
        let same = matches!(
            (&*name, value),
            ("timezone", "UTC") | ("datestyle", "ISO") | ("client_encoding", "UTF8")
        );
        if same {
            continue;
        }
        if let Some((_, expected)) = OF_THE_DRIVER.iter().find(|(known, _)| *known == name) {
            return Err(ConfigError::value("options", expected));
        }
        settings.insert(name, value.to_owned());
    }
    Ok(settings)
}

/// What Neon's documents advise for drivers that do not name the server is no setting.
fn bad(word: &str) -> ConfigError {
    let name = word.split_once('=').map(|(name, _)| name);
    match name {
        Some("endpoint" | "project") => ConfigError::value(
            "options",
            "without `endpoint=…` and `project=…`: remove it, because the driver names the server when TLS begins (SNI), \
             which is what Neon needs",
        ),
        _ => ConfigError::value(
            "options",
            "settings like `-c name=value` or `--name=value`, a blank in a value escaped as `\\ `",
        ),
    }
}

/// Words between blanks; a backslash keeps the next character as it is.
fn split(text: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            letter if letter.is_ascii_whitespace() => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(letters.next()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// A duration as PostgreSQL writes it, in milliseconds as its time-outs count, as a parameter of the URL writes it. One that
/// it would not take is left as it is.
pub(crate) fn duration(text: &str) -> String {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = match text[digits.len()..].trim() {
        "us" => 0.001,
        "" | "ms" => 1.0,
        "s" => 1000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return text.to_owned(),
    };
    match digits.parse::<f64>() {
        Ok(number) if number >= 0.0 => format!("{:.0}ms", number * unit),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_postgresql_reads_them() {
        for (text, settings) in [
            ("", &[][..]),
            ("-c a=1", &[("a", "1")]),
            ("-ca=1 --b-c=2", &[("a", "1"), ("b_c", "2")]),
            ("  -c   A.B=x=y  ", &[("a.b", "x=y")]),
            (
                r"-c search_path=shop,\ public",
                &[("search_path", "shop, public")],
            ),
            (r"-c a=c:\\d\ e", &[("a", r"c:\d e")]),
            ("-c a=1 -c a=2", &[("a", "2")]),
        ] {
            let read = read(text).expect(text);
            let read: Vec<_> = read
                .iter()
                .map(|(name, value)| (&**name, &**value))
                .collect();
            assert_eq!(read, settings, "{text}");
        }
        for text in [
            "-c",
            "a=1",
            "-c a",
            "-d 1",
            "endpoint=x",
            "-c timezone=CET",
            "--DATESTYLE=x",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_postgresql_reads_them() {
        for (text, ms) in [
            ("60000", "60000ms"),
            ("60s", "60000ms"),
            ("1.5 s", "1500ms"),
            ("1h", "3600000ms"),
            ("100us", "0ms"),
            ("soon", "soon"),
            ("-1", "-1"),
        ] {
            assert_eq!(duration(text), ms, "{text}");
        }
    }
}
