//! Loads of a service: a closed loop to find what it can do, an open one to ask for more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::schedule::Schedule;
use crate::output::Result;
use crate::survive::client::{self, Client};
use crate::survive::load::{Load, Stop};
use crate::survive::times::Times;

/// Threads of the open loop, each with a connection: so many requests may run at once. A queue that nothing bounds but
/// a request's time holds thousands.
const THREADS: usize = 5000;

/// So many threads share one place for what they see.
const SHARING: usize = 500;

/// A request that is later than this is left out: the generator cannot keep up, and says so.
const LATEST: Duration = Duration::from_millis(100);

const STATUS: u16 = 204;

/// What became of the requests of one phase.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// Those that were served, now or in a later phase.
    pub(crate) accepted: Times,
    /// Answers to requests of this and earlier phases that came in this one.
    pub(crate) served: u64,
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
        self.served += other.served;
        self.failed += other.failed;
        self.left_out += other.left_out;
    }

    fn record(&mut self, ended: &Ended, so_far: &SoFar) {
        let index = match ended {
            Ended::Accepted(time) => {
                self.accepted.record(*time);
                0
            }
            Ended::Refused(time) => {
                self.refused.record(*time);
                1
            }
            Ended::Failed => {
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
                seen.record(&send(&mut client, &request), &so_far);
            }
            seen
        })?;
    }
    Ok(load)
}

/// What some threads have seen of each phase.
type Shared<const N: usize> = Arc<Mutex<[Seen; N]>>;

/// Requests that begin by the schedule, and when each of its phases is over what was seen of it.
pub(crate) struct Open<const N: usize> {
    load: Load<()>,
    seen: Vec<Shared<N>>,
}

/// `most` is how many requests may run at once, if that is less than usual.
pub(crate) fn open<const N: usize>(
    port: u16,
    path: &str,
    schedule: &Schedule<N>,
    most: usize,
    so_far: &SoFar,
) -> Result<Open<N>> {
    let mut open = Open {
        load: Load::new(),
        seen: Vec::new(),
    };
    // Time for all threads to start.
    let began = Instant::now() + Duration::from_millis(500);
    let next = Arc::new(AtomicU64::new(0));
    for thread in 0..THREADS.min(most) {
        if thread.is_multiple_of(SHARING) {
            let seen = std::array::from_fn(|_| Seen::default());
            open.seen.push(Arc::new(Mutex::new(seen)));
        }
        let worker = Worker {
            schedule: schedule.clone(),
            began,
            next: next.clone(),
            request: client::get(path, false),
            seen: open.seen[thread / SHARING].clone(),
            so_far: so_far.clone(),
        };
        open.load.add(move |stop| worker.run(port, &stop))?;
    }
    Ok(open)
}

impl<const N: usize> Open<N> {
    pub(crate) fn finish(self) -> Result<[Seen; N]> {
        self.load.finish()?;
        let mut all = std::array::from_fn(|_| Seen::default());
        for seen in self.seen {
            let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let pairs = all.iter_mut().zip(seen.iter());
            pairs.for_each(|(all, seen): (&mut Seen, _)| all.merge(seen));
        }
        Ok(all)
    }
}

struct Worker<const N: usize> {
    schedule: Schedule<N>,
    began: Instant,
    /// The first request that no thread has taken.
    next: Arc<AtomicU64>,
    request: Vec<u8>,
    seen: Shared<N>,
    so_far: SoFar,
}

impl<const N: usize> Worker<N> {
    fn run(&self, port: u16, stop: &Stop) {
        let mut client = Client::new(port);
        while !stop.is_told() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some((phase, at)) = self.schedule.moment(number) else {
                break;
            };
            let due = self.began + at;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let late = due.elapsed();
            let ended = (late <= LATEST).then(|| send(&mut client, &self.request));
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            match ended {
                Some(ended) => {
                    seen[phase].late.record(late);
                    seen[phase].record(&ended, &self.so_far);
                    let now = self.schedule.phase(self.began.elapsed());
                    if let (Ended::Accepted(_), Some(now)) = (ended, now) {
                        seen[now].served += 1;
                    }
                }
                None => seen[phase].left_out += 1,
            }
        }
    }
}

/// How a request ended, and how long it took.
enum Ended {
    Accepted(Duration),
    Refused(Duration),
    Failed,
}

fn send(client: &mut Client, request: &[u8]) -> Ended {
    let sent = Instant::now();
    match client.send(request) {
        Ok(answer) if answer.status == STATUS => Ended::Accepted(sent.elapsed()),
        Ok(answer) if answer.status == 503 && answer.retry_after => Ended::Refused(sent.elapsed()),
        _ => Ended::Failed,
    }
}
