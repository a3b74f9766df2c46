//! Who connects to which database, and what each session is told, as sqlx wants to know it.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::config::error::ConfigError;
use crate::config::given::Parameters;
use crate::config::hosts::Host;
use crate::config::parameters::THROUGH_PGBOUNCER;

/// User, password and database. What is left out is libpq's default: the user of the system, its password in the file of
/// passwords (`PGPASSFILE`, or `~/.pgpass`) if there is one host, and the database that is named like the user.
pub(crate) fn server(given: &mut Parameters, hosts: &[Host]) -> PgConnectOptions {
    let mut options = PgConnectOptions::new_without_pgpass().ssl_mode(PgSslMode::Prefer);
    if let Some(user) = given.text("user") {
        options = options.username(&user);
    }
    if options.get_username().is_empty() {
        // The driver takes an empty PGUSER for a name.
        let of_system = ["USER", "LOGNAME"]
            .iter()
            .find_map(|name| std::env::var(name).ok());
        options = options.username(&of_system.unwrap_or_else(|| "postgres".to_owned()));
    }
    let user = options.get_username().to_owned();
    let database = given.text("dbname").unwrap_or_else(|| user.clone());
    options = match (given.text("password"), hosts) {
        (Some(password), _) => options.password(&password),
        (None, [host]) => with_password_file(options, &user, &database, host),
        // A password that the file has for one of them is none of the others' business.
        (None, _) => options,
    };
    options.database(&database)
}

/// Only by reading a URL does sqlx look into that file.
fn with_password_file(
    options: PgConnectOptions,
    user: &str,
    database: &str,
    host: &Host,
) -> PgConnectOptions {
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let (user, database, port) = (encoded(user), encoded(database), host.number());
    // That is how the file calls a server behind the usual socket.
    let name = match host.name() {
        "/tmp" | "/run/postgresql" | "/var/run/postgresql" => "localhost",
        folder if folder.starts_with('/') => return options,
        name => name,
    };
    let url = format!(
        "postgres:///{database}?host={}&port={port}&user={user}",
        encoded(name)
    );
    url.parse().unwrap_or(options)
}

/// A name as SQL takes it, whatever it contains.
pub(crate) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What each session is told when it starts: the settings given in `options`, and these timeouts where it has none.
pub(crate) fn session(
    given: &[(String, String)],
    timeouts: [(&str, Option<Duration>); 3],
) -> Vec<(String, String)> {
    let mut session = given.to_vec();
    for (key, value) in timeouts {
        if !given.iter().any(|(name, _)| name == key) {
            let value = value.unwrap_or_default().as_millis();
            session.push((key.to_owned(), value.to_string()));
        }
    }
    session
}

/// PgBouncer takes none of it, so there the role has to be told.
pub(crate) fn reject_session(session: &[(String, String)]) -> Result<(), ConfigError> {
    let mut told = session
        .iter()
        .filter(|(key, value)| (key.as_str(), value.as_str()) != ("search_path", "\"public\""));
    let Some((key, _)) = told.next() else {
        return Ok(());
    };
    let key = if key == "search_path" {
        "schema"
    } else {
        "options"
    };
    Err(ConfigError::refused(key, THROUGH_PGBOUNCER))
}
