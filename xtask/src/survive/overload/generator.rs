//! Loads of a service: a closed loop to find what it can do, an open one to ask for more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::schedule::Schedule;
use crate::output::Result;
use crate::survive::client::{self, Client};
use crate::survive::load::{Load, Stop};
use crate::survive::times::Times;

/// Threads of the open loop, each with a connection: so many requests may run at once.
const THREADS: usize = 600;

/// A request that is later than this is left out: the generator cannot keep up, and says so.
const LATEST: Duration = Duration::from_millis(100);

const STATUS: u16 = 204;

/// What became of the requests of one phase.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// Those that were served.
    pub(crate) accepted: Times,
    /// 503 with `Retry-After`.
    pub(crate) refused: Times,
    /// Any other answer, and none.
    pub(crate) failed: u64,
    /// How much later than planned they began.
    pub(crate) late: Times,
    /// Not sent, because they were too late.
    pub(crate) left_out: u64,
}

/// What has happened so far, for the progress.
#[derive(Clone, Default)]
pub(crate) struct SoFar(Arc<[AtomicU64; 3]>);

impl SoFar {
    /// Accepted, refused, failed.
    pub(crate) fn get(&self) -> [u64; 3] {
        [0, 1, 2].map(|index| self.0[index].load(Ordering::Relaxed))
    }
}

impl Seen {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.accepted.merge(&other.accepted);
        self.refused.merge(&other.refused);
        self.late.merge(&other.late);
        self.failed += other.failed;
        self.left_out += other.left_out;
    }

    fn send(&mut self, client: &mut Client, request: &[u8], so_far: &SoFar) {
        let sent = Instant::now();
        let answer = client.send(request);
        let time = sent.elapsed();
        let index = match answer {
            Ok(answer) if answer.status == STATUS => {
                self.accepted.record(time);
                0
            }
            Ok(answer) if answer.status == 503 && answer.retry_after => {
                self.refused.record(time);
                1
            }
            _ => {
                self.failed += 1;
                2
            }
        };
        so_far.0[index].fetch_add(1, Ordering::Relaxed);
    }
}

/// Clients that each send the next request when the last one is answered.
pub(crate) fn closed(port: u16, path: &str, clients: u32, so_far: &SoFar) -> Result<Load<Seen>> {
    let mut load = Load::new();
    let request = client::get(path, false);
    for _ in 0..clients {
        let (request, so_far) = (request.clone(), so_far.clone());
        load.add(move |stop| {
            let (mut client, mut seen) = (Client::new(port), Seen::default());
            while !stop.is_told() {
                seen.send(&mut client, &request, &so_far);
            }
            seen
        })?;
    }
    Ok(load)
}

/// Requests that begin by the schedule. Each thread gives what it has seen of each phase.
pub(crate) fn open<const N: usize>(
    port: u16,
    path: &str,
    schedule: &Schedule<N>,
    so_far: &SoFar,
) -> Result<Load<[Seen; N]>> {
    let mut load = Load::new();
    // Time for all threads to start.
    let began = Instant::now() + Duration::from_millis(200);
    let next = Arc::new(AtomicU64::new(0));
    for _ in 0..THREADS {
        let worker = Worker {
            schedule: schedule.clone(),
            began,
            next: next.clone(),
            request: client::get(path, false),
            so_far: so_far.clone(),
        };
        load.add(move |stop| worker.run(port, &stop))?;
    }
    Ok(load)
}

struct Worker<const N: usize> {
    schedule: Schedule<N>,
    began: Instant,
    /// The first request that no thread has taken.
    next: Arc<AtomicU64>,
    request: Vec<u8>,
    so_far: SoFar,
}

impl<const N: usize> Worker<N> {
    fn run(&self, port: u16, stop: &Stop) -> [Seen; N] {
        let mut client = Client::new(port);
        let mut seen = std::array::from_fn(|_| Seen::default());
        while !stop.is_told() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some((phase, at)) = self.schedule.moment(number) else {
                break;
            };
            let due = self.began + at;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let late = due.elapsed();
            let seen: &mut Seen = &mut seen[phase];
            if late > LATEST {
                seen.left_out += 1;
                continue;
            }
            seen.late.record(late);
            seen.send(&mut client, &self.request, &self.so_far);
        }
        seen
    }
}
