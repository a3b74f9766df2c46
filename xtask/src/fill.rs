//! `cargo xtask fill`: as many reservations as one likes.

use std::io;
use std::path::Path;
use std::process::Command;

use crate::database::{self, Database};
use crate::dev;
use crate::given::Sample;
use crate::libpq;
use crate::output::{Result, progress, say};
use crate::rows::{Options, grouped};

const HELP: &str = "\
Fills an empty database with reservations of ten years, a tenth as many customers, and fitting resources: the more rows,
the denser. It is the database that DATABASE_URL names, if that is on this machine, or else the private one of `cargo dev`,
which must not be running. 100,000 rows take ten seconds, 10,000,000 a quarter of an hour and 8 GB.

cargo xtask fill --rows N [options]
  --fresh       begin with an empty private database
  --help        print this";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let Some(options) = Options::read(arguments, HELP)? else {
        say(HELP);
        return Ok(());
    };
    let [rows] = options.rows[..] else {
        return Err(format!("how many rows? Say it once.\n\n{HELP}").into());
    };
    let given = database::given()?;
    if let Some(given) = &given {
        given.takes_sample(Sample::Yes)?;
    }
    let database = Database::open(given, options.fresh, false)?;
    progress(format_args!(
        "Filling {database} with {} reservations",
        grouped(rows)
    ));
    let outcome = dev::build(true, false).and_then(|programs| {
        migrate(&programs, database.url())?;
        add(&programs, database.url(), rows)
    });
    // Also after an error.
    database.close()?;
    outcome
}

pub(crate) fn migrate(programs: &Path, url: &str) -> Result<()> {
    run_program(programs, &["customer", "migrate"], url)
}

/// Fills a migrated database, and says how far it is.
pub(crate) fn add(programs: &Path, url: &str, rows: u64) -> Result<()> {
    run_program(programs, &["sample", "fill", &rows.to_string()], url)
}

fn run_program(programs: &Path, command: &[&str], url: &str) -> Result<()> {
    let mut program = Command::new(programs.join(command[0]));
    program
        .args(&command[1..])
        .env("DATABASE_URL", url)
        .env("RUST_LOG", "warn")
        // It says how far it is; what a command prints is its result.
        .stdout(io::stderr());
    match database::given()? {
        Some(given) if given.url() == url => drop(program.envs(libpq::variables())),
        _ => libpq::keep_from(&mut program),
    }
    match program.status()?.success() {
        true => Ok(()),
        false => Err(format!("`{}` failed: see above", command.join(" ")).into()),
    }
}
