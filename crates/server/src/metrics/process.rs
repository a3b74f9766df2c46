//! What the process takes of the machine, read at each scrape, in Prometheus' text and names.
//!
//! It stands beside the recorder, whose counters are whole numbers: seconds of CPU are not.

use std::fmt::Write as _;
use std::fs;
use std::sync::LazyLock;

use rlimit::Resource;

/// Ticks in a second: so Linux tells programs the time of processes, on every machine.
const TICKS: f64 = 100.0;

/// The families. What the system does not say is left out, which is everything where there is no `/proc`.
pub(crate) fn text() -> String {
    let stat = Stat::read();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |key| number(&status, key).map(|kib| kib * 1024.0);
    let most_files = stat.as_ref().and_then(|_| Resource::NOFILE.get_soft().ok());
    #[rustfmt::skip]
    let families = [
        ("cpu_seconds_total", "counter", "CPU time, in seconds", stat.map(|stat| stat.cpu)),
        ("start_time_seconds", "gauge", "When it began, in seconds since 1970", *STARTED),
        ("resident_memory_bytes", "gauge", "Memory in use, in bytes", bytes("VmRSS:")),
        ("virtual_memory_bytes", "gauge", "Addresses in use, in bytes", bytes("VmSize:")),
        ("threads", "gauge", "Threads", number(&status, "Threads:")),
        ("open_fds", "gauge", "Files that are open", open_files().map(|files| files as f64)),
        ("max_fds", "gauge", "Files that may be open", most_files.map(|files| files as f64)),
    ];
    let mut text = String::with_capacity(1200);
    for (name, kind, help, value) in families {
        let Some(value) = value else { continue };
        let name = format!("process_{name}");
        let _ = write!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n"
        );
    }
    text
}

static STARTED: LazyLock<Option<f64>> = LazyLock::new(|| {
    let system = fs::read_to_string("/proc/stat").ok()?;
    let booted = number(&system, "btime")?;
    Some(booted + Stat::read()?.started)
});

/// Of `/proc/self/stat`, in seconds.
struct Stat {
    cpu: f64,
    /// Since the machine began.
    started: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name, which may have anything in it; the third comes after its bracket.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let seconds = |field: usize| -> Option<f64> {
            let ticks: f64 = fields.get(field - 3)?.parse().ok()?;
            Some(ticks / TICKS)
        };
        let (user, system) = (seconds(14)?, seconds(15)?);
        Some(Self {
            cpu: ((user + system) * TICKS).round() / TICKS,
            started: seconds(22)?,
        })
    }
}

/// The number after this word at the beginning of a line.
fn number(text: &str, key: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

fn open_files() -> Option<u64> {
    // Since Linux 6.2 the folder says how many are in it: counting 10,000 takes milliseconds.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64),
        files => Some(files),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_name_may_have_anything_in_it() {
        let rest =
            "S 1 2 3 0 -1 4194304 5 0 0 0 150 25 0 0 20 0 4 0 7700 1000 10 18446744073709551615";
        let stat = Stat::parse(&format!("42 (a) R (b c) {rest}")).unwrap();
        assert_eq!((stat.cpu, stat.started), (1.75, 77.0));
    }
}
