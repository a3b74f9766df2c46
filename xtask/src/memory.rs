//! How much memory a service has, where the system tells it (`/proc`).

use std::fs;

/// A program that was started, found among its parent's children.
pub(crate) struct Program {
    pid: Option<u32>,
}

impl Program {
    pub(crate) fn find(parent: u32, name: &str) -> Self {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let ours = |pid: &u32| is_child(*pid, parent, name).unwrap_or(false);
        Self {
            pid: { pids }.find(ours),
        }
    }

    /// Resident, in megabytes; 0 where nothing tells it.
    pub(crate) fn megabytes(&self) -> f64 {
        self.kilobytes().unwrap_or_default() / 1024.0
    }

    fn kilobytes(&self) -> Option<f64> {
        field(self.pid?, "VmRSS:")?.parse().ok()
    }
}

fn is_child(pid: u32, parent: u32, name: &str) -> Option<bool> {
    Some(field(pid, "PPid:")?.parse() == Ok(parent) && field(pid, "Name:")? == name)
}

/// The word behind a title in the process's `status`.
fn field(pid: u32, title: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(title))?;
    line.split_ascii_whitespace().next().map(str::to_owned)
}
