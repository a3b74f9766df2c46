//! What `cargo xtask survive` is told.

use crate::number::number;
use crate::output::Result;

/// The harms, in the order in which they are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Restarts,
    Crashes,
    SlowClients,
    Overload,
}

const PARTS: [(&str, Part); 4] = [
    ("restarts", Part::Restarts),
    ("crashes", Part::Crashes),
    ("slow-clients", Part::SlowClients),
    ("overload", Part::Overload),
];

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) parts: Vec<Part>,
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
    pub(crate) clients: u32,
    pub(crate) stall_ms: u32,
    pub(crate) delay: bool,
}

impl Options {
    /// `None` when only help is wanted.
    pub(crate) fn read(arguments: &[String], help: &str) -> Result<Option<Self>> {
        let mut options = Self {
            parts: Vec::new(),
            rounds: 10,
            seconds: 30,
            clients: 1000,
            stall_ms: 200,
            delay: true,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut number = |least| number(argument, arguments.next(), least);
            match argument.as_str() {
                "--rounds" => options.rounds = number(1)?,
                "--seconds" => options.seconds = number(1)?,
                "--clients" => options.clients = number(10)?,
                "--stall-ms" => options.stall_ms = number(1)?,
                "--without-delay" => options.delay = false,
                "--help" | "-h" => return Ok(None),
                other => options.parts.push(part(other, help)?),
            }
        }
        if options.parts.is_empty() {
            options.parts = PARTS.map(|(_, part)| part).into();
        }
        Ok(Some(options))
    }
}

fn part(argument: &str, help: &str) -> Result<Part> {
    let found = PARTS.iter().find(|(name, _)| *name == argument);
    let unknown = || format!("there is no part or option `{argument}`.\n\n{help}").into();
    found.map(|(_, part)| *part).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Option<Options>> {
        let arguments: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        Options::read(&arguments, "HELP")
    }

    #[test]
    fn parts_are_chosen_and_all_are_run_without_one() {
        let options = read("crashes --rounds 3").unwrap().unwrap();
        assert_eq!((options.parts, options.rounds), (vec![Part::Crashes], 3));
        let options = read("--clients 20 --without-delay").unwrap().unwrap();
        assert_eq!((options.parts.len(), options.delay), (4, false));
        assert_eq!(read("restarts --help").unwrap(), None);
        for (line, text) in [("crash", "`crash`.\n\nHELP"), ("--rounds 0", "1 or more")] {
            let error = read(line).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
