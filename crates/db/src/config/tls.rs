//! How connections are secured: TLS is set by Prisma's parameters, and by libpq's where they do not clash.

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::config::error::ConfigError;
use crate::config::given::Parameters;

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
