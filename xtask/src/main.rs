//! The developer's commands: `cargo dev` and `cargo xtask …`.

#![warn(clippy::too_many_lines)]

mod compare;
mod cost;
mod database;
mod dev;
mod fill;
mod filters;
mod given;
mod http;
mod libpq;
mod load;
mod memory;
mod number;
mod output;
mod performance;
mod prepare;
mod process;
mod ready;
mod release;
mod rows;
mod structure;
mod survive;
mod touch;
mod workspace;

use std::process::ExitCode;

use crate::output::{Result, say};

const HELP: &str = "\
The developer's commands of this workspace.

cargo xtask dev [options]                 start PostgreSQL and both services (alias: cargo dev)
cargo xtask fill --rows N                 put N reservations into an empty database
cargo xtask filters [--rows N]…           what every combination of the lists' filters costs, as a table
cargo xtask prepare [--check]             renew the query data in .sqlx, or only tell whether it is stale
cargo xtask load [options]                load a service, watch its pool, draw a report, recommend a limit
cargo xtask compare [options]             compare a request's cost with that of plain sqlx and of deadpool
cargo xtask cost [--write]                count a request's instructions and allocations, and hold them to the budget
cargo xtask survive [parts] [options]     do the services harm, and check that nothing is lost
cargo xtask structure                     check imports and the lengths of files and functions

Each explains itself with --help.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    match arguments
        .split_first()
        .map(|(command, options)| (command.as_str(), options))
    {
        Some(("dev", options)) => dev::run(options),
        Some(("fill", options)) => fill::run(options),
        Some(("filters", options)) => filters::run(options),
        Some(("prepare", options)) => prepare::run(options),
        Some(("load", options)) => load::run(options),
        Some(("compare", options)) => compare::run(options),
        Some(("cost", options)) => cost::run(options),
        Some(("structure", options)) => structure::run(options),
        Some(("survive", options)) => survive::run(options),
        None | Some(("--help" | "-h" | "help", _)) => {
            say(HELP);
            Ok(())
        }
        Some((unknown, _)) => Err(format!("there is no command `{unknown}`.\n\n{HELP}").into()),
    }
}
