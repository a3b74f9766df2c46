//! `cargo dev`: PostgreSQL and both services, from nothing to ready, until Ctrl-C.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::database::{self, Database};
use crate::given::{Given, Sample};
use crate::output::{Result, say};
use crate::process::{Event, Process, Processes};
use crate::{ready, workspace};

const HELP: &str = "\
Starts a private PostgreSQL, migrates it, fills it with sample data and runs both services until Ctrl-C. The data is
kept for the next time. PostgreSQL is brought once where it is not installed; RESERVOIR_PG=system|bundled decides. With DATABASE_URL set (or in .env) that database is migrated and used instead;
sample data is put into it only if it is on this machine and you say so.

cargo dev [options]
  --fresh       begin with an empty database
  --sample      put sample data into the database that DATABASE_URL names, if it has no customers; do not ask
  --no-sample   put no sample data into an empty database
  --offline     fetch nothing: neither crates nor, where it is not installed, PostgreSQL
  --help        print this";

/// How long the services may take to be ready, migrations of another process included.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A service of this workspace; its package and its program have its name.
struct Service {
    name: &'static str,
    port: u16,
}

const SERVICES: [Service; 2] = [
    Service {
        name: "customer",
        port: 4004,
    },
    Service {
        name: "reservation",
        port: 4005,
    },
];

/// Whether the developer has asked to stop.
#[derive(PartialEq, Eq)]
enum Asked {
    ToGoOn,
    ToStop,
}

#[derive(Default)]
struct Options {
    fresh: bool,
    sample: Sample,
    offline: bool,
}

impl Options {
    /// `None` when only help is wanted.
    fn read(arguments: &[String]) -> Result<Option<Self>> {
        let mut options = Self::default();
        for argument in arguments {
            match argument.as_str() {
                "--fresh" => options.fresh = true,
                "--sample" => options.sample = Sample::Yes,
                "--no-sample" => options.sample = Sample::No,
                "--offline" => options.offline = true,
                "--help" | "-h" => return Ok(None),
                unknown => return Err(format!("there is no option `{unknown}`.\n\n{HELP}").into()),
            }
        }
        Ok(Some(options))
    }
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let Some(options) = Options::read(arguments)? else {
        say(HELP);
        return Ok(());
    };
    let given = database::given()?;
    let sample = takes_sample(given.as_ref(), options.sample)?;
    let started = Instant::now();
    check_ports(&SERVICES)?;
    // Before the build, which may take minutes: what is missing is said at once.
    let database = Database::open(given, options.fresh, options.offline)?;
    let dev = Dev {
        programs: build(sample, options.offline)?,
        database: &database,
        processes: Processes::new(),
    };
    dev.processes.report_signals()?;
    let outcome = dev.run(sample, started);
    // Last, and also after an error.
    database.close()?;
    outcome
}

/// Says which database is used, before anything is done with it, and whether sample data is put in.
fn takes_sample(given: Option<&Given>, asked_for: Sample) -> Result<bool> {
    let Some(given) = given else {
        return Ok(asked_for != Sample::No);
    };
    say(format_args!("Using {given}, which DATABASE_URL names."));
    given.takes_sample(asked_for)
}

/// The commonest mistake is a second `cargo dev`.
fn check_ports(services: &[Service]) -> Result<()> {
    for Service { name, port } in services {
        TcpListener::bind(("127.0.0.1", *port)).map_err(|error| {
            format!(
                "{name} needs port {port}, and something has it already ({error}).\n\
                 Is another `cargo dev` or `docker compose up` running? Stop it. `lsof -i :{port}` finds the process.\n\
                 To use other ports, change them in xtask/src/dev.rs."
            )
        })?;
    }
    Ok(())
}

/// Builds what will run and gives the folder of the programs, which is our own.
pub(crate) fn build(sample: bool, offline: bool) -> Result<PathBuf> {
    let mut cargo = workspace::cargo();
    cargo.arg("build");
    if offline {
        cargo.arg("--offline");
    }
    // `cargo run --release --package xtask -- dev` runs the services as they ship.
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let sample = sample.then_some("sample");
    for package in SERVICES.iter().map(|service| service.name).chain(sample) {
        cargo.args(["--package", package]);
    }
    if !cargo.status()?.success() {
        return Err("the services do not compile: see above".into());
    }
    let us = std::env::current_exe()?;
    Ok(us.parent().map(Path::to_owned).unwrap_or_default())
}

struct Dev<'a> {
    programs: PathBuf,
    database: &'a Database,
    processes: Processes,
}

impl Dev<'_> {
    fn run(mut self, sample: bool, started: Instant) -> Result<()> {
        let mut asked = self.run_to_end("customer", &["migrate"])?;
        if asked == Asked::ToGoOn && sample {
            asked = self.run_to_end("sample", &[])?;
        }
        if asked == Asked::ToStop {
            return Ok(());
        }
        self.start(&SERVICES)?;
        let outcome = self.serve(started);
        self.processes.stop();
        outcome
    }

    /// The build before it may have taken minutes: the ports are looked at again. A service that finds its port taken
    /// advises another PORT, which `cargo dev` sets itself.
    fn start(&mut self, services: &[Service]) -> Result<()> {
        check_ports(services)?;
        for Service { name, port } in services {
            let process = self.process(name, &[]).port(*port);
            self.processes.start(process)?;
        }
        Ok(())
    }

    /// Runs a program that does its work and ends; what it prints is shown only if it fails.
    fn run_to_end(&mut self, program: &str, arguments: &[&str]) -> Result<Asked> {
        let process = self.process(program, arguments);
        self.processes.start(process)?;
        loop {
            match self.processes.next(None) {
                Some(Event::Ended { status, .. }) if status.success() => {
                    self.processes.discard_output();
                    return Ok(Asked::ToGoOn);
                }
                Some(Event::Ended { name, status }) => {
                    let command = [&[name.as_str()], arguments].concat().join(" ");
                    return self.fail(&format!("`{command}` failed ({status}): see above"));
                }
                Some(Event::Signal) => {
                    self.processes.stop();
                    return Ok(Asked::ToStop);
                }
                None => {}
            }
        }
    }

    /// Waits until both services are ready, says so, and shows what they print until it is to stop.
    fn serve(&mut self, started: Instant) -> Result<()> {
        let mut waiting: Vec<&Service> = SERVICES.iter().collect();
        let deadline = Instant::now() + LONGEST_WAIT;
        loop {
            let pause = (!waiting.is_empty()).then_some(Duration::from_millis(10));
            match self.processes.next(pause) {
                Some(Event::Signal) => return Ok(()),
                Some(Event::Ended { name, status }) => {
                    return self.fail(&format!(
                        "{name} has ended by itself ({status}): see above. Everything is stopped."
                    ));
                }
                None => {}
            }
            let Some(Service { name, port }) = waiting.last() else {
                continue;
            };
            match ready::ask(*port) {
                Ok(()) => drop(waiting.pop()),
                Err(reason) if Instant::now() > deadline => {
                    let seconds = LONGEST_WAIT.as_secs();
                    return self.fail(&format!("{name} is not ready after {seconds} s: {reason}"));
                }
                Err(_) => {}
            }
            if waiting.is_empty() {
                self.welcome(started.elapsed());
                self.processes.show_output();
            }
        }
    }

    /// Shows what the services have printed, for the error refers to it.
    fn fail<T>(&mut self, error: &str) -> Result<T> {
        self.processes.show_output();
        Err(error.into())
    }

    fn process(&self, program: &str, arguments: &[&str]) -> Process {
        let path = self.programs.join(program);
        let process = Process::new(program, &path, arguments, self.database.url());
        match self.database {
            Database::Given(_) => process.libpq(),
            Database::Private { .. } => process,
        }
    }

    fn welcome(&self, time: Duration) {
        say(format_args!(
            "
Reservoir is ready ({:.1} s).

  customer      http://localhost:4004/api/customers
  reservation   http://localhost:4005/api/reservations
  the pool      http://localhost:4004/pool  http://localhost:4005/pool
  database      {}

Try, in another terminal:

  curl 'http://localhost:4004/api/customers?limit=3'
  curl 'http://localhost:4005/api/reservations?limit=3'
  ab -n 1000 -c 100 http://localhost:4004/api/customers

Ctrl-C stops everything.
",
            time.as_secs_f64(),
            self.database
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_taken_during_the_build_is_an_error_about_cargo_dev() {
        let given = Given::parse("postgres://localhost/shop".to_owned()).unwrap();
        let mut dev = Dev {
            programs: PathBuf::from("/nowhere"),
            database: &Database::Given(given),
            processes: Processes::new(),
        };
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let name = "customer";
        let error = dev.start(&[Service { name, port }]).unwrap_err();
        let error = error.to_string();
        for part in [
            &format!("customer needs port {port}"),
            "another `cargo dev`",
            &format!("lsof -i :{port}"),
            "xtask/src/dev.rs",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains("PORT"), "{error}");
    }

    #[test]
    fn an_unknown_option_is_an_error_that_lists_the_known_ones() {
        let error = run(&["--frehs".to_owned()]).unwrap_err().to_string();
        for part in [
            "`--frehs`",
            "--fresh",
            "--sample",
            "--no-sample",
            "--offline",
            "--help",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }
}
