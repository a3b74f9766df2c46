//! Where the database is and how the connection is secured, as sqlx wants to know it.

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use crate::config::Config;
use crate::parameters::{ConfigError, THROUGH_PGBOUNCER};
use crate::query::{self, Parameters};

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

/// Prisma's TLS parameters, and libpq's where they do not clash; `files` gets those that name one.
pub(crate) fn tls(
    given: &mut Parameters,
    mut options: PgConnectOptions,
    files: &mut Vec<(&'static str, String)>,
) -> Result<PgConnectOptions, ConfigError> {
    let modes = [
        ("disable", PgSslMode::Disable),
        ("allow", PgSslMode::Allow),
        ("prefer", PgSslMode::Prefer),
        ("require", PgSslMode::Require),
        ("verify-ca", PgSslMode::VerifyCa),
        ("verify-full", PgSslMode::VerifyFull),
    ];
    let mode = given.choice("sslmode", &modes.map(|(name, _)| name))?;
    let mode = mode.map_or(PgSslMode::Prefer, |index| modes[index].1);
    let strict = given.choice("sslaccept", &["strict", "accept_invalid_certs"])? == Some(0);
    options = options.ssl_mode(match mode {
        PgSslMode::Disable if strict => {
            return Err(ConfigError::Value {
                key: "sslaccept".into(),
                expected: "absent with sslmode=disable".into(),
            });
        }
        _ if strict => PgSslMode::VerifyFull,
        mode => mode,
    });
    let mut file = |key| {
        let path = given.text(key)?;
        files.push((key, path.clone()));
        Some(path)
    };
    if let Some(path) = file("sslrootcert") {
        options = options.ssl_root_cert(path);
    }
    match (file("sslcert"), file("sslkey")) {
        (Some(certificate), Some(key)) => {
            Ok(options.ssl_client_cert(certificate).ssl_client_key(key))
        }
        // Alone it is what Prisma means by it: the authority that signed the server's certificate.
        (Some(certificate), None) => Ok(options.ssl_root_cert(certificate)),
        (None, Some(_)) => Err(ConfigError::Value {
            key: "sslkey".into(),
            expected: "given together with sslcert".into(),
        }),
        (None, None) => Ok(options),
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
