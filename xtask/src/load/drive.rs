//! The load itself: `ab`, or an open loop whose requests begin by the clock.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::measured::Measured;
use crate::compare::ab;
use crate::output::Result;
use crate::survive::client::{self, Client};

/// Requests that run at once at most in an open loop; what is due meanwhile waits, and that wait counts as theirs.
const MOST: u32 = 1000;

/// Lets `ab` load a service, and reads what it has measured.
pub(crate) fn closed(
    port: u16,
    path: &str,
    requests: u32,
    concurrency: u32,
    folder: &Path,
) -> Result<Measured> {
    fs::create_dir_all(folder)?;
    let percentiles = folder.join("percentiles.csv");
    let url = format!("http://127.0.0.1:{port}{path}");
    let output = Command::new("ab")
        .args(["-q", "-k", "-r", "-l", "-s", "60"])
        .args([
            "-n",
            &requests.to_string(),
            "-c",
            &concurrency.min(requests).to_string(),
        ])
        .arg("-e")
        .arg(&percentiles)
        .arg(&url)
        .output()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("ab has failed at {url}: {}", error.trim()).into());
    }
    read(&printed, &fs::read_to_string(&percentiles)?)
}

fn read(printed: &str, percentiles: &str) -> Result<Measured> {
    let optional = |start: &str| ab::value(printed, start).unwrap_or_default() as u64;
    let (failed, other) = (optional("Failed requests:"), optional("Non-2xx responses:"));
    Ok(Measured {
        rate: ab::value(printed, "Requests per second:")?,
        p50: ab::value(percentiles, "50,")?,
        p90: ab::value(percentiles, "90,")?,
        p99: ab::value(percentiles, "99,")?,
        // The file's last line is 99, which rounds; the table of what was printed ends with the longest.
        longest: ab::value(printed, "Total:")
            .map_or_else(|_| ab::value(percentiles, "100,"), |_| longest(printed))?,
        failed: failed.max(other),
        requests: ab::value(printed, "Complete requests:")? as u64,
        ..Measured::default()
    })
}

/// `Total: min mean[+/-sd] median max`.
fn longest(printed: &str) -> Result<f64> {
    let line = printed.lines().find(|line| line.starts_with("Total:"));
    let last = line.and_then(|line| line.split_whitespace().last());
    last.and_then(|last| last.parse().ok())
        .ok_or_else(|| "ab has reported no longest time".into())
}

/// Begins `rate` requests a second, whether or not earlier ones have ended, and times each from the moment it was due: a
/// service that stalls is not spared the requests that would have come meanwhile.
pub(crate) fn open(port: u16, path: &str, requests: u32, rate: u32) -> Result<Measured> {
    let request = client::get(path, false);
    let next = Arc::new(AtomicU64::new(0));
    let began = Instant::now() + Duration::from_millis(200);
    let threads: Vec<_> = (0..MOST.min(requests))
        .map(|_| {
            let (request, next) = (request.clone(), next.clone());
            thread::Builder::new().stack_size(64 * 1024).spawn(move || {
                let (mut client, mut times, mut failed) = (Client::new(port), Vec::new(), 0);
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= u64::from(requests) {
                        return (times, failed);
                    }
                    let due = began + Duration::from_secs_f64(number as f64 / f64::from(rate));
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    let answer = client.send(&request);
                    times.push(due.elapsed().as_secs_f64() * 1000.0);
                    failed += u64::from(!answer.is_ok_and(|answer| answer.status < 300));
                }
            })
        })
        .collect();
    let (mut times, mut failed) = (Vec::new(), 0);
    for thread in threads {
        let (mut own, lost) = thread?
            .join()
            .map_err(|_| "a thread of the load panicked")?;
        times.append(&mut own);
        failed += lost;
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Ok(Measured {
        rate: times.len() as f64 / began.elapsed().as_secs_f64(),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        longest: at(1.0),
        failed,
        requests: times.len() as u64,
        ..Measured::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
Complete requests:      5000
Failed requests:        7
   (Connect: 0, Receive: 0, Length: 7, Exceptions: 0)
Non-2xx responses:      12
Requests per second:    3864.11 [#/sec] (mean)
              min  mean[+/-sd] median   max
Total:          1   16   3.9     16      52
";

    #[test]
    fn a_load_with_failures_is_a_result_too() {
        let percentiles = "Percentage served,Time in ms\n50,16.4\n90,20.1\n99,30.25\n";
        let measured = read(PRINTED, percentiles).unwrap();
        assert_eq!((measured.rate, measured.failed), (3864.11, 12));
        assert_eq!(
            (measured.p50, measured.p99, measured.longest),
            (16.4, 30.25, 52.0)
        );
        assert!(read("", percentiles).is_err());
    }
}
