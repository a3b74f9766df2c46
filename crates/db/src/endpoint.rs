//! Where the database is and what each session is told, as sqlx wants to know it.

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use crate::config::Config;
use crate::parameters::{ConfigError, THROUGH_PGBOUNCER};
use crate::query;

/// Host, port, user, password and database of the URL. A password or a certificate that it leaves out may come from
/// libpq's variables, as sqlx reads them.
pub(crate) fn server(url: &Url) -> Result<PgConnectOptions, ConfigError> {
    let decode = |part: &'static str, text: &str| {
        query::percent_decode(text)
            .ok_or_else(|| ConfigError::url(&format!("its {part} is not percent-encoded UTF-8")))
    };
    let database = decode("database", url.path().trim_start_matches('/'))?;
    let host = decode("host", url.host_str().unwrap_or_default())?;
    let user = decode("user", url.username())?;
    let mut options = PgConnectOptions::new_without_pgpass()
        .port(url.port().unwrap_or(5432))
        .ssl_mode(PgSslMode::Prefer)
        .username(if user.is_empty() { "postgres" } else { &user })
        .database(if database.is_empty() {
            "postgres"
        } else {
            &database
        });
    if let Some(password) = url.password() {
        options = options.password(&decode("password", password)?);
    }
    Ok(match host.trim_start_matches('[').trim_end_matches(']') {
        "" => options.host("localhost"),
        host => at(options, host),
    })
}

/// A host, or the folder of a unix socket.
pub(crate) fn at(options: PgConnectOptions, host: &str) -> PgConnectOptions {
    match host.starts_with('/') {
        true => options.socket(host),
        false => options.host(host),
    }
}

/// A name as SQL takes it, whatever it contains.
pub(crate) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What each session is told when it starts.
pub(crate) fn session(config: &Config) -> Vec<(String, String)> {
    let mut session = config.session.clone();
    for (key, value) in [
        ("statement_timeout", config.statement_timeout),
        ("lock_timeout", config.lock_timeout),
        (
            "idle_in_transaction_session_timeout",
            config.idle_in_transaction_session_timeout,
        ),
    ] {
        // Whoever writes it into `options` knows better.
        if !session.iter().any(|(given, _)| given == key) {
            let value = value.unwrap_or_default().as_millis();
            session.push((key.to_owned(), value.to_string()));
        }
    }
    session
}

/// PgBouncer takes none of it, so there the role has to be told.
pub(crate) fn refuse_session(session: &mut Vec<(String, String)>) -> Result<(), ConfigError> {
    session.retain(|(key, value)| (key.as_str(), value.as_str()) != ("search_path", "\"public\""));
    let Some((key, _)) = session.first() else {
        return Ok(());
    };
    let key = if key == "search_path" {
        "schema"
    } else {
        "options"
    };
    Err(ConfigError::Value {
        key: key.to_owned(),
        expected: format!("absent: {THROUGH_PGBOUNCER}"),
    })
}
