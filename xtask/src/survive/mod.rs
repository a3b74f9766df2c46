//! `cargo xtask survive`: does the services harm, and checks that nothing is lost.

pub(crate) mod client;
mod crashes;
mod files;
mod load;
mod options;
mod overload;
mod report;
mod restarts;
mod slow;
pub(crate) mod stage;
mod times;
mod witness;

use std::path::{Path, PathBuf};

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
  overload         ten times as many requests as can be served: as many are served as before, the others told at once

  --rounds N       restarts: so many rounds, in each of which both instances are restarted (default: 10)
                   crashes: so many harms, half of them to a service, half to PostgreSQL (default: 10)
  --clients N      slow-clients: so many of each kind (default: 1000)
  --seconds N      overload: so long with the pool's queue_target; first, for 30 s at most, without (default: 30)
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
    let programs = build(&options)?;
    let mut broken = false;
    for part in &options.parts {
        broken |= run_part(*part, &programs, &options)?;
    }
    if broken {
        return Err("a promise is broken: see above".into());
    }
    progress("Every promise was kept.");
    Ok(())
}

fn build(options: &Options) -> Result<PathBuf> {
    // In one build, so that each dependency has the same features in all.
    let packages: &[&str] = match options.parts.contains(&Part::Overload) {
        true => &["customer", "reservation", "sleeper"],
        false => &["customer", "reservation"],
    };
    release::build(&[packages])
}

/// Whether a promise is broken.
fn run_part(part: Part, programs: &Path, options: &Options) -> Result<bool> {
    let &Options {
        rounds,
        seconds,
        clients,
        stall_ms,
        delay,
        ..
    } = options;
    let restarts = restarts::Options {
        rounds,
        stall_ms,
        delay,
    };
    Ok(match part {
        Part::Restarts => tell(restarts::run(programs, &restarts)?),
        Part::Crashes => tell(crashes::run(programs, rounds)?),
        Part::SlowClients => tell(slow::run(programs, clients)?),
        Part::Overload => {
            // For comparison only: as long as it takes to see it.
            let without = tell(overload::run(programs, seconds.min(30), false)?);
            tell(overload::run(programs, seconds, true)?) || without
        }
    })
}

fn tell(report: Report) -> bool {
    say(&report);
    report.is_broken()
}
