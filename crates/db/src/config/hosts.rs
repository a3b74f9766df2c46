//! Where the server is: one host, or several of which one fits, as libpq takes them.

use std::fmt;

use sqlx::postgres::PgConnectOptions;

use crate::config::error::ConfigError;
use crate::config::given::Parameters;
use crate::config::text::Named;

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
    /// The host's name or address, or the socket's folder.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The port, also that in the name of a unix socket.
    pub(crate) fn number(&self) -> u16 {
        self.port
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

/// The servers of a URL whose authority names `named`: those of its parameters `host`, `hostaddr` and `port` first, as in libpq.
pub(crate) fn read(named: &[Named], given: &mut Parameters) -> Result<Vec<Host>, ConfigError> {
    let list = |text: String| text.split(',').map(str::trim).map(str::to_owned).collect();
    let of_url = || named.iter().map(|(name, _)| name.clone()).collect();
    let (host, address) = (given.text("host"), given.text("hostaddr"));
    let names: Vec<String> = host.map_or_else(of_url, list);
    let addresses: Vec<String> = address.map_or_else(Vec::new, list);
    let names = match (names.len(), addresses.len()) {
        (_, 0) if names.is_empty() => vec![String::new()],
        (_, 0) => names,
        // An address says where the server is, and its name what it is called.
        (0, _) => addresses,
        (count, of_addresses) if count == of_addresses => {
            let each = names.into_iter().zip(addresses);
            let either = |(name, address): (String, String)| match address.is_empty() {
                true => name,
                false => address,
            };
            each.map(either).collect()
        }
        _ => {
            return Err(ConfigError::value(
                "hostaddr",
                "a list with as many addresses as there are hosts",
            ));
        }
    };
    let ports = ports(named, given.text("port"), names.len())?;
    let host = |(name, port): (String, u16)| {
        let name = name.trim_start_matches('[').trim_end_matches(']');
        Host {
            name: if name.is_empty() { "localhost" } else { name }.to_owned(),
            port,
        }
    };
    Ok(names.into_iter().zip(ports).map(host).collect())
}

/// One port for each host: one alone is that of all.
fn ports(named: &[Named], given: Option<String>, hosts: usize) -> Result<Vec<u16>, ConfigError> {
    let Some(given) = given else {
        let ports: Vec<u16> = named.iter().map(|(_, port)| port.unwrap_or(5432)).collect();
        let first = ports.first().copied().unwrap_or(5432);
        // Where a parameter names other hosts, the first port of the authority is theirs.
        return Ok(match ports.len() == hosts {
            true => ports,
            false => vec![first; hosts],
        });
    };
    let bad = |expected| ConfigError::value("port", expected);
    let number = |text: &str| match text.trim() {
        "" => Ok(5432),
        text => {
            let port = text.parse().ok().filter(|port| *port != 0);
            port.ok_or_else(|| bad("a whole number from 1 to 65535"))
        }
    };
    let ports: Vec<u16> = given.split(',').map(number).collect::<Result<_, _>>()?;
    match ports.len() {
        1 => Ok(vec![ports[0]; hosts]),
        len if len == hosts => Ok(ports),
        _ => Err(bad(
            "one port for all hosts, or one for each with commas between",
        )),
    }
}
