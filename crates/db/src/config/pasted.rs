//! What people paste in the place of the URL, and the word for each.

use crate::config::error::ConfigError;

/// What stands before the URL's `://`, and what to do about it.
const SCHEMES: &[(&[&str], &str)] = &[
    (
        &["prisma", "prisma+postgres"],
        "it is the address of an HTTP service (Prisma Accelerate, `prisma dev`), not of a database: \
         take the database's own URL, which begins with postgres://",
    ),
    (
        &[
            "jdbc:postgresql",
            "jdbc:postgres",
            "r2dbc:postgresql",
            "r2dbc:postgres",
        ],
        "what is before postgresql:// is Java's: take it away, and write user and password before the host",
    ),
    (
        &["http", "https"],
        "it is the address of a page or of an HTTP service: take the connection string, which begins with postgres://",
    ),
    (
        &[
            "ecto",
            "pgsql",
            "pg",
            "postgis",
            "psql",
            "cockroach",
            "cockroachdb",
            "timescaledb",
            "redshift",
        ],
        "its scheme is another program's: write postgres:// in its place",
    ),
];

const KEYWORDS: &str =
    "it is libpq's form of keywords: write postgres://user:password@host:5432/database";

/// The text behind `postgres://`, or what is wrong with a text that does not begin with it.
pub(crate) fn without_scheme(url: &str) -> Result<&str, ConfigError> {
    if let Some((scheme, rest)) = url.split_once("://")
        && ["postgres", "postgresql"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
    {
        // A quote is a character of the URL like others, but not as its last one.
        return match rest.ends_with(['"', '\'', '`']) {
            true => Err(ConfigError::url("it ends with a quote: remove it")),
            false => Ok(rest),
        };
    }
    Err(ConfigError::url(wrong(url)))
}

fn wrong(url: &str) -> &'static str {
    let lower = url.to_ascii_lowercase();
    if url.is_empty() {
        return "it is empty";
    }
    if lower.starts_with("export ") || is_assignment(&lower) {
        return "it begins with the name of the variable: only what stands behind the `=` is the URL";
    }
    if lower.starts_with("psql ") {
        return "it is a command of psql: only the URL in it is wanted, without quotes";
    }
    if url.starts_with(['"', '\'', '`']) {
        return "it is in quotes: remove them";
    }
    if url.starts_with(['{', '[']) {
        return "it is JSON, as stores of secrets keep it: write the URL itself, postgres://user:password@host:5432/database";
    }
    let Some((scheme, _)) = lower.split_once("://") else {
        return match (url.contains('='), url.contains(';')) {
            (true, true) => {
                "it is a connection string of .NET: write postgres://user:password@host:5432/database"
            }
            (true, false) => KEYWORDS,
            _ => "it must begin with postgres:// or postgresql://",
        };
    };
    if scheme.starts_with("postgresql+") || scheme.starts_with("postgres+") {
        return "the `+` and the driver behind `postgresql` are SQLAlchemy's: write postgresql://";
    }
    let known = SCHEMES.iter().find(|(names, _)| names.contains(&scheme));
    known.map_or("it must begin with postgres:// or postgresql://", |row| {
        row.1
    })
}

/// `DATABASE_URL=postgres://…`, but not `host=… dbname=…`.
fn is_assignment(lower: &str) -> bool {
    lower.split_once('=').is_some_and(|(name, value)| {
        let name = name.trim_end();
        let value = value.trim_start().trim_start_matches(['"', '\'']);
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && value.starts_with("postgres")
            && value.contains("://")
    })
}

/// A part that was never filled in: `[YOUR-PASSWORD]`, `<password>`, `${DB_PASSWORD}`, `{{password}}`, `****`. One that is
/// really so can be percent-encoded.
pub(crate) fn reject_placeholder(part: &str, raw: &str) -> Result<(), ConfigError> {
    let word = |inside: &str| {
        let letters = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ' | '.');
        !inside.is_empty() && inside.chars().all(letters) && inside.contains(char::is_alphabetic)
    };
    let enclosed = |open: &str, close: &str| {
        let inside = raw.strip_prefix(open)?.strip_suffix(close)?;
        Some(word(inside))
    };
    let pairs = [
        ("[", "]"),
        ("<", ">"),
        ("${", "}"),
        ("{{", "}}"),
        ("{", "}"),
        ("$(", ")"),
    ];
    let masked = raw.chars().count() >= 4 && raw.chars().all(|c| matches!(c, '*' | '•' | '…'));
    let filled_in = !masked
        && !pairs
            .iter()
            .any(|(open, close)| enclosed(open, close) == Some(true));
    match filled_in {
        true => Ok(()),
        false => Err(ConfigError::url(&format!(
            "its {part} is still a placeholder, such as [YOUR-PASSWORD]: put the real one there (percent-encoded, if it is one)"
        ))),
    }
}
