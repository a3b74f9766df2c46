//! Services that are killed and a PostgreSQL that crashes: no acknowledged write is lost, none is made twice.

mod ledger;
mod recovery;
mod writers;

use std::path::Path;
use std::time::{Duration, Instant};

use local_postgres::{Cluster, Stop};

use self::ledger::{Agreement, Open, Outcome, Write};
use self::recovery::{Acknowledged, Harm, REST};
use self::writers::{Count, Kind, Told};
use super::load::Load;
use super::report::Report;
use super::stage::{Instance, Stage};
use super::times::milliseconds;
use crate::output::{Result, progress};

/// As PostgreSQL comes, so that its recovery is what it would be elsewhere. A crash of the server, which is a process,
/// would lose no commit without them either.
const SETTINGS: [(&str, &str); 2] = [("fsync", "on"), ("full_page_writes", "on")];

/// In the order of the instances.
const KINDS: [Kind; 2] = [Kind::Customers, Kind::Reservations];

const CUSTOMERS: &str = "select id, email from customer where email like 'crash.%'";

const RESERVATIONS: &str = "
    select id, resource || to_char(starts_at at time zone 'UTC', ' YYYY-MM-DD HH24:MI')
    from reservation where status = 'confirmed'";

/// Without the constraint's index, which a crash might have damaged.
const OVERLAPS: &str = "
    select count(*) from (
        select starts_at, max(ends_at) over (
            partition by resource order by starts_at rows between unbounded preceding and 1 preceding
        ) as taken_until
        from reservation where status = 'confirmed'
    ) as reservation
    where starts_at < taken_until";

/// What is done harm, and what came of it.
struct Harms {
    title: &'static str,
    /// Whose writes are awaited.
    kinds: &'static [Kind],
    done: Vec<Harm>,
}

pub(crate) fn run(programs: &Path, rounds: u32) -> Result<Report> {
    let mut stage = Stage::new(programs, Cluster::temporary_with(&SETTINGS)?)?;
    let instances = [
        Instance::new("customer", "customer")?,
        Instance::new("reservation", "reservation")?,
    ];
    for instance in &instances {
        stage.start_ready(instance)?;
    }
    let customer = stage.sql(
        "insert into customer (id, name, email) values (gen_random_uuid(), 'Guest', 'guest@example.com') returning id",
    )?;
    let (mut load, count) = (Load::new(), Count::default());
    for (kind, instance) in KINDS.into_iter().zip(&instances) {
        writers::add(&mut load, kind, instance.port, &customer, &count)?;
    }
    stage.pause(REST)?;
    let harms = harm(&mut stage, &instances, rounds, &count)?;
    let told = load.finish()?;
    let report = report(&stage, &harms, told)?;
    stage.stop();
    Ok(report)
}

/// In turn: a service, PostgreSQL, the other service, PostgreSQL.
fn harm(
    stage: &mut Stage,
    instances: &[Instance; 2],
    rounds: u32,
    count: &Count,
) -> Result<[Harms; 3]> {
    let new = |title, kinds| Harms {
        title,
        kinds,
        done: Vec::new(),
    };
    let mut harms = [
        new("customer killed", &[Kind::Customers]),
        new("reservation killed", &[Kind::Reservations]),
        new("PostgreSQL crashed", &KINDS),
    ];
    for round in 0..rounds {
        let (index, done) = match round % 4 {
            0 => (0, kill(stage, &instances[0])?),
            2 => (1, kill(stage, &instances[1])?),
            _ => (2, crash(stage)?),
        };
        harms[index].done.push(done);
        stage.pause(REST)?;
        stage.discard_output();
        let (number, title, stored) = (round + 1, harms[index].title, count.get());
        let away = done.ready.duration_since(done.done).as_secs_f64();
        progress(format_args!(
            "crashes: {number} of {rounds}, {title}, away for {away:.2} s; {stored} writes acknowledged so far"
        ));
    }
    Ok(harms)
}

fn kill(stage: &mut Stage, instance: &Instance) -> Result<Harm> {
    let done = Instant::now();
    stage.end(&instance.name, "KILL")?;
    stage.start_ready(instance)?;
    let ready = Instant::now();
    Ok(Harm { done, ready })
}

fn crash(stage: &mut Stage) -> Result<Harm> {
    let done = Instant::now();
    stage.cluster().stop(Stop::Immediate)?;
    stage.cluster().start()?;
    let ready = Instant::now();
    Ok(Harm { done, ready })
}

fn report(stage: &Stage, harms: &[Harms; 3], told: Vec<(Kind, Told)>) -> Result<Report> {
    let count: usize = harms.iter().map(|harms| harms.done.len()).sum();
    let mut report = Report::new(format!("Crashes: {count} under a load of writes"));
    let mut all = KINDS.map(|_| Told::default());
    for (kind, told) in told {
        let all = &mut all[kind as usize];
        all.writes.extend(told.writes);
        all.acknowledged.extend(told.acknowledged);
    }
    let [customers, reservations] = all;
    let acknowledged =
        [&customers, &reservations].map(|told| Acknowledged::new(told.acknowledged.clone()));
    for harms in harms {
        tell_recovery(&mut report, harms, &acknowledged);
    }
    judge(
        &mut report,
        "customers",
        &customers.writes,
        &stage.sql(CUSTOMERS)?,
    );
    judge(
        &mut report,
        "reservations",
        &reservations.writes,
        &stage.sql(RESERVATIONS)?,
    );
    // No address is sent twice by its client: a conflict says that a statement was.
    let again = customers
        .writes
        .iter()
        .filter(|(_, outcome)| *outcome == Outcome::Conflict);
    let again = again.count();
    report.promise("customers: statements run twice", again, "0", again == 0);
    let overlaps = stage.sql(OVERLAPS)?;
    report.promise("reservations that overlap", &overlaps, "0", overlaps == "0");
    Ok(report)
}

/// `rows` as psql prints them.
fn judge(report: &mut Report, title: &str, writes: &[Write], rows: &str) {
    let rows: Vec<_> = rows.lines().filter_map(|row| row.split_once('|')).collect();
    let agreement = ledger::compare(writes, &rows);
    let Agreement {
        stored,
        lost,
        twice,
        unasked,
        ..
    } = &agreement;
    report.promise(
        format!("{title}: acknowledged writes"),
        stored,
        "> 0",
        *stored > 0,
    );
    for (what, count) in [
        ("lost", lost),
        ("there twice", twice),
        ("never asked for", unasked),
    ] {
        report.promise(format!("{title}: {what}"), count, "0", *count == 0);
    }
    for (what, Open { count, stored }) in [
        ("no answer", &agreement.unanswered),
        ("answered with an error", &agreement.refused),
    ] {
        report.tell(
            format!("{title}: {what}"),
            format_args!("{count}, of which {stored} are stored"),
        );
    }
    tell_answers(report, title, writes);
}

fn tell_answers(report: &mut Report, title: &str, writes: &[Write]) {
    let count = |wanted: &dyn Fn(&Outcome) -> bool| {
        writes.iter().filter(|(_, outcome)| wanted(outcome)).count()
    };
    let unavailable = count(&|outcome| *outcome == Outcome::Refused(503));
    let other = count(&|outcome| matches!(outcome, Outcome::Refused(status) if *status != 503));
    let conflicts = count(&|outcome| *outcome == Outcome::Conflict);
    let not_sent = count(&|outcome| *outcome == Outcome::NotSent);
    report.tell(
        format!("{title}: other answers"),
        format_args!(
            "{conflicts} × 409, {unavailable} × 503, {other} others; {not_sent} not connected"
        ),
    );
    let other = writes.iter().find_map(|(_, outcome)| match outcome {
        Outcome::Refused(status) if *status != 503 => Some(status),
        _ => None,
    });
    if let Some(status) = other {
        report.note(format!("{title}: one of the other answers was {status}."));
    }
}

fn tell_recovery(report: &mut Report, harms: &Harms, acknowledged: &[Acknowledged; 2]) {
    let (title, count) = (harms.title, harms.done.len());
    if count == 0 {
        return;
    }
    let first = harms.recovery(acknowledged, Acknowledged::first_after);
    report.promise(
        format!("{title} ({count} ×): ready to first 201"),
        format_args!("{} ({} of {count})", spread(&first), first.len()),
        "each time",
        first.len() == count,
    );
    let full = harms.recovery(acknowledged, Acknowledged::as_before);
    report.tell(
        format!("{title}: ready to 95 % of the writes before"),
        format_args!("{} ({} of {count})", spread(&full), full.len()),
    );
}

impl Harms {
    /// How long it took each time, until all whose writes are awaited had recovered.
    fn recovery(
        &self,
        acknowledged: &[Acknowledged; 2],
        time: impl Fn(&Acknowledged, Harm) -> Option<Duration>,
    ) -> Vec<Duration> {
        let of_one = |harm: &Harm| {
            let times = self
                .kinds
                .iter()
                .map(|kind| time(&acknowledged[*kind as usize], *harm));
            times.collect::<Option<Vec<_>>>()?.into_iter().max()
        };
        let mut times: Vec<_> = self.done.iter().filter_map(of_one).collect();
        times.sort();
        times
    }
}

/// Of times in order.
fn spread(times: &[Duration]) -> String {
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    let longest = times.last().copied().unwrap_or_default();
    let [middle, longest] = [middle, longest].map(milliseconds);
    format!("p50 {middle:.0} ms, max {longest:.0} ms")
}
