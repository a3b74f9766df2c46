//! `ab`, the program that makes the load: how it is called and what it reports.

use std::path::Path;
use std::process::Command;

use crate::output::Result;

/// Requests at a time.
pub(crate) const CONCURRENCY: u32 = 100;

const MISSING: &str = "\
the program `ab`, which makes the load, is not installed.
Debian, Ubuntu: apt install apache2-utils; Fedora: dnf install httpd-tools; Alpine: apk add apache2-utils;
Arch: pacman -S apache. macOS has it.";

/// What `ab` has measured; times are in milliseconds.
#[derive(Debug, PartialEq)]
pub(crate) struct Report {
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Report {
    /// From what `ab` prints, and from its file of percentiles, which has decimals.
    pub(crate) fn read(printed: &str, percentiles: &str, requests: u32) -> Result<Self> {
        check(printed, requests)?;
        Ok(Self {
            rate: value(printed, "Requests per second:")?,
            p50: value(percentiles, "50,")?,
            p99: value(percentiles, "99,")?,
        })
    }
}

/// An error unless every request was answered with a 2xx.
fn check(printed: &str, requests: u32) -> Result<()> {
    let complete = value(printed, "Complete requests:")?;
    let failed = value(printed, "Failed requests:")?;
    let other = value(printed, "Non-2xx responses:").unwrap_or_default();
    if complete == f64::from(requests) && failed == 0.0 && other == 0.0 {
        return Ok(());
    }
    Err(format!(
        "of {requests} requests {complete} were answered, {failed} failed and {other} had a status other than 2xx"
    )
    .into())
}

/// The number on the line that begins so.
pub(crate) fn value(text: &str, start: &str) -> Result<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(start));
    let word = rest.and_then(|rest| rest.split_whitespace().next());
    word.and_then(|word| word.parse().ok())
        .ok_or_else(|| format!("ab has reported no `{start}`:\n{text}").into())
}

/// Keeps its connections open and writes percentiles into a file.
pub(crate) fn arguments(requests: u32, percentiles: &Path, url: &str) -> Vec<String> {
    let percentiles = percentiles.display();
    let options = format!("-q -k -c {CONCURRENCY} -n {requests}");
    let options = options.split(' ').map(str::to_owned);
    options
        .chain(["-e".to_owned(), percentiles.to_string(), url.to_owned()])
        .collect()
}

/// The installed one's; an error says which package has it.
pub(crate) fn version() -> Result<String> {
    let output = Command::new("ab").arg("-V").output().map_err(|_| MISSING)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rest = text.split_once("Version ").map_or("", |(_, rest)| rest);
    let version = rest.split([' ', '\n']).next().unwrap_or_default();
    Ok(format!("ab {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
Concurrency Level:      100
Time taken for tests:   2.070 seconds
Complete requests:      80000
Failed requests:        0
Keep-Alive requests:    80000
Requests per second:    38647.11 [#/sec] (mean)
Time per request:       2.588 [ms] (mean)
";
    const PERCENTILES: &str = "\
Percentage served,Time in ms
0,0.311
5,1.002
50,2.417
99,5.201
";

    #[test]
    fn a_report_is_read_with_its_decimals() {
        let report = Report::read(PRINTED, PERCENTILES, 80_000).unwrap();
        let (rate, p50, p99) = (38_647.11, 2.417, 5.201);
        assert_eq!(report, Report { rate, p50, p99 });
    }

    #[test]
    fn a_request_without_its_answer_is_an_error() {
        let other = format!("{PRINTED}Non-2xx responses:      7\n");
        let failed = PRINTED.replace("Failed requests:        0", "Failed requests:        3");
        for (printed, requests, part) in [
            (other.as_str(), 80_000, "7 had a status other than 2xx"),
            (&failed, 80_000, "3 failed"),
            (PRINTED, 90_000, "of 90000 requests 80000 were answered"),
            ("", 80_000, "ab has reported no `Complete requests:`"),
        ] {
            let error = Report::read(printed, PERCENTILES, requests).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
