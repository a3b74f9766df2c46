//! A database that is not `cargo dev`'s own: where it is, and whether sample data may be put into it.

use std::fmt;
use std::io::{self, BufRead, IsTerminal, Write};
use std::net::IpAddr;

use crate::libpq;
use crate::output::{Result, say};

/// What the developer has said about sample data.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Sample {
    #[default]
    Unsaid,
    Yes,
    No,
}

/// What `DATABASE_URL` names.
pub(crate) struct Given {
    url: String,
    /// A name, an address, or the folder of a unix socket.
    host: String,
    port: String,
    database: String,
}

impl Given {
    /// No error repeats a piece of the URL.
    pub(crate) fn parse(url: String) -> Result<Self> {
        let parts = split(&url).ok_or(
            "DATABASE_URL is not of the form postgres://user:password@host:5432/database.\n\
             Put no quotes around it, and percent-encode user and password: `@` is %40, `#` %23, `/` %2F, `?` %3F.",
        )?;
        let (host, port) = split_port(parts.host);
        let named = |key| parameter(parts.parameters, key);
        // As libpq takes it: the address says where the server is, whatever it is called.
        let elsewhere = named("hostaddr").or_else(|| named("host"));
        let host = elsewhere.unwrap_or_else(|| match host {
            "" => variable().unwrap_or_else(|| "localhost".to_owned()),
            host => decode(host),
        });
        let port = named("port").unwrap_or_else(|| port.to_owned());
        let database = named("dbname").unwrap_or_else(|| decode(parts.database));
        if database.is_empty() {
            return Err("DATABASE_URL names no database: \
                 write it behind the host, as in postgres://user:password@host:5432/database"
                .into());
        }
        Ok(Self {
            url,
            host,
            port,
            database,
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Whether sample data is put into it: never on another machine, and here only where somebody says so.
    pub(crate) fn takes_sample(&self, asked_for: Sample) -> Result<bool> {
        match asked_for {
            Sample::No => Ok(false),
            Sample::Yes if self.is_here() => Ok(true),
            Sample::Yes => Err(format!(
                "sample data is put only into a database on this machine, and DATABASE_URL names {}",
                self.host
            )
            .into()),
            Sample::Unsaid if self.is_here() => self.ask(),
            Sample::Unsaid => {
                say("No sample data is put into it: it is on another machine.");
                Ok(false)
            }
        }
    }

    fn is_here(&self) -> bool {
        self.host.split(',').all(|host| {
            let address = host.parse::<IpAddr>();
            host.starts_with('/')
                || host == "localhost"
                || address.is_ok_and(|address| address.to_canonical().is_loopback())
        })
    }

    fn ask(&self) -> Result<bool> {
        if !io::stdin().is_terminal() {
            say("No sample data is put into it: that takes the option `--sample`.");
            return Ok(false);
        }
        print!("Put 300 sample customers into {self}, if it has no customers? [y/N] ");
        io::stdout().flush()?;
        is_yes(&mut io::stdin().lock())
    }
}

fn is_yes(answer: &mut impl BufRead) -> Result<bool> {
    let mut line = String::new();
    answer.read_line(&mut line)?;
    let line = line.trim().to_lowercase();
    Ok(line == "y" || line == "yes")
}

/// The database and the server, without user and password.
impl fmt::Display for Given {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            port,
            database,
            ..
        } = self;
        write!(formatter, "the database `{database}` on {host}:{port}")
    }
}

/// The parts of a URL, as written.
struct Parts<'a> {
    /// With the port.
    host: &'a str,
    database: &'a str,
    parameters: &'a str,
}

/// `None` if it is no URL, or a part of an unencoded password could be taken for another part.
fn split(url: &str) -> Option<Parts<'_>> {
    let rest = url
        .strip_prefix("postgres://")
        .or_else(|| url.strip_prefix("postgresql://"))?;
    let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let odd = [user, database, parameters]
        .iter()
        .any(|part| part.contains('@'));
    (!odd && !url.contains(['#', '"', '\''])).then_some(Parts {
        host,
        database,
        parameters,
    })
}

/// The value of a parameter.
fn parameter(parameters: &str, key: &str) -> Option<String> {
    // A plus is a plus.
    let parameters = parameters.replace('+', "%2B");
    let mut parameters = form_urlencoded::parse(parameters.as_bytes());
    let found = parameters.find(|(name, value)| name == key && !value.is_empty());
    found.map(|(_, value)| value.into_owned())
}

/// Where libpq's variables say that the server is, for a URL without a host.
fn variable() -> Option<String> {
    let variables = libpq::variables();
    let set = |name| {
        let mut found = variables
            .iter()
            .filter(|(known, value)| known == name && !value.is_empty());
        found.next().map(|(_, value)| value.clone())
    };
    set("PGHOSTADDR").or_else(|| set("PGHOST"))
}

/// The address of IPv6 is in brackets and has colons.
fn split_port(host: &str) -> (&str, &str) {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (host, ""),
    };
    let port = if port.is_empty() { "5432" } else { port };
    (name.trim_start_matches('[').trim_end_matches(']'), port)
}

fn decode(part: &str) -> String {
    let part = part.replace('+', "%2B");
    let mut pairs = form_urlencoded::parse(part.as_bytes());
    pairs.next().unwrap_or_default().0.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_data_may_only_be_put_on_this_machine() {
        for (place, shown, here) in [
            ("localhost/shop", "localhost:5432", true),
            ("u:p@127.9.9.9:6000/shop", "127.9.9.9:6000", true),
            ("u@[::1]:6000/shop", "::1:6000", true),
            ("[::ffff:127.0.0.1]/shop", "::ffff:127.0.0.1:5432", true),
            ("/shop?host=/var/run", "/var/run:5432", true),
            ("%2Fvar%2Frun/shop", "/var/run:5432", true),
            (
                "localhost/shop?host=db.example.com",
                "db.example.com:5432",
                false,
            ),
            (
                "localhost.example.com/shop",
                "localhost.example.com:5432",
                false,
            ),
            ("10.0.0.1/shop", "10.0.0.1:5432", false),
            ("localhost/shop?hostaddr=10.0.0.1", "10.0.0.1:5432", false),
            (
                "/?dbname=shop&port=7&host=localhost,10.0.0.1",
                "localhost,10.0.0.1:7",
                false,
            ),
            ("[::2]/shop", "::2:5432", false),
        ] {
            let given = Given::parse(format!("postgres://{place}")).unwrap();
            assert_eq!(given.to_string(), format!("the database `shop` on {shown}"));
            assert_eq!(given.takes_sample(Sample::Yes).is_ok(), here, "{place}");
            assert!(!given.takes_sample(Sample::No).unwrap(), "{place}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_without_a_piece_of_it() {
        for url in [
            "canary",
            "mysql://u:canary@h/d",
            "\"postgres://u:canary@h/d\"",
            "postgres://u:can@ary@h/d",
            "postgres://u:1/canary@h/d",
            "postgres://u:1?canary@h/d",
            "postgres://u:canary#@h/d",
        ] {
            let error = Given::parse(url.to_owned()).err().unwrap().to_string();
            assert!(error.contains("percent-encode"), "{url}: {error}");
            assert!(!error.contains("can"), "{url}: {error}");
        }
    }

    #[test]
    fn only_y_and_yes_mean_yes() {
        for (answer, expected) in [
            ("y\n", true),
            ("Yes\n", true),
            ("\n", false),
            ("", false),
            ("no\n", false),
        ] {
            assert_eq!(
                is_yes(&mut answer.as_bytes()).unwrap(),
                expected,
                "{answer}"
            );
        }
    }
}
