//! How many connections a process may have open.

use std::fs;
use std::process::Command;

use crate::output::Result;

/// What a process needs beside the connections that are counted.
const OTHERS: usize = 500;

/// Linux gives about 28,000 ports to the clients of one address.
const PORTS: usize = 25_000;

/// Raises our own limit of file descriptors as far as we may, and gives it.
pub(crate) fn raise() -> Result<u32> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let hard = hard(&limits).ok_or("/proc/self/limits says nothing of open files")?;
    let [us, limit] = [
        format!("--pid={}", std::process::id()),
        format!("--nofile={hard}:{hard}"),
    ];
    if !Command::new("prlimit")
        .args([us, limit])
        .status()?
        .success()
    {
        return Err("prlimit cannot raise our limit of open files".into());
    }
    Ok(hard)
}

/// What a program is started under to have that limit.
pub(crate) fn limited(limit: u32) -> Vec<String> {
    vec!["prlimit".to_owned(), format!("--nofile={limit}:{limit}")]
}

/// Connections that we and the service can have, each with that limit.
pub(crate) fn room(limit: u32) -> usize {
    (limit as usize).saturating_sub(OTHERS).min(PORTS)
}

fn hard(limits: &str) -> Option<u32> {
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    let hard = line.split_ascii_whitespace().nth(4)?;
    Some(hard.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hard_limit_is_the_second() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units
Max open files            1024                 20000                files";
        assert_eq!(hard(limits), Some(20_000));
        assert_eq!(room(20_000), 19_500);
        assert_eq!(room(1_000_000), PORTS);
    }
}
