//! What one task took of the pool, such as one request: how long it waited for connections and how long statements ran.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::Either;
use tracing::Instrument as _;

use crate::{seen, work};

tokio::task_local! {
    static USAGE: Arc<Usage>;
}

/// What was taken of the pool inside [`with_usage`].
///
/// ```no_run
/// # use std::sync::Arc;
/// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
/// let usage = Arc::new(db::Usage::default());
/// db::with_usage(usage.clone(), sqlx::query("select 1").execute(pool)).await?;
/// println!("{} statements, {:?} of waiting", usage.statements(), usage.waited());
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct Usage {
    /// Nanoseconds.
    waited: AtomicU64,
    ran: AtomicU64,
    statements: AtomicU32,
}

impl Usage {
    /// How long it waited for connections.
    #[must_use]
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Relaxed))
    }

    /// How long its statements ran, from sending to the end of the answer. What ran at one time counts twice.
    #[must_use]
    pub fn ran(&self) -> Duration {
        Duration::from_nanos(self.ran.load(Relaxed))
    }

    /// How many statements it ran.
    #[must_use]
    pub fn statements(&self) -> u32 {
        self.statements.load(Relaxed)
    }
}

/// Runs `future` and adds up in `usage` what it takes of any pool.
///
/// ```no_run
/// # use std::sync::Arc;
/// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
/// let usage = Arc::new(db::Usage::default());
/// db::with_usage(usage.clone(), sqlx::query("select pg_sleep(0.1)").execute(pool)).await?;
/// println!("waited {:?}, ran {:?}", usage.waited(), usage.ran());
/// # Ok(()) }
/// ```
pub fn with_usage<F: Future>(usage: Arc<Usage>, future: F) -> impl Future<Output = F::Output> {
    USAGE.scope(usage, future)
}

/// Carries the caller's [`Work`](crate::Work), [`Usage`], [`Seen`](crate::Seen) and `tracing` span into a task that is spawned. Its deadline stays
/// behind: what outlives a request is not bound by it.
///
/// ```no_run
/// # async fn example(pool: db::Pool) {
/// tokio::spawn(db::carry(async move {
///     sqlx::query("select 1").execute(&pool).await
/// }));
/// # }
/// ```
pub fn carry<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let (work, usage, seen) = (work::current(), current(), seen::current());
    let future = match seen {
        Some(seen) => Either::Left(seen::with_seen(seen, future)),
        None => Either::Right(future),
    };
    let future = match usage {
        Some(usage) => Either::Left(with_usage(usage, future)),
        None => Either::Right(future),
    };
    let future = match work {
        Some(work) => Either::Left(work::with_work(work, future)),
        None => Either::Right(future),
    };
    future.in_current_span()
}

fn current() -> Option<Arc<Usage>> {
    USAGE.try_with(Arc::clone).ok()
}

/// Counts a wait for a connection.
pub(crate) fn waited(time: Duration) {
    let _ = USAGE.try_with(|usage| usage.waited.fetch_add(nanos(time), Relaxed));
}

/// Counts a statement.
pub(crate) fn ran(time: Duration) {
    let _ = USAGE.try_with(|usage| {
        usage.ran.fetch_add(nanos(time), Relaxed);
        usage.statements.fetch_add(1, Relaxed);
    });
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
