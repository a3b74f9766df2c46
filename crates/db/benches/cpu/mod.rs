//! Processor time of this process and of a PostgreSQL server, where the system tells (`/proc`).

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The server's first process.
pub(crate) fn postmaster(data: &Path) -> u32 {
    fs::read_to_string(data.join("postmaster.pid"))
        .ok()
        .and_then(|text| text.lines().next()?.parse().ok())
        .unwrap_or_default()
}

/// User and system time so far: of this process, and of the server with its children.
pub(crate) fn used(postmaster: u32) -> Option<(Duration, Duration)> {
    let own = stat(&std::process::id().to_string())?.1;
    let mut server = Duration::ZERO;
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        if let Some((parent, time)) = stat(&entry.file_name().to_string_lossy())
            && (parent == postmaster
                || entry.file_name().to_string_lossy() == postmaster.to_string())
        {
            server += time;
        }
    }
    Some((own, server))
}

/// A process's parent and its processor time. The clock ticks a hundred times a second on every Linux.
fn stat(pid: &str) -> Option<(u32, Duration)> {
    pid.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(())?;
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?;
    Some((fields[1].parse().ok()?, Duration::from_millis(ticks * 10)))
}

/// Keeps a process and what it starts on the processor that this variable names, if it is set.
pub(crate) fn keep_on(variable: &str, process: u32) {
    let Ok(cpu) = std::env::var(variable) else {
        return;
    };
    let mut taskset = Command::new("taskset");
    let done = taskset.args(["-apc", &cpu, &process.to_string()]).output();
    if !done.is_ok_and(|done| done.status.success()) {
        println!("{variable}={cpu}: taskset failed, and the scheduler chooses");
    }
}
