//! What the figures were measured on, in one line.

use std::fs;
use std::process::Command;
use std::thread;

use local_postgres::Cluster;

use crate::output::Result;
use crate::workspace;

/// The date, the machine, and the versions of what takes part.
pub(crate) fn describe(cluster: &Cluster, ab: &str) -> Result<String> {
    let sql = "select current_date, split_part(current_setting('server_version'), ' ', 1)";
    let answer = cluster.sql("postgres", sql)?;
    let (date, postgres) = answer.split_once('|').unwrap_or((&answer, ""));
    let (processors, system, rustc) = (processors(), system(), rustc()?);
    Ok(format!(
        "{date}; {processors}; {system}; PostgreSQL {postgres}; {ab}; {rustc}"
    ))
}

/// The date, the machine and the compiler, where no database is at hand.
pub(crate) fn here() -> Result<String> {
    let date = Command::new("date").arg("+%F").output()?;
    let date = String::from_utf8_lossy(&date.stdout).into_owned();
    let (date, processors, system, rustc) = (date.trim(), processors(), system(), rustc()?);
    Ok(format!("{date}; {processors}; {system}; {rustc}"))
}

fn processors() -> String {
    let count = thread::available_parallelism().map_or(1, usize::from);
    let model = line("/proc/cpuinfo", "model name", ':');
    let model = model.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    format!("{count} × {model}")
}

/// The kernel's version without what its builder has added.
fn system() -> String {
    let name = line("/etc/os-release", "PRETTY_NAME", '=');
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.split(['-', '\n']).next().unwrap_or_default();
    match name {
        Some(name) => format!("{name}, kernel {kernel}"),
        None => std::env::consts::OS.to_owned(),
    }
}

/// What stands behind a name in a file of such lines.
fn line(file: &str, name: &str, separator: char) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let values = text.lines().filter_map(|line| {
        let (found, value) = line.split_once(separator)?;
        (found.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
    });
    values.into_iter().next()
}

fn rustc() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("--version")
        .current_dir(workspace::root())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split(" (").next().unwrap_or_default().to_owned())
}
