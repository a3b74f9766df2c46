//! Threads that load the services until they are told to stop, and the pace they keep.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::output::Result;

/// Told to all threads of a load at once.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn is_told(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn tell(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The threads, each of which gives a `T` at its end. They end also when this is dropped.
pub(crate) struct Load<T> {
    stop: Stop,
    threads: Vec<JoinHandle<T>>,
}

impl<T: Send + 'static> Load<T> {
    pub(crate) fn new() -> Self {
        Self {
            stop: Stop::default(),
            threads: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, work: impl FnOnce(Stop) -> T + Send + 'static) -> Result<()> {
        let stop = self.stop.clone();
        // Hundreds of them may run.
        let thread = thread::Builder::new().stack_size(256 * 1024);
        self.threads.push(thread.spawn(move || work(stop))?);
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<Vec<T>> {
        self.stop.tell();
        let threads = std::mem::take(&mut self.threads);
        let results = threads.into_iter().map(JoinHandle::join);
        let results: std::result::Result<_, _> = results.collect();
        results.map_err(|_| "a thread of the load has panicked".into())
    }
}

impl<T> Drop for Load<T> {
    fn drop(&mut self) {
        self.stop.tell();
    }
}

/// A request each `period`. One that took longer delays the next; none is made up for.
pub(crate) struct Pace {
    period: Duration,
    next: Instant,
}

impl Pace {
    /// `share`, below 1, is where in the period the first one begins, so that not all threads begin together.
    pub(crate) fn new(period: Duration, share: f64) -> Self {
        Self {
            period,
            next: Instant::now() + period.mul_f64(share),
        }
    }

    pub(crate) fn wait(&mut self) {
        let now = Instant::now();
        thread::sleep(self.next.saturating_duration_since(now));
        self.next = self.next.max(now) + self.period;
    }
}
