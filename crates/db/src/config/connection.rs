//! Where the database is, how connections are secured and what each session is told, as sqlx wants to know it.
//!
//! TLS is set by Prisma's parameters, and by libpq's where they do not clash.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use crate::config::parameters::{ConfigError, THROUGH_PGBOUNCER};
use crate::config::url::{Parameters, percent_decode};

/// User, password and database of the URL. A password or a certificate that it leaves out may come from
/// libpq's variables, as sqlx reads them.
pub(crate) fn server(url: &Url) -> Result<PgConnectOptions, ConfigError> {
    let decode = |part: &'static str, text: &str| {
        percent_decode(text)
            .ok_or_else(|| ConfigError::url(&format!("its {part} is not percent-encoded UTF-8")))
    };
    let database = decode("database", url.path().trim_start_matches('/'))?;
    let user = decode("user", url.username())?;
    let mut options = PgConnectOptions::new_without_pgpass()
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
    Ok(options)
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
    Err(ConfigError::Value {
        key: key.to_owned(),
        expected: format!("absent: {THROUGH_PGBOUNCER}"),
    })
}

/// What has to be known about it later: to name what is wrong.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    /// The files that it takes, by the parameter that names them.
    pub(crate) files: Vec<(&'static str, String)>,
    /// An authority is named, but the mode checks nothing against it.
    pub(crate) unchecked: bool,
}

pub(crate) fn tls(
    given: &mut Parameters,
    options: PgConnectOptions,
) -> Result<(PgConnectOptions, Tls), ConfigError> {
    let mode = mode(given)?;
    let (mut options, mut tls) = (options.ssl_mode(mode), Tls::default());
    let mut file = |key| {
        let path = given.text(key)?;
        tls.files.push((key, path.clone()));
        Some(path)
    };
    let mut authority = file("sslrootcert");
    match (file("sslcert"), file("sslkey")) {
        (Some(certificate), Some(key)) => {
            options = options.ssl_client_cert(certificate).ssl_client_key(key);
        }
        // Alone it is what Prisma means by it: the authority that signed the server's certificate.
        (Some(certificate), None) => authority = Some(certificate),
        (None, Some(_)) => return Err(bad("sslkey", "given together with sslcert")),
        (None, None) => {}
    }
    if let Some(authority) = authority {
        options = options.ssl_root_cert(authority);
        tls.unchecked = !matches!(mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull);
    }
    Ok((options, tls))
}

fn mode(given: &mut Parameters) -> Result<PgSslMode, ConfigError> {
    let modes = [
        ("disable", PgSslMode::Disable),
        // sqlx's own never encrypts, not even for a server that insists.
        ("allow", PgSslMode::Prefer),
        ("prefer", PgSslMode::Prefer),
        ("require", PgSslMode::Require),
        ("verify-ca", PgSslMode::VerifyCa),
        ("verify-full", PgSslMode::VerifyFull),
    ];
    let mode = given.choice("sslmode", &modes.map(|(name, _)| name))?;
    let mode = mode.map_or(PgSslMode::Prefer, |index| modes[index].1);
    let strict = given.choice("sslaccept", &["strict", "accept_invalid_certs"])? == Some(0);
    match mode {
        PgSslMode::Disable if strict => Err(bad("sslaccept", "absent with sslmode=disable")),
        _ if strict => Ok(PgSslMode::VerifyFull),
        mode => Ok(mode),
    }
}

fn bad(key: &str, expected: &str) -> ConfigError {
    ConfigError::Value {
        key: key.to_owned(),
        expected: expected.to_owned(),
    }
}
