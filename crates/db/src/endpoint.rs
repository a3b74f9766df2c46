//! Where the database is and how the connection is secured, as sqlx wants to know it.

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use crate::config::{Config, THROUGH_PGBOUNCER};
use crate::parameters::ConfigError;
use crate::query::{self, Parameters};

/// Host, port, user, password and database of the URL. What it leaves out has the same default on every machine.
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
        folder if folder.starts_with('/') => options.socket(folder),
        host => options.host(host),
    })
}

/// Prisma's TLS parameters, and libpq's where they do not clash.
pub(crate) fn tls(
    given: &mut Parameters,
    mut options: PgConnectOptions,
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
    if let Some(path) = given.text("sslrootcert") {
        options = options.ssl_root_cert(path);
    }
    match (given.text("sslcert"), given.text("sslkey")) {
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

/// What each session is told when it starts. PgBouncer takes none of it, so there the role has to be told.
pub(crate) fn startup(
    config: &Config,
    mut session: Vec<(String, String)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    if config.pgbouncer {
        session
            .retain(|(key, value)| (key.as_str(), value.as_str()) != ("search_path", "\"public\""));
        return match session.first() {
            None => Ok(session),
            Some((key, _)) => Err(ConfigError::Value {
                key: if key == "search_path" {
                    "schema"
                } else {
                    "options"
                }
                .to_owned(),
                expected: format!("absent: {THROUGH_PGBOUNCER}"),
            }),
        };
    }
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
            session.push((
                key.to_owned(),
                value.unwrap_or_default().as_millis().to_string(),
            ));
        }
    }
    Ok(session)
}
