//! `cargo xtask survive`: does the services harm, and checks that nothing is lost.

mod client;
mod crashes;
mod load;
mod options;
mod report;
mod restarts;
mod slow;
mod stage;
mod times;

use std::path::Path;

use self::options::{Options, Part};
use self::report::Report;
use crate::output::{Result, progress, say};
use crate::release;

const HELP: &str = "\
Runs the services as they are released on a private PostgreSQL, does them harm, and checks what was promised. Tables go
to standard output, everything else to standard error. The exit code is 1 if a promise is broken.

cargo xtask survive [parts] [options]
  restarts         two instances behind haproxy are restarted in turn: no request fails or waits
  crashes          services are killed, PostgreSQL crashes: no acknowledged write is lost, none is made twice
  slow-clients     clients that begin and do not go on are closed in time, and others do not notice them

  --rounds N       restarts: so many rounds, in each of which both instances are restarted (default: 10)
                   crashes: so many harms, half of them to a service, half to PostgreSQL (default: 10)
  --clients N      slow-clients: so many of each kind (default: 1000)
  --stall-ms N     restarts: the longest that a request may take (default: 200)
  --without-delay  restarts: with SHUTDOWN_DELAY=0, to see what it is for; nothing is promised then
  --help           print this

Without a part all are run. Leave the machine alone meanwhile.";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let Some(options) = Options::read(arguments, HELP)? else {
        say(HELP);
        return Ok(());
    };
    if options.parts.contains(&Part::Restarts) {
        restarts::check()?;
    }
    let programs = release::build(&[&["customer", "reservation"]])?;
    let mut broken = false;
    for part in &options.parts {
        let report = run_part(*part, &programs, &options)?;
        broken |= report.is_broken();
        say(report);
    }
    if broken {
        return Err("a promise is broken: see above".into());
    }
    progress("Every promise was kept.");
    Ok(())
}

fn run_part(part: Part, programs: &Path, options: &Options) -> Result<Report> {
    let &Options {
        rounds,
        clients,
        stall_ms,
        delay,
        ..
    } = options;
    match part {
        Part::Restarts => restarts::run(
            programs,
            &restarts::Options {
                rounds,
                stall_ms,
                delay,
            },
        ),
        Part::Crashes => crashes::run(programs, rounds),
        Part::SlowClients => slow::run(programs, clients),
        _ => Err("not yet".into()),
    }
}
