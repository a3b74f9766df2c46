//! What the developer has decided: which PostgreSQL, and whether the network may be used.

use std::ffi::OsString;
use std::os::unix::process::parent_id;
use std::path::PathBuf;

use crate::Error;
use crate::process::command_line;

/// Which of the two, if both are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// What is installed, else what is brought.
    Either,
    System,
    Bundled,
}

/// Whether something may be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    Allowed,
    Off,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) source: Source,
    pub(crate) network: Network,
    /// The one folder that counts.
    pub(crate) folder: Option<PathBuf>,
}

impl Choice {
    /// From `RESERVOIR_PG`, `PG_BIN`, `CARGO_NET_OFFLINE` and the command line of the `cargo test` that runs us.
    pub(crate) fn of_environment() -> Result<Self, Error> {
        let value = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let source = source(value("RESERVOIR_PG"))?;
        let folder = value("PG_BIN").map(PathBuf::from);
        if let (Some(folder), Source::Bundled) = (&folder, source) {
            return Err(Error::new(format!(
                "RESERVOIR_PG=bundled and PG_BIN={} contradict each other: unset one of the two",
                folder.display()
            )));
        }
        let offline = value("CARGO_NET_OFFLINE").is_some_and(|value| value == "true")
            || command_line(parent_id()).is_some_and(|line| says_offline(&line));
        let network = if offline {
            Network::Off
        } else {
            Network::Allowed
        };
        Ok(Self {
            source,
            network,
            folder,
        })
    }

    pub(crate) fn offline(self) -> Self {
        Self {
            network: Network::Off,
            ..self
        }
    }

    pub(crate) fn is_offline(&self) -> bool {
        self.network == Network::Off
    }
}

fn source(value: Option<OsString>) -> Result<Source, Error> {
    let Some(value) = value else {
        return Ok(Source::Either);
    };
    match value.to_str() {
        Some("system") => Ok(Source::System),
        Some("bundled") => Ok(Source::Bundled),
        _ => Err(Error::new(format!(
            "RESERVOIR_PG is `{}`: it takes `system` (what is installed) or `bundled` (what is brought)",
            value.to_string_lossy()
        ))),
    }
}

/// Whether it is a command line of cargo's that forbids the network.
fn says_offline(command_line: &str) -> bool {
    let mut words = command_line.split(['\0', ' ']);
    let is_cargo = words
        .next()
        .is_some_and(|program| program.rsplit('/').next() == Some("cargo"));
    is_cargo
        && words
            .take_while(|word| *word != "--")
            .any(|word| matches!(word, "--offline" | "--frozen"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservoir_pg_takes_two_words_and_names_them_for_any_other() {
        assert_eq!(source(None).unwrap(), Source::Either);
        assert_eq!(source(Some("system".into())).unwrap(), Source::System);
        assert_eq!(source(Some("bundled".into())).unwrap(), Source::Bundled);
        for wrong in ["System", "installed", " bundled"] {
            let error = source(Some(wrong.into())).unwrap_err().to_string();
            for part in [wrong, "`system`", "`bundled`"] {
                assert!(error.contains(part), "{error}");
            }
        }
    }

    #[test]
    fn cargos_own_options_say_offline_and_those_of_the_tests_do_not() {
        assert!(says_offline(
            "/home/ada/.cargo/bin/cargo\0test\0--offline\0"
        ));
        assert!(says_offline("cargo\0--frozen\0test\0"));
        assert!(says_offline("cargo test --offline -p db"));
        assert!(!says_offline("cargo\0test\0--\0--offline\0"));
        assert!(!says_offline("bash\0-c\0true --offline\0"));
    }
}
