//! How connections are secured: libpq's `sslmode` and `sslrootcert`, and Prisma's `sslaccept` where it says more.

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
    /// The file whose authorities alone count, if there is one.
    pub(crate) authority: Option<String>,
    /// Encryption was asked for and no check: to be said at the start, because Prisma 7 means a check by the same word.
    pub(crate) only_encrypted: bool,
    /// What could not be read of the system's store.
    pub(crate) store: Option<String>,
}

impl Tls {
    /// The file that this parameter names.
    #[cfg(feature = "tls")]
    pub(crate) fn file(&self, key: &str) -> Option<&str> {
        let named = self.files.iter().find(|(name, _)| *name == key);
        named.map(|(_, path)| &**path)
    }

    /// Says at the start what is not checked, though the words sound like it.
    pub(crate) fn say(&self, address: &str) {
        if self.only_encrypted {
            tracing::warn!(
                "sslmode=require encrypts the connections to {address} and checks neither the server's certificate nor its \
                 name, as libpq means it: write sslmode=verify-full to have both checked"
            );
        }
    }
}

/// What the URL asks for.
struct Asked {
    mode: Option<PgSslMode>,
    /// `sslaccept`: whether the certificate is to be checked.
    strict: Option<bool>,
    /// The file of the authority, or `system`.
    authority: Option<String>,
}

pub(crate) fn tls(
    given: &mut Parameters,
    mut options: PgConnectOptions,
) -> Result<(PgConnectOptions, Tls), ConfigError> {
    let mut tls = Tls::default();
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
        (Some(_), None) if authority.is_some() => {
            return Err(ConfigError::value("sslcert", "given together with sslkey"));
        }
        // Alone it is what Prisma means by it: the authority that signed the server's certificate.
        (Some(certificate), None) => authority = Some(certificate),
        (None, Some(_)) => return Err(ConfigError::value("sslkey", "given together with sslcert")),
        (None, None) => {}
    }
    let mut asked = Asked::of(given, authority)?;
    asked.authority = asked.authority.take().or_else(|| default_authority(&asked));
    let mode = asked.mode()?;
    let checks = matches!(mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull);
    tls.files.retain(|(_, path)| path != SYSTEM);
    tls.only_encrypted = matches!(mode, PgSslMode::Require);
    match asked.authority.as_deref() {
        Some(path) if path != SYSTEM => {
            options = options.ssl_root_cert(path);
            tls.unchecked = !checks;
            tls.authority = Some(path.to_owned());
        }
        _ if checks => options = with_store(options, &mut tls),
        _ => {}
    }
    Ok((options.ssl_mode(mode), tls))
}

/// libpq's file of authorities, which counts if it is there and nothing else is named.
fn default_authority(asked: &Asked) -> Option<String> {
    use PgSslMode::{Require, VerifyCa, VerifyFull};
    let checks = matches!(asked.mode, Some(Require | VerifyCa | VerifyFull));
    let wanted = asked.strict.unwrap_or(checks);
    let file = std::env::home_dir()?.join(".postgresql/root.crt");
    let path = file.to_str().filter(|_| wanted && file.is_file())?;
    Some(path.to_owned())
}

/// In the place of a file: the authorities that the machine trusts.
const SYSTEM: &str = "system";

impl Asked {
    fn of(given: &mut Parameters, authority: Option<String>) -> Result<Self, ConfigError> {
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
        let strict = given.choice("sslaccept", &["strict", "accept_invalid_certs"])?;
        Ok(Self {
            mode: mode.map(|index| modes[index].1),
            strict: strict.map(|index| index == 0),
            authority,
        })
    }

    /// The mode that these words mean together.
    fn mode(&self) -> Result<PgSslMode, ConfigError> {
        let system = self.authority.as_deref() == Some(SYSTEM);
        match (self.mode, self.strict) {
            (Some(PgSslMode::Disable), Some(true)) => Err(ConfigError::value(
                "sslaccept",
                "absent with sslmode=disable",
            )),
            (_, Some(true)) => Ok(PgSslMode::VerifyFull),
            (None, None) if system => Ok(PgSslMode::VerifyFull),
            (Some(mode @ PgSslMode::VerifyFull), _) => Ok(mode),
            // Whoever is anybody's customer has a certificate of these authorities.
            _ if system => Err(ConfigError::value(
                "sslmode",
                "verify-full, or absent, with sslrootcert=system: a weaker mode would check nothing that counts",
            )),
            // libpq's rule: who names an authority wants it to count.
            (Some(PgSslMode::Require), None) if self.authority.is_some() => Ok(PgSslMode::VerifyCa),
            (Some(PgSslMode::VerifyCa), _) if self.authority.is_none() => Err(ConfigError::value(
                "sslmode",
                "verify-full, or have sslrootcert=FILE beside verify-ca: of all authorities that a machine trusts one may sign \
                 a certificate for anybody",
            )),
            (mode, _) => Ok(mode.unwrap_or(PgSslMode::Prefer)),
        }
    }
}

/// Trusts the system's store, read now. sqlx adds the authorities that it is built with.
#[cfg(feature = "tls")]
fn with_store(options: PgConnectOptions, tls: &mut Tls) -> PgConnectOptions {
    let found = rustls_native_certs::load_native_certs();
    tls.store = found.errors.first().map(|error| {
        format!("of the system's store or what SSL_CERT_FILE and SSL_CERT_DIR name in its place: {error}")
    });
    // sqlx fails for a single one that rustls does not take.
    let taken = |certificate: &rustls::pki_types::CertificateDer<'_>| {
        let mut store = rustls::RootCertStore::empty();
        store.add(certificate.clone().into_owned()).is_ok()
    };
    let pem: String = found
        .certs
        .iter()
        .filter(|one| taken(one))
        .map(|one| pem(one))
        .collect();
    // Also an empty one: sqlx would take the file of PGSSLROOTCERT.
    options.ssl_root_cert_from_pem(pem.into_bytes())
}

#[cfg(feature = "tls")]
fn pem(certificate: &[u8]) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine};
    let text = BASE64_STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[cfg(not(feature = "tls"))]
fn with_store(options: PgConnectOptions, _tls: &mut Tls) -> PgConnectOptions {
    options
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgSslMode;

    use crate::config::Config;

    /// What these parameters mean, or what is said of them.
    fn mode(parameters: &str) -> Result<String, String> {
        let config = Config::parse(&format!("postgres://u@h/d?{parameters}"));
        let config = config.map_err(|error| error.to_string())?;
        Ok(format!("{:?}", config.options(false).get_ssl_mode()))
    }

    #[test]
    fn sslmode_and_the_authority_mean_together_what_they_mean_to_libpq() {
        use PgSslMode::{Disable, Prefer, Require, VerifyCa, VerifyFull};
        for (parameters, meant) in [
            ("", Prefer),
            ("sslmode=disable", Disable),
            ("sslmode=disable&sslrootcert=f", Disable),
            ("sslmode=allow&sslrootcert=f", Prefer),
            ("sslmode=prefer&sslrootcert=f", Prefer),
            ("sslrootcert=f", Prefer),
            ("sslmode=require", Require),
            ("sslmode=require&sslrootcert=f", VerifyCa),
            ("sslmode=require&sslcert=f", VerifyCa),
            ("sslmode=require&sslcert=f&sslkey=k", Require),
            (
                "sslmode=require&sslrootcert=f&sslaccept=accept_invalid_certs",
                Require,
            ),
            ("sslmode=verify-ca&sslrootcert=f", VerifyCa),
            ("sslmode=verify-full", VerifyFull),
            ("sslaccept=strict", VerifyFull),
            ("sslmode=require&sslaccept=strict&sslrootcert=f", VerifyFull),
            ("sslrootcert=system", VerifyFull),
            ("sslmode=verify-full&sslrootcert=system", VerifyFull),
            (
                "sslmode=require&sslaccept=strict&sslrootcert=system",
                VerifyFull,
            ),
            ("channel_binding=prefer", Prefer),
            ("channel_binding=disable&sslmode=require", Require),
        ] {
            assert_eq!(mode(parameters), Ok(format!("{meant:?}")), "{parameters}");
        }
    }

    #[test]
    fn what_would_be_weaker_than_it_sounds_is_refused_with_what_to_write() {
        for (parameters, says) in [
            ("sslrootcert=system&sslmode=disable", "sslmode"),
            ("sslrootcert=system&sslmode=allow", "verify-full"),
            ("sslrootcert=system&sslmode=prefer", "verify-full"),
            ("sslrootcert=system&sslmode=require", "verify-full"),
            ("sslrootcert=system&sslmode=verify-ca", "verify-full"),
            (
                "sslrootcert=system&sslaccept=accept_invalid_certs",
                "verify-full",
            ),
            ("sslaccept=strict&sslmode=disable", "absent"),
            ("channel_binding=require", "sslmode=verify-full"),
            (
                "channel_binding=require&sslmode=require",
                "sslmode=verify-full",
            ),
            ("sslrootcert=f&sslcert=c", "sslkey"),
            ("sslkey=k", "sslcert"),
            ("sslmode=verify-ca", "sslrootcert=FILE"),
        ] {
            let error = mode(parameters).expect_err(parameters);
            assert!(error.contains(says), "{parameters}: {error}");
        }
    }
}
