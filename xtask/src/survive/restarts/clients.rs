//! The clients of services that are restarted: each request's outcome and time is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::output::Result;
use crate::survive::client::{self, Client};
use crate::survive::load::{Load, Pace, Stop};
use crate::survive::times::Times;

/// Few requests for one machine's two instances: a long time is then the restart's, not the load's.
const PERIOD: Duration = Duration::from_millis(10);

/// Failures and stalls that are shown of each kind.
const SHOWN: usize = 3;

/// What a client does, and how many do it.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) title: &'static str,
    creates: bool,
    /// A connection for each request.
    closes: bool,
    clients: u32,
}

pub(crate) const KINDS: [Kind; 4] = [
    Kind {
        title: "GET, kept connections",
        creates: false,
        closes: false,
        clients: 6,
    },
    Kind {
        title: "GET, a connection each",
        creates: false,
        closes: true,
        clients: 4,
    },
    Kind {
        title: "POST, kept connections",
        creates: true,
        closes: false,
        clients: 2,
    },
    Kind {
        title: "POST, a connection each",
        creates: true,
        closes: true,
        clients: 2,
    },
];

/// What the clients of one kind have seen.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) times: Times,
    pub(crate) failed: u64,
    /// The first failures and stalls, in words.
    pub(crate) notes: Vec<String>,
}

/// What has happened so far, for the progress.
#[derive(Clone, Default)]
pub(crate) struct SoFar(Arc<[AtomicU64; 3]>);

impl SoFar {
    fn add(&self, time: Duration, failed: bool) {
        let [requests, failures, longest] = &*self.0;
        requests.fetch_add(1, Ordering::Relaxed);
        failures.fetch_add(u64::from(failed), Ordering::Relaxed);
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        longest.fetch_max(time, Ordering::Relaxed);
    }

    pub(crate) fn text(&self) -> String {
        let [requests, failed, longest] =
            [0, 1, 2].map(|index| self.0[index].load(Ordering::Relaxed));
        format!("{requests} requests so far, {failed} failed, the longest {longest} ms")
    }
}

/// Starts all clients; each gives the index of its kind and what it has seen. `stall` is a time that is too long.
pub(crate) fn start(port: u16, stall: Duration, so_far: &SoFar) -> Result<Load<(usize, Tally)>> {
    let mut load = Load::new();
    let all: u32 = KINDS.iter().map(|kind| kind.clients).sum();
    let mut number = 0;
    for (index, kind) in KINDS.into_iter().enumerate() {
        for _ in 0..kind.clients {
            let pace = Pace::new(PERIOD, f64::from(number) / f64::from(all));
            let mut client = OneClient {
                kind,
                name: number,
                stall,
                began: Instant::now(),
                client: Client::new(port),
                tally: Tally::default(),
            };
            let so_far = so_far.clone();
            load.add(move |stop| {
                client.run(pace, &so_far, &stop);
                (index, client.tally)
            })?;
            number += 1;
        }
    }
    Ok(load)
}

/// All clients of one kind together.
pub(crate) fn merge(results: &[(usize, Tally)], kind: usize) -> Tally {
    let mut all = Tally::default();
    for (_, tally) in results.iter().filter(|(index, _)| *index == kind) {
        all.times.merge(&tally.times);
        all.failed += tally.failed;
        all.notes.extend(tally.notes.iter().cloned());
    }
    all.notes.truncate(SHOWN);
    all
}

struct OneClient {
    kind: Kind,
    name: u32,
    stall: Duration,
    began: Instant,
    client: Client,
    tally: Tally,
}

impl OneClient {
    fn run(&mut self, mut pace: Pace, so_far: &SoFar, stop: &Stop) {
        for count in 0_u64.. {
            pace.wait();
            if stop.is_told() {
                break;
            }
            let request = request(self.kind, self.name, count);
            let sent = Instant::now();
            let failure = failure(self.client.send(&request), self.kind);
            let time = sent.elapsed();
            so_far.add(time, failure.is_some());
            self.note(sent, time, failure);
        }
    }

    fn note(&mut self, sent: Instant, time: Duration, failure: Option<String>) {
        let tally = &mut self.tally;
        tally.times.record(time);
        tally.failed += u64::from(failure.is_some());
        let stall = (time > self.stall).then(|| format!("took {} ms", time.as_millis()));
        if let Some(note) = failure.or(stall)
            && tally.notes.len() < SHOWN
        {
            let at = sent.duration_since(self.began).as_secs_f64();
            tally.notes.push(format!("after {at:.2} s: {note}"));
        }
    }
}

fn request(kind: Kind, name: u32, count: u64) -> Vec<u8> {
    if !kind.creates {
        return client::get("/api/customers?limit=5", kind.closes);
    }
    let customer = format!(r#"{{"name":"Restart","email":"{name}.{count}@example.com"}}"#);
    client::post("/api/customers", &customer, kind.closes)
}

/// In words, unless the answer is the expected one.
fn failure(
    answer: std::result::Result<client::Answer, client::NoAnswer>,
    kind: Kind,
) -> Option<String> {
    let expected = if kind.creates { 201 } else { 200 };
    match answer {
        Ok(answer) if answer.status == expected => None,
        Ok(answer) => Some(format!("status {}", answer.status)),
        Err(no_answer) => Some(no_answer.reason()),
    }
}
