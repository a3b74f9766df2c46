//! Kinds of work that share a pool: one that is slow leaves connections to the others.

use std::sync::atomic::{
    AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::metrics::{Labelled, Metrics};

/// Work that holds a connection for longer than this on average is slow.
const SLOW: Duration = Duration::from_millis(100);

/// For so long after other work has asked for connections, slow work leaves half of them.
const LEAVES: Duration = Duration::from_secs(1);

/// One kind of work, such as one route of a service.
///
/// As long as it holds each connection for 100 ms at most, on average, it changes nothing. While it holds them for longer,
/// its callers wait for each other and not in the queue of the pool; and if other work has asked for connections within the
/// last second, it gets no more than half of them, at least one.
///
/// ```no_run
/// # use std::sync::Arc;
/// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
/// let reports = Arc::new(db::Work::default()); // one for all reports, for as long as the process lives
/// let count = sqlx::query_scalar("select count(*) from orders").fetch_one(pool);
/// let count: i64 = db::with_work(reports, count).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct Work {
    /// How long a connection is held, in nanoseconds, as a moving average.
    average: AtomicU64,
    /// Connections in use, and callers who are about to get one.
    running: AtomicU32,
    /// Callers who wait for their turn.
    waiting: AtomicU32,
    /// A turn has ended.
    ended: Notify,
    name: OnceLock<Name>,
}

/// How work is called, and the label of its numbers.
#[derive(Debug)]
struct Name {
    name: String,
    label: (&'static str, String),
    labelled: OnceLock<Labelled>,
}

impl Work {
    /// Names the work, once: later calls change nothing. The name stands where its holders do; the label, a key and a value
    /// of which there are few, is that of its waits and uses in the metrics. They belong to the pool it uses first.
    ///
    /// ```
    /// let work = db::Work::default();
    /// work.name("GET /api/customers", ("http.route", "/api/customers"));
    /// ```
    pub fn name(&self, name: &str, (key, value): (&'static str, &str)) {
        self.name.get_or_init(|| Name {
            name: name.to_owned(),
            label: (key, value.to_owned()),
            labelled: OnceLock::new(),
        });
    }

    /// Whether it has been named.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.name.get().is_some()
    }

    /// Its name, if it has one.
    pub(crate) fn named(&self) -> Option<&str> {
        self.name.get().map(|name| name.name.as_str())
    }

    /// The histograms with its label, if it has one.
    pub(crate) fn labelled(&self, metrics: &Metrics) -> Option<&Labelled> {
        let Name {
            label, labelled, ..
        } = self.name.get()?;
        let (key, value) = label;
        Some(labelled.get_or_init(|| metrics.labelled((key, value))))
    }

    fn average(&self) -> Duration {
        Duration::from_nanos(self.average.load(Relaxed))
    }

    pub(crate) fn is_slow(&self) -> bool {
        self.average() > SLOW
    }

    /// Callers who wait for a turn, and how long another one is likely to.
    pub(crate) fn expected_wait(&self, connections: u32) -> (u32, Duration) {
        let waiting = self.waiting.load(Relaxed);
        (waiting, self.average() * waiting / connections.max(1))
    }

    /// A turn, if the work is fast or uses less than its share.
    pub(crate) fn try_start(self: &Arc<Self>, askers: &Askers, connections: u32) -> Option<Turn> {
        askers.see(Arc::as_ptr(self) as usize);
        let most = match self.is_slow() {
            true if askers.have_changed() => (connections / 2).max(1),
            true => connections,
            false => u32::MAX,
        };
        let more = |running: u32| (running < most).then_some(running + 1);
        let started = self.running.fetch_update(SeqCst, SeqCst, more);
        started.ok().map(|_| Turn(self.clone()))
    }

    /// Waits for a turn, in the order of the callers.
    pub(crate) async fn start(self: &Arc<Self>, askers: &Askers, connections: &AtomicU32) -> Turn {
        self.waiting.fetch_add(1, SeqCst);
        let _waiting = Waiting(self);
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if let Some(turn) = self.try_start(askers, connections.load(Relaxed)) {
                // If the work has become fast, the next may start too.
                self.ended.notify_one();
                return turn;
            }
            ended.await;
        }
    }
}

struct Waiting<'a>(&'a Work);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// The right to queue for a connection and to use it.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Work>);

impl Turn {
    /// The connection was held for so long.
    pub(crate) fn record(&self, used: Duration) {
        // Two writers at once lose a sample now and then, which an average can bear.
        let old = self.0.average.load(Relaxed);
        let new = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
        self.0.average.store(old - old / 8 + new / 8, Relaxed);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
        // Who waits counted itself before it looked for a turn: it has seen this end, or is seen here.
        if self.0.waiting.load(SeqCst) > 0 {
            self.0.ended.notify_one();
        }
    }
}

/// Whose work asks for connections: that of one kind alone, or of several. Callers without one do not count.
#[derive(Debug, Default)]
pub(crate) struct Askers {
    /// The address of the last caller's work.
    last: AtomicUsize,
    /// When that was another one than before, in milliseconds since the first such.
    changed: AtomicU64,
}

static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Askers {
    fn see(&self, work: usize) {
        if self.last.load(Relaxed) != work {
            self.last.store(work, Relaxed);
            self.changed
                .store(FIRST.elapsed().as_millis() as u64, Relaxed);
        }
    }

    fn have_changed(&self) -> bool {
        let changed = Duration::from_millis(self.changed.load(Relaxed));
        FIRST.elapsed().saturating_sub(changed) < LEAVES
    }
}
