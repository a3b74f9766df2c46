//! `cargo xtask compare`: what a request costs with our pool, with sqlx's own and with deadpool.

pub(crate) mod ab;
mod cpu;
pub(crate) mod machine;
mod services;
mod table;

use local_postgres::Cluster;

use self::ab::CONCURRENCY;
use self::services::{CONNECTIONS, NAMES, Services};
use self::table::Sample;
use crate::number::number;
use crate::output::{Result, progress, say};
use crate::{performance, release};

const HELP: &str = "\
Compares what a request costs: answered by our service customer, by plain axum and sqlx, and by axum and
deadpool-postgres (xtask/compare). The three run as they are released, with 20 connections each to one temporary
PostgreSQL of 10,000 customers. `ab` loads them in turn, 100 requests at a time, first by one row, then by a list of 20.
The tables go to standard output, everything else to standard error.

cargo xtask compare [options]
  --rounds N     rounds that count; one before them warms up (default: 5)
  --requests N   requests to each service in a round, for each table (default: 80000; a service should have work for
                 2 s or more, because its CPU time is counted in steps of 10 ms)
  --write        write the tables into docs/performance.md and two of their ratios into README.md
  --help         print this

With the defaults the load takes about two minutes. Leave the machine alone meanwhile.";

const DATABASE: &str = "compare";

/// A shorter load has too few steps of CPU time.
const LEAST_SECONDS: f64 = 2.0;

#[derive(Debug, PartialEq, Eq)]
struct Options {
    rounds: usize,
    requests: u32,
    write: bool,
}

impl Options {
    /// `None` when only help is wanted.
    fn read(arguments: &[String]) -> Result<Option<Self>> {
        let mut options = Self {
            rounds: 5,
            requests: 80_000,
            write: false,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut number = |least| number(argument, arguments.next(), least);
            match argument.as_str() {
                "--rounds" => options.rounds = number(1)? as usize,
                "--requests" => options.requests = number(CONCURRENCY)?,
                "--write" => options.write = true,
                "--help" | "-h" => return Ok(None),
                unknown => return Err(format!("there is no option `{unknown}`.\n\n{HELP}").into()),
            }
        }
        Ok(Some(options))
    }
}

/// What is asked for, and what the three services have answered, round by round.
struct Request {
    title: &'static str,
    route: &'static str,
    path: String,
    rounds: Vec<[Sample; NAMES.len()]>,
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let Some(options) = Options::read(arguments)? else {
        say(HELP);
        return Ok(());
    };
    // Before the build, which may take minutes: what is missing is said at once.
    let ab = ab::version()?;
    let commit = performance::commit()?;
    let programs = release::build(&services::BUILDS)?;
    progress("Starting a temporary PostgreSQL");
    let cluster = Cluster::temporary()?;
    cluster.create_database(DATABASE)?;
    let mut services = Services::new(&cluster, DATABASE, programs)?;
    let outcome = compare(&mut services, &options);
    // Also after an error.
    services.stop();
    let machine = format!("{}; commit {commit}", machine::describe(&cluster, &ab)?);
    let report = report(&outcome?, &options, &machine);
    say(&report);
    match options.write {
        true => performance::write_compared(&report),
        false => Ok(()),
    }
}

fn compare(services: &mut Services<'_>, options: &Options) -> Result<Vec<Request>> {
    progress("Starting the services");
    let id = services.start()?;
    let requests = [
        ("One row", "/api/customers/{id}"),
        ("List of 20", "/api/customers"),
    ];
    let mut requests = requests.map(|(title, route)| Request {
        title,
        route,
        path: route.replace("{id}", &id),
        rounds: Vec::new(),
    });
    for request in &requests {
        services.check_answers(&request.path)?;
    }
    for round in 0..=options.rounds {
        for request in &mut requests {
            let samples = run_round(services, request, round, options)?;
            if round > 0 {
                request.rounds.push(samples);
            }
        }
    }
    Ok(requests.into())
}

/// Each service once; who is first changes with the round.
fn run_round(
    services: &mut Services<'_>,
    request: &Request,
    round: usize,
    options: &Options,
) -> Result<[Sample; NAMES.len()]> {
    let mut samples = [Sample::default(); NAMES.len()];
    for turn in 0..NAMES.len() {
        let index = (round + turn) % NAMES.len();
        samples[index] = services.load(index, &request.path, options.requests)?;
    }
    let rates = NAMES.iter().zip(&samples);
    let rates = rates.map(|(name, sample)| format!("{name} {:.0}/s", sample.rate));
    progress(format_args!(
        "{}, {}: {}",
        match round {
            0 => "Warm-up".to_owned(),
            _ => format!("Round {round} of {}", options.rounds),
        },
        request.title.to_lowercase(),
        rates.collect::<Vec<_>>().join(", ")
    ));
    Ok(samples)
}

fn report(requests: &[Request], options: &Options, machine: &str) -> String {
    let mut report = format!(
        "{machine}; --rounds {} --requests {}, {CONCURRENCY} at a time; {CONNECTIONS} connections each.",
        options.rounds, options.requests
    );
    for request in requests {
        let Request { title, route, .. } = request;
        let table = table::table(&NAMES, &request.rounds);
        report += &format!("\n\n{title}, `GET {route}`:\n\n{table}");
    }
    let shortest = shortest_load(requests, options);
    if shortest < LEAST_SECONDS {
        progress(format_args!(
            "\nThe shortest load took {shortest:.1} s: too short for CPU time that is counted in steps of 10 ms.\n\
             With more --requests, so that each takes {LEAST_SECONDS} s or more, it can be trusted."
        ));
    }
    report
}

/// In seconds.
fn shortest_load(requests: &[Request], options: &Options) -> f64 {
    let rounds = requests.iter().flat_map(|request| &request.rounds);
    let times = rounds
        .flatten()
        .map(|sample| f64::from(options.requests) / sample.rate);
    times.fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Option<Options>> {
        let arguments: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        Options::read(&arguments)
    }

    #[test]
    fn options_have_defaults_and_limits() {
        let options = read("--rounds 1 --requests 2000").unwrap();
        let (rounds, requests, write) = (1, 2000, false);
        assert_eq!(
            options,
            Some(Options {
                rounds,
                requests,
                write
            })
        );
        assert_eq!(read("").unwrap().map(|options| options.rounds), Some(5));
        assert_eq!(read("--rounds 3 --help").unwrap(), None);
        for (line, part) in [
            (
                "--rounds 0",
                "--rounds takes a whole number, 1 or more, and was given 0",
            ),
            ("--requests 99", "100 or more, and was given 99"),
            ("--rounds", "was given nothing"),
            ("--round 1", "there is no option `--round`"),
        ] {
            let error = read(line).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
