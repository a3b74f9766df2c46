//! Clients that begin and do not go on: each is closed in time, and the others do not notice them.

mod bystander;
mod crowd;
mod few;
mod kinds;
mod sockets;

use std::path::Path;
use std::time::{Duration, Instant};

use local_postgres::Cluster;

use self::bystander::{Now, Phase, Seen};
use self::crowd::Crowd;
use self::kinds::{KINDS, Kind};
use super::files;
use super::report::{Limits, Report, figure};
use super::stage::{Instance, Stage};
use super::times::milliseconds;
use crate::memory::Program;
use crate::output::{Result, progress};

/// How long the other clients are measured alone.
const ALONE: Duration = Duration::from_secs(5);

/// So long after the last has come, or sooner, the lists that nobody reads are made and sent. What that costs is the
/// cost of lists, not that of waiting.
const COMING: Duration = Duration::from_secs(8);

/// So long after the last has come none should be connected.
const WATCHED: Duration = Duration::from_secs(25);

const LOOK: Duration = Duration::from_millis(250);

/// The system keeps up to 3 MB for each that does not read; that is 14,000 lists for a hundred of them.
const MOST_UNREAD: usize = 100;

/// Rows enough for lists of 100.
const ROWS: &str = "
    insert into customer (id, name, email)
    select gen_random_uuid(), 'Customer ' || n, 'customer.' || n || '@example.com' from generate_series(1, 1000) as n";

const NAMES: [&str; 2] = ["/livez", "/api/customers/{id}"];

/// Megabytes that the service has.
struct Memory {
    before: f64,
    peak: f64,
    after: f64,
}

pub(crate) fn run(programs: &Path, clients: u32) -> Result<Report> {
    let limit = files::raise()?;
    let mut stage = Stage::new(programs, Cluster::temporary()?)?;
    let mut instance = Instance::new("customer", "customer")?;
    instance.under = files::limited(limit);
    // What is tested are the deadlines; a connection that makes room for another one has not met its own.
    instance
        .variables
        .push(("MAX_CONNECTIONS", limit.to_string()));
    let parent = stage.start_ready(&instance)?;
    let program = Program::find(parent, instance.package);
    stage.sql(ROWS)?;
    let id = stage.sql("select id from customer limit 1")?;
    let path = format!("/api/customers/{id}");

    let (asked, unread) = (clients as usize, (clients as usize / 10).min(MOST_UNREAD));
    let count = asked.min((files::room(limit) - unread) / 3);
    let mut report = Report::new(format!("Slow clients: {count} of each kind at once"));
    if count < asked {
        report.note(format!(
            "Fewer than {asked}: a process may have {limit} files open here, and clients have about 28,000 ports."
        ));
    }
    let now = Now::default();
    let load = bystander::start(instance.port, &["/livez", &path], &now)?;
    let (crowds, memory) = watch(&mut stage, instance.port, [count, unread], &now, &program)?;
    let mut seen = [Seen::default(), Seen::default()];
    for (index, more) in load.finish()? {
        seen[index].merge(&more);
    }
    tell(&mut report, &crowds, &seen, &memory);
    few::run(&mut stage, &mut report)?;
    stage.stop();
    Ok(report)
}

/// Lets them all come and waits until they have gone, or should have.
fn watch(
    stage: &mut Stage,
    port: u16,
    [count, unread]: [usize; 2],
    now: &Now,
    program: &Program,
) -> Result<(Vec<Crowd>, Memory)> {
    progress("slow-clients: the other clients alone");
    stage.pause(ALONE)?;
    let before = program.megabytes();
    now.set(Phase::Coming);
    let open = |kind| {
        let count = if kind == Kind::NeverReads {
            unread
        } else {
            count
        };
        Crowd::open(kind, count, port)
    };
    let mut crowds: Vec<_> = KINDS.into_iter().map(open).collect();
    let (began, mut complete, mut peak, mut unread) = (Instant::now(), None, before, 0);
    for look in 0_u32.. {
        stage.pause(LOOK)?;
        crowds.iter_mut().for_each(Crowd::take_in);
        let held = sockets::held(port)?;
        crowds
            .iter_mut()
            .for_each(|crowd| crowd.take_out(&held.clients));
        peak = peak.max(program.megabytes());
        if look.is_multiple_of(8) {
            tell_progress(&crowds, began.elapsed(), peak);
        }
        if complete.is_none() && crowds.iter().all(|crowd| crowd.complete) {
            complete = Some(Instant::now());
        }
        let since = complete.map(|complete| complete.elapsed());
        let all_sent = held.unread > 0 && held.unread == unread;
        if since.is_some_and(|since| all_sent || since > COMING) {
            now.set(Phase::Waiting);
        }
        unread = held.unread;
        let all_gone = crowds.iter().all(|crowd| crowd.open_count() == 0);
        if since.is_some_and(|since| all_gone || since > WATCHED) {
            break;
        }
    }
    stage.pause(Duration::from_secs(2))?;
    let after = program.megabytes();
    Ok((
        crowds,
        Memory {
            before,
            peak,
            after,
        },
    ))
}

fn tell_progress(crowds: &[Crowd], elapsed: Duration, peak: f64) {
    let open = crowds
        .iter()
        .map(|crowd| format!("{}: {}", crowd.kind.title(), crowd.open_count()));
    progress(format_args!(
        "slow-clients: open after {:.1} s: {}; at most {peak:.1} MB",
        elapsed.as_secs_f64(),
        open.collect::<Vec<_>>().join(", ")
    ));
}

fn tell(report: &mut Report, crowds: &[Crowd], seen: &[Seen; 2], memory: &Memory) {
    for crowd in crowds {
        tell_crowd(report, crowd);
    }
    for (name, seen) in NAMES.iter().zip(seen) {
        tell_bystander(report, name, seen);
    }
    let Memory {
        before,
        peak,
        after,
    } = memory;
    report.tell(
        "memory of the service before, at most, after",
        format_args!("{before:.1}, {peak:.1}, {after:.1} MB"),
    );
}

fn tell_crowd(report: &mut Report, crowd: &Crowd) {
    let (title, closed) = (crowd.kind.title(), crowd.closed.count());
    let all = closed + crowd.open_count() as u64;
    report.promise(
        format!("{title}: closed"),
        format_args!("{closed} of {all}"),
        "all",
        closed == all,
    );
    let deadline = crowd.kind.deadline().as_secs_f64();
    // Looked at in steps, and a machine with other work is late to accept thousands who come at once.
    let limits = Limits {
        promised: deadline + 1.0,
        fails: deadline * 2.0,
    };
    let what = format!("{title}: the last closed after, deadline {deadline} s");
    report.at_most(what, crowd.closed.longest().as_secs_f64(), " s", limits);
    if crowd.kind.is_told() {
        let told = crowd.told;
        report.promise(
            format!("{title}: told 408"),
            format_args!("{told} of {all}"),
            "all",
            told == all,
        );
    }
    if crowd.not_connected > 0 {
        report.tell(format!("{title}: could not connect"), crowd.not_connected);
    }
}

fn tell_bystander(report: &mut Report, name: &str, seen: &Seen) {
    let [away, coming, waiting] =
        [Phase::Away, Phase::Coming, Phase::Waiting].map(|phase| seen.of(phase));
    for (what, times) in [("without slow clients", away), ("while they come", coming)] {
        let text = format!("p50 {:.2} ms, p99 {:.2} ms", times.p50(), times.p99());
        report.tell(format!("{name}: {what}"), text);
    }
    let text = format!(
        "p50 {:.2} ms, longest {:.0} ms",
        waiting.p50(),
        milliseconds(waiting.longest())
    );
    report.tell(format!("{name}: while they wait"), text);
    let limits = Limits {
        promised: away.p99() * 1.5,
        fails: (away.p99() * 3.0).max(50.0),
    };
    report.at_most(
        format!("{name}: p99 while they wait"),
        waiting.p99(),
        " ms",
        limits,
    );
    let ratio = waiting.p99() / away.p99();
    report.tell(
        format!("{name}: p99 beside that without them"),
        format_args!("{} ×", figure(ratio)),
    );
    report.promise(
        format!("{name}: requests without a 200"),
        seen.failed,
        "0",
        seen.failed == 0,
    );
}
