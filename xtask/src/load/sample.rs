//! What the pool and the server look like, ten times a second while a load runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::http;
use crate::output::Result;

const EVERY: Duration = Duration::from_millis(100);

/// One look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    /// Seconds since the beginning.
    pub(crate) at: f64,
    pub(crate) in_use: f64,
    pub(crate) idle: f64,
    pub(crate) waiting: f64,
    /// Statements so far.
    pub(crate) statements: f64,
}

impl Sample {
    /// Reads Prisma's names: twelve numbers, and not hundreds, so that looking costs little.
    fn read(text: &str, at: f64) -> Option<Self> {
        let value = |name: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
            rest.trim().parse().ok()
        };
        Some(Self {
            at,
            in_use: value("prisma_pool_connections_busy ")?,
            idle: value("prisma_pool_connections_idle ")?,
            waiting: value("prisma_client_queries_wait ")?,
            statements: value("prisma_datasource_queries_total ")?,
        })
    }
}

/// One look at the pool of the service on this port.
pub(crate) fn look(port: u16, began: Instant) -> Option<Sample> {
    let text = http::body(port, "/metrics?names=prisma").ok()?;
    Sample::read(&text, began.elapsed().as_secs_f64())
}

/// Looks until it is stopped.
pub(crate) struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Sampler {
    /// `show` is called with each look.
    pub(crate) fn start(port: u16, mut show: impl FnMut(&Sample) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let (began, mut samples) = (Instant::now(), Vec::new());
            let mut next = began;
            while !stopped.load(Relaxed) {
                if let Some(sample) = look(port, began) {
                    show(&sample);
                    samples.push(sample);
                }
                next += EVERY;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            samples
        });
        Self { stop, thread }
    }

    pub(crate) fn stop(self) -> Result<Vec<Sample>> {
        self.stop.store(true, Relaxed);
        self.thread
            .join()
            .map_err(|_| "the sampler panicked: see above".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_read_from_prismas_names() {
        let text = "# TYPE prisma_pool_connections_busy gauge\nprisma_pool_connections_busy 3\n\n\
                    prisma_pool_connections_idle 7\nprisma_client_queries_wait 12\n\
                    prisma_datasource_queries_total 900\n";
        let sample = Sample::read(text, 1.5).unwrap();
        assert_eq!((sample.at, sample.in_use, sample.idle), (1.5, 3.0, 7.0));
        assert_eq!((sample.waiting, sample.statements), (12.0, 900.0));
        assert_eq!(Sample::read("prisma_pool_connections_busy 3", 0.0), None);
    }
}
