//! Instances that are restarted one after the other behind a balancer: no request fails, and none has to wait.

mod balancer;
mod clients;

use std::path::Path;
use std::time::{Duration, Instant};

use local_postgres::Cluster;

use self::balancer::Balancer;
use self::clients::{KINDS, SoFar, Tally};
use super::report::Report;
use super::stage::{Instance, Stage};
use super::times::milliseconds;
use super::witness::Witness;
use crate::output::{Result, progress};

/// The load alone, before the first restart and after each.
const REST: Duration = Duration::from_millis(500);

pub(crate) struct Options {
    /// In each both instances are restarted.
    pub(crate) rounds: u32,
    /// The longest that a request may take.
    pub(crate) stall_ms: u32,
    /// Whether `/readyz` turns 503 before the service stops to accept.
    pub(crate) delay: bool,
}

impl Options {
    fn stall(&self) -> Duration {
        Duration::from_millis(self.stall_ms.into())
    }
}

/// What is missing is said before anything is built.
pub(crate) fn check() -> Result<()> {
    balancer::find().map(drop)
}

pub(crate) fn run(programs: &Path, options: &Options) -> Result<Report> {
    let mut stage = Stage::new(programs, Cluster::temporary()?)?;
    let delay = u8::from(options.delay);
    let mut instances = [
        Instance::new("customer", "customer-1")?,
        Instance::new("customer", "customer-2")?,
    ];
    for instance in &mut instances {
        instance
            .variables
            .push(("SHUTDOWN_DELAY", delay.to_string()));
        stage.start_ready(instance)?;
    }
    let balancer = Balancer::start(&mut stage, &instances)?;
    let so_far = SoFar::default();
    let load = clients::start(balancer.port, options.stall(), &so_far)?;
    let witness = Witness::start()?;
    let began = Instant::now();
    stage.pause(REST)?;
    for round in 1..=options.rounds {
        for instance in &instances {
            let told = restart(&mut stage, &balancer, instance)?;
            let rounds = options.rounds;
            progress(format_args!(
                "restarts: round {round} of {rounds}, {told}; {}",
                so_far.text()
            ));
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let results = load.finish()?;
    let mut report = report(&results, options, seconds);
    report.tell(
        "longest that the machine kept a thread with nothing to do",
        format_args!("{:.0} ms", milliseconds(witness.finish()?.longest())),
    );
    stage.stop();
    Ok(report)
}

/// Gives what there is to tell of it.
fn restart(stage: &mut Stage, balancer: &Balancer, instance: &Instance) -> Result<String> {
    let name = &instance.name;
    let asked = Instant::now();
    let status = stage.end(name, "TERM")?;
    let stopped = asked.elapsed();
    if !status.success() {
        return Err(format!("{name} ends with {status} after SIGTERM").into());
    }
    stage.start_ready(instance)?;
    balancer.wait_until_up(stage, name)?;
    let back = asked.elapsed().saturating_sub(stopped);
    stage.pause(REST)?;
    stage.discard_output();
    let [stopped, back] = [stopped, back].map(|time| time.as_secs_f64());
    Ok(format!(
        "{name} stopped in {stopped:.2} s and was back after {back:.2} s"
    ))
}

fn report(results: &[(usize, Tally)], options: &Options, seconds: f64) -> Report {
    let delay = if options.delay { "1" } else { "0" };
    let restarts = options.rounds * 2;
    let title =
        format!("Restarts: {restarts} under load behind a balancer, SHUTDOWN_DELAY={delay}");
    let mut report = Report::new(title);
    let tallies = KINDS.iter().enumerate();
    let tallies = tallies.map(|(index, kind)| (kind, clients::merge(results, index)));
    let (mut requests, mut failed, mut longest) = (0, 0, 0.0_f64);
    for (kind, tally) in tallies {
        let times = &tally.times;
        report.tell(
            kind.title,
            format_args!(
                "{} requests, {} failed, p99 {:.1} ms, longest {:.0} ms",
                times.count(),
                tally.failed,
                times.p99(),
                milliseconds(times.longest())
            ),
        );
        for note in &tally.notes {
            report.note(format!("{}, {note}", kind.title));
        }
        requests += times.count();
        failed += tally.failed;
        longest = longest.max(milliseconds(times.longest()));
    }
    report.tell(
        "requests/s",
        format_args!("{:.0}", requests as f64 / seconds),
    );
    conclude(&mut report, options, failed, longest);
    report
}

fn conclude(report: &mut Report, options: &Options, failed: u64, longest: f64) {
    let stall = f64::from(options.stall_ms);
    let longest_text = format!("{longest:.0} ms");
    if options.delay {
        report.promise("failed requests", failed, "0", failed == 0);
        let promise = format!("≤ {stall} ms");
        report.promise("longest request", longest_text, &promise, longest <= stall);
        return;
    }
    // Nothing is promised here: that it fails shows that a failure would be seen above.
    report.tell("failed requests", failed);
    report.tell("longest request", longest_text);
    report.note(if failed > 0 || longest > stall {
        "Without the delay restarts are seen, as is to be expected: the balancer hides nothing."
    } else {
        "Without the delay nothing failed or stalled this time: luck."
    });
}
