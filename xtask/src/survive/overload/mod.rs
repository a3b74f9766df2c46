//! Ten times as many requests as can be served: as many are served as before, and the others are told so at once.

mod generator;
mod schedule;

use std::path::Path;
use std::time::{Duration, Instant};

use local_postgres::Cluster;

use self::generator::{Seen, SoFar};
use self::schedule::{Phase, Schedule};
use super::files;
use super::report::{Limits, Report};
use super::stage::{Instance, Stage};
use super::times::milliseconds;
use crate::output::{Result, progress};

/// Ten connections and statements of 20 ms: 500 requests a second, of which a generator on the same machine can make
/// ten times as many.
const CONNECTIONS: u32 = 10;
const STATEMENT_MS: f64 = 20.0;

const TIMES_PEAK: f64 = 10.0;

/// A load that leaves room, before and after.
const SHARE: f64 = 0.7;

/// The length of the phases beside the overload, in seconds.
const BESIDE: f64 = 5.0;

/// How long a caller may wait for a connection, with the setting.
const TARGET_MS: f64 = 200.0;

/// A queue is cut when it has been too long for a second, so an overload begins with a queue of that second's callers.
const ONSET: f64 = 3.0;

/// The phases; what is promised holds for an overload after its onset.
const BEFORE: usize = 0;
const BEGUN: usize = 1;
const OVERLOAD: usize = 2;
const AFTER: usize = 4;

/// One run: `target` is whether the pool bounds the wait.
pub(crate) fn run(programs: &Path, seconds: u32, target: bool) -> Result<Report> {
    let limit = files::raise()?;
    let mut stage = Stage::new(programs, Cluster::temporary()?)?;
    let mut instance = Instance::new("sleeper", "sleeper")?;
    instance.under = files::limited(limit);
    instance.pool = format!("connection_limit={CONNECTIONS}");
    if target {
        instance.pool += &format!("&queue_target={TARGET_MS}ms");
    }
    stage.start_ready(&instance)?;
    let path = format!("/api/sleep?ms={STATEMENT_MS}");
    let peak = peak(&mut stage, instance.port, &path)?;
    let phase = |share, seconds| Phase {
        rate: peak * share,
        seconds,
    };
    let schedule = Schedule([
        phase(SHARE, BESIDE),
        phase(TIMES_PEAK, ONSET),
        phase(TIMES_PEAK, f64::from(seconds)),
        phase(SHARE, BESIDE),
        phase(SHARE, BESIDE),
    ]);
    let seen = overload(
        &mut stage,
        instance.port,
        &path,
        &schedule,
        files::room(limit),
    )?;
    stage.stop();
    let with = if target { "with" } else { "without" };
    let title = format!("Overload: {TIMES_PEAK} × the peak for {seconds} s, {with} queue_target");
    let mut report = Report::new(title);
    report.tell("peak of a closed loop", format_args!("{peak:.0}/s"));
    tell(&mut report, &schedule, &seen, peak, target);
    Ok(report)
}

/// Requests a second of twice as many clients as there are connections.
fn peak(stage: &mut Stage, port: u16, path: &str) -> Result<f64> {
    progress("overload: a closed loop, to find the peak");
    let so_far = SoFar::default();
    let load = generator::closed(port, path, CONNECTIONS * 2, &so_far)?;
    stage.pause(Duration::from_secs(1))?;
    let (began, [before, ..]) = (Instant::now(), so_far.get());
    stage.pause(Duration::from_secs_f64(BESIDE))?;
    let ([after, ..], elapsed) = (so_far.get(), began.elapsed());
    load.finish()?;
    match after - before {
        0 => Err("the service has answered nothing".into()),
        count => Ok(count as f64 / elapsed.as_secs_f64()),
    }
}

fn overload<const N: usize>(
    stage: &mut Stage,
    port: u16,
    path: &str,
    schedule: &Schedule<N>,
    most: usize,
) -> Result<[Seen; N]> {
    let so_far = SoFar::default();
    let load = generator::open(port, path, schedule, most, &so_far)?;
    let (began, length) = (Instant::now(), schedule.length() + Duration::from_secs(1));
    // A line now and then, also where it takes an hour.
    let step = (length / 60).max(Duration::from_secs(5));
    while began.elapsed() < length {
        let left = length.saturating_sub(began.elapsed());
        stage.pause(left.min(step))?;
        stage.discard_output();
        let ([accepted, refused, failed], seconds) = (so_far.get(), began.elapsed().as_secs());
        progress(format_args!(
            "overload: {seconds} s of {}: {accepted} served, {refused} refused, {failed} failed",
            length.as_secs()
        ));
    }
    load.finish()
}

fn tell<const N: usize>(
    report: &mut Report,
    schedule: &Schedule<N>,
    seen: &[Seen; N],
    peak: f64,
    target: bool,
) {
    let phase = schedule.0[OVERLOAD];
    let over = &seen[OVERLOAD];
    tell_offered(report, over, phase);
    let onset = &seen[BEGUN];
    report.tell(
        format!("the first {ONSET} s of it"),
        format_args!(
            "served p99 {:.0} ms, refused p99 {:.0} ms",
            onset.accepted.p99(),
            onset.refused.p99()
        ),
    );
    let goodput = over.served as f64 / phase.seconds / peak * 100.0;
    let [accepted, refused] = [over.accepted.p99(), over.refused.p99()];
    report.tell(
        "served during the overload",
        format_args!(
            "p50 {:.0} ms, longest {:.0} ms",
            over.accepted.p50(),
            milliseconds(over.accepted.longest())
        ),
    );
    if target {
        report.at_least("goodput beside the peak", goodput, " %", limits(95.0, 85.0));
        let longest = TARGET_MS + STATEMENT_MS;
        report.at_most(
            "p99 of what was served",
            accepted,
            " ms",
            limits(longest, longest * 1.5),
        );
        report.at_most("p99 of refusals", refused, " ms", limits(10.0, 200.0));
    } else {
        report.tell("goodput beside the peak", format_args!("{goodput:.1} %"));
        report.tell("p99 of what was served", format_args!("{accepted:.0} ms"));
        report.tell("p99 of refusals", format_args!("{refused:.1} ms"));
    }
    let failed: u64 = seen.iter().map(|seen| seen.failed).sum();
    report.promise(
        "answers that are neither 204 nor 503 with Retry-After",
        failed,
        "0",
        failed == 0,
    );
    tell_after(report, &seen[BEFORE], &seen[AFTER], target);
}

fn tell_offered(report: &mut Report, seen: &Seen, phase: Phase) {
    let Phase { rate, seconds } = phase;
    let offered = seen.late.count() as f64 / seconds;
    report.tell(
        "requests offered",
        format_args!(
            "{offered:.0}/s of {rate:.0}/s, p99 begun {:.1} ms late",
            seen.late.p99()
        ),
    );
    if offered < rate * 0.95 {
        report.note(format!(
            "The generator could not keep up on this machine: {} requests were left out.",
            seen.left_out
        ));
    }
}

/// Five seconds after the load has fallen, all is to be as it was before it rose.
fn tell_after(report: &mut Report, before: &Seen, after: &Seen, target: bool) {
    for (what, seen) in [("before", before), ("5 s after", after)] {
        let rate = seen.served as f64 / BESIDE;
        let (p99, refused) = (seen.accepted.p99(), seen.refused.count());
        report.tell(
            format!("at {SHARE} × the peak, {what}"),
            format_args!("{rate:.0}/s, p99 {p99:.0} ms, {refused} refused"),
        );
    }
    if target {
        let goodput = after.served as f64 / before.served.max(1) as f64 * 100.0;
        report.at_least(
            "goodput after beside that before",
            goodput,
            " %",
            limits(95.0, 85.0),
        );
        let p99 = before.accepted.p99();
        let most = limits(p99 * 1.5, (p99 * 3.0).max(p99 + 50.0));
        report.at_most("p99 after", after.accepted.p99(), " ms", most);
    }
}

fn limits(promised: f64, fails: f64) -> Limits {
    Limits { promised, fails }
}
