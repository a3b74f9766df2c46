//! Where the server is: one host, or several of which one fits, as libpq takes them.

use std::fmt;

use ::url::Url;
use sqlx::postgres::PgConnectOptions;

use crate::config::parameters::ConfigError;
use crate::config::url::percent_decode;

/// What the server has to be, with libpq's names: `target_session_attrs`.
///
/// ```
/// # fn main() -> Result<(), db::ConfigError> {
/// let config = db::Config::parse("postgres://app@a,b:5433/shop?target_session_attrs=read-write")?;
/// assert_eq!(config.target_session_attrs, db::TargetSessionAttrs::ReadWrite);
/// assert_eq!(config.address(), "a:5432,b:5433");
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetSessionAttrs {
    /// The first one that answers.
    #[default]
    Any,
    /// One that takes writes: no standby, and `default_transaction_read_only` is off.
    ReadWrite,
    /// One that does not.
    ReadOnly,
    /// No standby.
    Primary,
    /// A standby.
    Standby,
    /// A standby, or any one if none answers.
    PreferStandby,
}

impl TargetSessionAttrs {
    /// As the URL writes them.
    pub(crate) const ALL: [(&'static str, Self); 6] = [
        ("any", Self::Any),
        ("read-write", Self::ReadWrite),
        ("read-only", Self::ReadOnly),
        ("primary", Self::Primary),
        ("standby", Self::Standby),
        ("prefer-standby", Self::PreferStandby),
    ];
}

impl fmt::Display for TargetSessionAttrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::ALL.iter().find(|(_, value)| value == self);
        f.write_str(named.map_or("any", |(name, _)| name))
    }
}

/// A server's host and port, or the folder of its unix socket and the port that is part of the socket's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    name: String,
    port: u16,
}

impl Host {
    /// That of a URL with one host.
    pub(crate) fn of(url: &Url) -> Result<Self, ConfigError> {
        let host = percent_decode(url.host_str().unwrap_or_default());
        let host = host
            .ok_or_else(|| ConfigError::url("its host is not percent-encoded UTF-8 without NUL"))?;
        let name = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            name: if name.is_empty() { "localhost" } else { name }.to_owned(),
            port: url.port().unwrap_or(5432),
        })
    }

    /// The same port elsewhere.
    pub(crate) fn at(&self, name: String) -> Self {
        Self {
            name,
            port: self.port,
        }
    }

    /// The host's name or address, or the socket's folder.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The port, if it is no unix socket.
    pub(crate) fn port(&self) -> Option<u16> {
        self.folder().is_none().then_some(self.port)
    }

    /// The folder, if it is a unix socket.
    fn folder(&self) -> Option<&str> {
        self.name.starts_with('/').then_some(&*self.name)
    }

    /// These options, to connect there.
    pub(crate) fn apply(&self, options: PgConnectOptions) -> PgConnectOptions {
        let options = options.port(self.port);
        match self.folder() {
            Some(folder) => options.socket(folder),
            None => options.host(&self.name),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.folder() {
            Some(folder) => f.write_str(folder),
            None => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// Takes all but the first host out of the URL's text, which would not be a URL with them.
pub(crate) fn split(text: &str) -> Result<(String, Vec<Host>), ConfigError> {
    let start = text.find("://").map_or(0, |scheme| scheme + 3);
    let end = text[start..].find(['/', '?']);
    let end = end.map_or(text.len(), |end| start + end);
    let hosts = text[start..end]
        .rfind('@')
        .map_or(start, |at| start + at + 1);
    let mut each = text[hosts..end].split(',');
    let first = each.next().unwrap_or_default();
    let others: Vec<&str> = each.collect();
    if others.is_empty() {
        return Ok((text.to_owned(), Vec::new()));
    }
    if first.is_empty() || others.contains(&"") {
        return Err(ConfigError::url("a host is missing beside a comma"));
    }
    let host = |text: &&str| {
        let url = Url::parse(&format!("postgres://{text}/"));
        let url =
            url.map_err(|error| ConfigError::url(&format!("in one of its hosts: {error}")))?;
        Host::of(&url)
    };
    let others = others.iter().map(host).collect::<Result<_, _>>()?;
    Ok((format!("{}{first}{}", &text[..hosts], &text[end..]), others))
}
