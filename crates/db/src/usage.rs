//! What one task took of the pool, such as one request: how long it waited for connections and how long statements ran.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What was taken of the pool inside [`with_usage`](crate::with_usage).
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

    /// Counts a wait for a connection.
    pub(crate) fn add_wait(&self, time: Duration) {
        self.waited.fetch_add(nanos(time), Relaxed);
    }

    /// Counts a statement.
    pub(crate) fn add_statement(&self, time: Duration) {
        self.ran.fetch_add(nanos(time), Relaxed);
        self.statements.fetch_add(1, Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
