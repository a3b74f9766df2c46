//! `cargo xtask load`: loads a service, watches its pool meanwhile, and draws what it saw.

mod drive;
mod exhaust;
mod measured;
mod options;
mod plot;
mod progress;
mod recommend;
mod report;
mod sample;
mod service;

use std::time::SystemTime;

use self::measured::Measured;
use self::options::{Options, PATH};
use self::progress::Progress;
use self::recommend::{Server, recommend};
use self::sample::Sampler;
use self::service::{Pool, Private};
use crate::compare::ab;
use crate::output::{Result, progress, say};
use crate::{http, release};

const HELP: &str = "\
Loads a service, watches its pool and the server ten times a second, and writes a report as HTML and as Markdown, with
a recommendation for connection_limit. The Markdown goes to standard output too.

cargo xtask load [options]
  --url URL          a service that runs on this machine (default: a private one, as it is released, on a PostgreSQL of
                     its own with 10,000 customers)
  --requests N       so many (default: 1000)
  --concurrency N    so many at a time, by ab (default: 100)
  --rate R           begin R a second instead, whether or not earlier ones have ended; each is timed from the moment it
                     was due
  --limits A,B,…     try these values of connection_limit, one after the other (default: 10)
  --exhaust          fill a pool of two with statements that wait for a lock: what clients see, what the service says,
                     and how it recovers; exit code 1 if it does not
  --output FILE      FILE.html and FILE.md (default: target/load/report)
  --help             print this

It needs ab (Debian: apache2-utils), but for --rate and --exhaust. Leave the machine alone meanwhile.";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let Some(options) = Options::read(arguments, HELP)? else {
        say(HELP);
        return Ok(());
    };
    if options.exhaust {
        return exhaust::run(&options);
    }
    if options.rate.is_none() {
        ab::version()?;
    }
    let (measured, usable) = match &options.running {
        Some((port, path)) => {
            let pool = Pool::of(*port)?;
            let usable = pool.number("usable").unwrap_or(97.0) as u32;
            (vec![load(*port, path, &options)?], usable)
        }
        None => each_limit(&options)?,
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let advice = recommend(&measured, &Server { cores, usable });
    report::write(&options, &measured, &advice)
}

/// Loads a private service with one limit after the other, and says how many connections the server gives.
fn each_limit(options: &Options) -> Result<(Vec<Measured>, u32)> {
    let programs = release::build(&[&["customer"]])?;
    let mut private = Private::new(&programs)?;
    let mut measured = Vec::new();
    for limit in &options.limits {
        let port = private.start(&format!("connection_limit={limit}"), None)?;
        // What is done once (connections, plans, caches) is no part of it.
        drive::open(port, PATH, 500, 1000)?;
        let began = SystemTime::now();
        private.watch()?;
        let mut one = load(port, PATH, options)?;
        one.active = private.watched(began)?;
        measured.push(one);
        private.end()?;
    }
    let sql = "select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int";
    let usable = private.stage.sql(sql)?.parse()?;
    private.stage.stop();
    Ok((measured, usable))
}

/// One load of the service on this port.
fn load(port: u16, path: &str, options: &Options) -> Result<Measured> {
    http::body(port, path).map_err(|reason| format!("GET {path} on port {port}: {reason}"))?;
    let before = Pool::of(port)?;
    let limit = before.number("limit").unwrap_or_default() as u32;
    let mut bar = Progress::new(limit, options.requests);
    let sampler = Sampler::start(port, move |sample| bar.show(sample));
    let folder = options.output.with_extension("parts");
    let measured = match options.rate {
        None => drive::closed(port, path, options.requests, options.concurrency, &folder),
        Some(rate) => drive::open(port, path, options.requests, rate),
    };
    let samples = sampler.stop()?;
    let _ = std::fs::remove_dir_all(&folder);
    let after = Pool::of(port)?;
    let more = |name: &str| {
        after.number(name).unwrap_or_default() - before.number(name).unwrap_or_default()
    };
    let measured = Measured {
        limit,
        wait_p99: after.wait_p99(),
        refused: more("timeouts") + more("shed"),
        samples,
        ..measured?
    };
    progress(format_args!(
        "connection_limit={limit}: {:.0} requests/s, p99 {:.1} ms, {} failed",
        measured.rate, measured.p99, measured.failed
    ));
    Ok(measured)
}
