//! A client like any other, beside the slow ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::output::Result;
use crate::survive::client::{self, Client};
use crate::survive::load::{Load, Pace, Stop};
use crate::survive::times::Times;

const PERIOD: Duration = Duration::from_millis(4);

/// So many such clients for each path.
const CLIENTS: u32 = 2;

/// What the slow ones do meanwhile.
#[derive(Clone, Copy)]
pub(crate) enum Phase {
    Away,
    Coming,
    Waiting,
}

/// The phase of now, for all threads.
#[derive(Clone, Default)]
pub(crate) struct Now(Arc<AtomicUsize>);

impl Now {
    pub(crate) fn set(&self, phase: Phase) {
        self.0.store(phase as usize, Ordering::Relaxed);
    }
}

/// What the requests for one path took.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    phases: [Times; 3],
    /// Without a 200.
    pub(crate) failed: u64,
}

impl Seen {
    pub(crate) fn of(&self, phase: Phase) -> &Times {
        &self.phases[phase as usize]
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (times, more) in self.phases.iter_mut().zip(&other.phases) {
            times.merge(more);
        }
        self.failed += other.failed;
    }
}

/// Each thread gives the index of its path and what it has seen.
pub(crate) fn start(port: u16, paths: &[&str], now: &Now) -> Result<Load<(usize, Seen)>> {
    let mut load = Load::new();
    for (index, path) in paths.iter().enumerate() {
        let request = client::get(path, false);
        for client in 0..CLIENTS {
            let pace = Pace::new(PERIOD, f64::from(client) / f64::from(CLIENTS));
            let (request, now) = (request.clone(), now.clone());
            load.add(move |stop| (index, run(port, &request, pace, &now, &stop)))?;
        }
    }
    Ok(load)
}

fn run(port: u16, request: &[u8], mut pace: Pace, now: &Now, stop: &Stop) -> Seen {
    let (mut client, mut seen) = (Client::new(port), Seen::default());
    while !stop.is_told() {
        pace.wait();
        let sent = Instant::now();
        let answer = client.send(request);
        seen.phases[now.0.load(Ordering::Relaxed)].record(sent.elapsed());
        seen.failed += u64::from(!answer.is_ok_and(|answer| answer.status == 200));
    }
    seen
}
