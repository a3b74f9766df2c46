//! The services as they are released: optimized, with nothing of our own environment.

use std::path::{Path, PathBuf};

use crate::output::Result;
use crate::workspace;

/// What would make a service another one than a default one.
pub(crate) const IN_THE_WAY: [&str; 15] = [
    "APP_ENV",
    "BODY_TIMEOUT",
    "DATABASE_URL_FILE",
    "HEADER_TIMEOUT",
    "KEEP_ALIVE_TIMEOUT",
    "LOG_QUERIES",
    "MAX_CONNECTIONS",
    "MIGRATE",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "POOL_PAGE",
    "REQUEST_TIMEOUT",
    "RUST_LOG",
    "SERVER_TIMING",
    "SHUTDOWN_DELAY",
    "SHUTDOWN_TIMEOUT",
];

/// Builds these groups of packages, one group after the other, and gives the folder of the programs.
pub(crate) fn build(groups: &[&[&str]]) -> Result<PathBuf> {
    build_with(groups, &[])
}

/// The same programs with the names of their functions, which does not change their code. Everything they depend on is
/// shared with [`build`]; both put a program where the other one does.
pub(crate) fn build_with_names(groups: &[&[&str]]) -> Result<PathBuf> {
    let packages = groups.iter().flat_map(|packages| *packages);
    let settings: Vec<_> = packages
        .map(|package| format!("profile.release.package.{package}.strip=\"none\""))
        .collect();
    build_with(groups, &settings)
}

fn build_with(groups: &[&[&str]], settings: &[String]) -> Result<PathBuf> {
    for packages in groups {
        let mut cargo = workspace::cargo();
        cargo.args(["build", "--release", "--locked"]);
        for package in *packages {
            cargo.args(["--package", package]);
        }
        for setting in settings {
            cargo.args(["--config", setting]);
        }
        if !cargo.status()?.success() {
            return Err("the services do not compile: see above".into());
        }
    }
    // Ours is target/debug/xtask, or target/release/xtask.
    let us = std::env::current_exe()?;
    let target = us.ancestors().nth(2).map(Path::to_owned);
    Ok(target.unwrap_or_default().join("release"))
}
