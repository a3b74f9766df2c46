//! Processor time, where the system tells it (`/proc`).

use std::fs;
use std::time::Duration;

/// What one process has used so far.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    parent: u32,
    own: Duration,
    /// Of its children that have ended.
    ended: Duration,
}

/// User and system time of a process and of its children, those that have ended included.
pub(crate) fn used(pid: u32) -> Option<Duration> {
    let first = read(&pid.to_string())?;
    let mut time = first.own + first.ended;
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let child = read(&entry.file_name().to_string_lossy());
        if let Some(child) = child.filter(|child| child.parent == pid) {
            time += child.own;
        }
    }
    Some(time)
}

/// `None` also for what is no process.
fn read(pid: &str) -> Option<Process> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The second field is the program's name in brackets, and may have any letter in it.
fn parse(stat: &str) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<u64> = rest
        .split_whitespace()
        .map(|field| field.parse().unwrap_or_default())
        .collect();
    let [_, parent, .., user, system, ended_user, ended_system] = fields.get(..15)? else {
        return None;
    };
    Some(Process {
        parent: u32::try_from(*parent).ok()?,
        own: ticks(user + system),
        ended: ticks(ended_user + ended_system),
    })
}

/// The clock of `/proc` ticks a hundred times a second on every Linux.
fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let stat = "42 (a) R (b)) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 30 20 20 0 9 0 1\n";
        let expected = Process {
            parent: 7,
            own: Duration::from_secs(2),
            ended: Duration::from_millis(500),
        };
        assert_eq!(parse(stat), Some(expected));
        assert_eq!(parse("42 (sh) S 7"), None);
        assert_eq!(parse("cpu  1 2 3"), None);
    }
}
