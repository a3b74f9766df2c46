//! What `cargo xtask load` is told.

use std::path::PathBuf;

use crate::number::number;
use crate::output::Result;
use crate::workspace;

/// What is loaded unless `--url` says otherwise.
pub(crate) const PATH: &str = "/api/customers?limit=20";

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Port and path of a service that runs on this machine; without one a private one is started.
    pub(crate) running: Option<(u16, String)>,
    pub(crate) requests: u32,
    pub(crate) concurrency: u32,
    /// Requests a second, begun by the clock.
    pub(crate) rate: Option<u32>,
    /// The values of `connection_limit` that are tried.
    pub(crate) limits: Vec<u32>,
    pub(crate) exhaust: bool,
    /// The report's file without its ending.
    pub(crate) output: PathBuf,
    /// As it was typed, for the report.
    pub(crate) command: String,
}

impl Options {
    /// `None` when only help is wanted.
    pub(crate) fn read(arguments: &[String], help: &str) -> Result<Option<Self>> {
        let mut options = Self {
            running: None,
            requests: 1000,
            concurrency: 100,
            rate: None,
            limits: vec![10],
            exhaust: false,
            output: workspace::root().join("target/load/report"),
            command: format!("cargo xtask load {}", arguments.join(" ")),
        };
        let mut limits = None;
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut number = || number(argument, arguments.next(), 1);
            match argument.as_str() {
                "--requests" => options.requests = number()?,
                "--concurrency" => options.concurrency = number()?,
                "--rate" => options.rate = Some(number()?),
                "--url" => options.running = Some(local(arguments.next())?),
                "--limits" => limits = Some(list(arguments.next())?),
                "--exhaust" => options.exhaust = true,
                "--output" => {
                    let file = arguments
                        .next()
                        .ok_or("--output takes the name of a file")?;
                    options.output = PathBuf::from(file).with_extension("");
                }
                "--help" | "-h" => return Ok(None),
                other => return Err(format!("there is no option `{other}`.\n\n{help}").into()),
            }
        }
        if options.running.is_some() && (limits.is_some() || options.exhaust) {
            return Err(
                "--limits and --exhaust start services of their own: leave out --url".into(),
            );
        }
        options.limits = limits.unwrap_or(options.limits);
        Ok(Some(options))
    }
}

/// `http://localhost:4004/api/customers` as port and path.
fn local(url: Option<&String>) -> Result<(u16, String)> {
    let wrong = "--url takes the address of a service on this machine, such as http://localhost:4004/api/customers";
    let rest = url.and_then(|url| url.strip_prefix("http://"));
    let (address, path) = rest.and_then(|rest| rest.split_once('/')).ok_or(wrong)?;
    let (host, port) = address.split_once(':').ok_or(wrong)?;
    if !matches!(host, "localhost" | "127.0.0.1") {
        return Err(wrong.into());
    }
    Ok((port.parse().map_err(|_| wrong)?, format!("/{path}")))
}

fn list(text: Option<&String>) -> Result<Vec<u32>> {
    let numbers = text.map(|text| text.split(',').map(str::parse).collect());
    match numbers {
        Some(Ok(numbers)) => {
            let numbers: Vec<u32> = numbers;
            let valid = numbers.iter().all(|limit| (1..=10_000).contains(limit));
            valid.then_some(numbers)
        }
        _ => None,
    }
    .ok_or_else(|| "--limits takes numbers from 1 to 10000 with commas, such as 2,5,10,20".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Option<Options>> {
        let arguments: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        Options::read(&arguments, "HELP")
    }

    #[test]
    fn options_are_read() {
        let options = read("--limits 2,5 --rate 300").unwrap().unwrap();
        assert_eq!((options.limits, options.rate), (vec![2, 5], Some(300)));
        let options = read("--url http://localhost:4004/api/customers --requests 7")
            .unwrap()
            .unwrap();
        assert_eq!(options.running, Some((4004, "/api/customers".to_owned())));
        assert_eq!((options.requests, options.concurrency), (7, 100));
        assert_eq!(read("--help").unwrap(), None);
        for (line, part) in [
            ("--limit 2", "`--limit`.\n\nHELP"),
            ("--limits 0", "--limits takes"),
            ("--limits 2,x", "--limits takes"),
            ("--url http://example.com/", "on this machine"),
            ("--url http://localhost:1/ --limits 2", "leave out --url"),
            ("--requests 0", "1 or more"),
        ] {
            let error = read(line).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
