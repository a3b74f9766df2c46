//! The text of a URL taken apart as libpq does it: what stands between its marks is meant as it is written.

use crate::config::error::ConfigError;
use crate::config::pasted;

/// A host of the URL, with its port.
pub(crate) type Named = (String, Option<u16>);

/// The pieces of `postgres://user:password@host:port,host:port/database?key=value&…`, decoded. An empty one is not there.
#[derive(Default)]
pub(crate) struct Text {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    /// None if nothing stands where they belong.
    pub(crate) hosts: Vec<Named>,
    pub(crate) database: Option<String>,
    /// The parameters in their order.
    pub(crate) query: Vec<(String, String)>,
}

impl Text {
    pub(crate) fn read(url: &str) -> Result<Self, ConfigError> {
        let url = url.trim().trim_start_matches('\u{feff}').trim_start();
        let rest = pasted::without_scheme(url)?;
        check_marks(url, rest)?;
        let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        pasted::reject_placeholder("user", user)?;
        pasted::reject_placeholder("password", password)?;
        pasted::reject_placeholder("database", path.strip_prefix('/').unwrap_or(path))?;
        Ok(Self {
            user: piece("user", user)?,
            password: piece("password", password)?,
            hosts: each_host(hosts)?,
            database: piece("database", path.strip_prefix('/').unwrap_or(path))?,
            query: parameters(query)?,
        })
    }
}

/// Rejects what would be read as a URL, but not the one that was meant: a part of the password would become the host,
/// the database or a parameter, and be printed as such.
fn check_marks(url: &str, rest: &str) -> Result<(), ConfigError> {
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let expected = authority.matches('@').count().min(1);
    if url.contains('#') || url.matches('@').count() > expected {
        return Err(ConfigError::url(
            "it has a `#`, or an `@` that is not the one before the host; \
             percent-encode the user, the password and each value: `@` is %40, `#` %23, `/` %2F, `?` %3F",
        ));
    }
    if url.contains(|c: char| c.is_ascii_control()) {
        return Err(ConfigError::url(
            "it has a line break, a tab or another control character inside: remove it, or percent-encode it \
             (%0A, %09) if it is part of the password",
        ));
    }
    Ok(())
}

/// A piece decoded, if there is one.
fn piece(part: &'static str, text: &str) -> Result<Option<String>, ConfigError> {
    let decoded = decode(text).ok_or_else(|| {
        ConfigError::url(&format!(
            "its {part} is not percent-encoded UTF-8 without NUL"
        ))
    })?;
    Ok(Some(decoded).filter(|text| !text.is_empty()))
}

/// `None` when the bytes are not UTF-8 or hold a NUL, which PostgreSQL's protocol cannot carry.
fn decode(text: &str) -> Option<String> {
    let bytes = percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .ok()?;
    (!bytes.contains('\0')).then(|| bytes.into_owned())
}

fn each_host(hosts: &str) -> Result<Vec<Named>, ConfigError> {
    if hosts.is_empty() {
        return Ok(Vec::new());
    }
    let several = hosts.contains(',');
    let each = hosts.split(',').map(|text| {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']').ok_or_else(|| {
                    ConfigError::url("the `]` behind the address of a host is missing")
                })?;
                pasted::reject_placeholder("host", &format!("[{address}]"))?;
                match port.strip_prefix(':') {
                    None if !port.is_empty() => {
                        return Err(ConfigError::url(
                            "only a port may follow the `]` of a host's address",
                        ));
                    }
                    port => (address, port.unwrap_or_default()),
                }
            }
            None if text.matches(':').count() > 1 => {
                return Err(ConfigError::url(
                    "one of its hosts has more than one `:`; an IPv6 address stands in brackets: [::1]:5432",
                ));
            }
            None => text.split_once(':').unwrap_or((text, "")),
        };
        pasted::reject_placeholder("host", name)?;
        match piece("host", name)? {
            None if several => Err(ConfigError::url("a host is missing beside a comma")),
            name => Ok((name.unwrap_or_default(), self::port(port)?)),
        }
    });
    each.collect()
}

fn port(text: &str) -> Result<Option<u16>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    let port = text.parse().ok().filter(|port| *port != 0);
    let bad = || ConfigError::url("the port of a host is no whole number from 1 to 65535");
    port.map(Some).ok_or_else(bad)
}

/// As libpq reads them: a `+` is a plus.
fn parameters(query: &str) -> Result<Vec<(String, String)>, ConfigError> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let decoded = pairs.map(|pair| {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            ConfigError::url("a parameter has no `=`; write name=value, and a `&` that is part of a value as %26")
        })?;
        let key = decode(key)
            .ok_or_else(|| ConfigError::url("the name of a parameter is not UTF-8 without NUL"))?;
        match decode(value) {
            Some(value) => Ok((key, value)),
            None => Err(ConfigError::value(
                &key,
                "percent-encoded UTF-8 without a NUL character",
            )),
        }
    });
    decoded.collect()
}
