//! Whether the database answers: one round trip that a full pool cannot delay.

use std::pin::pin;
use std::time::{Duration, Instant};

use sqlx::SqlStr;

use crate::error::Error;
use crate::pool::acquire::acquire;
use crate::pool::holder::Origin;
use crate::pool::within::{Within, within};
use crate::pool::{Pool, control_connection};

/// Longest time a readiness check may take; `connect_timeout` where that is shorter.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

impl Pool {
    /// One round trip that a full pool cannot delay, within 1 s or `connect_timeout` if that is shorter: for readiness.
    ///
    /// ```no_run
    /// # async fn example(pool: &db::Pool) -> u16 {
    /// match pool.check().await {
    ///     Ok(()) => 200,
    ///     Err(error) => {
    ///         eprintln!("not ready: {error}");
    ///         503
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// Why the database cannot be used: [`Error::NoAnswer`] when the time is over, [`Error::Connect`] or
    /// [`Error::Closed`].
    pub async fn check(&self) -> Result<(), Error> {
        let limit = self.config().connect_timeout.unwrap_or(CHECK_TIMEOUT);
        let limit = limit.min(CHECK_TIMEOUT);
        let checked = within(&self.0, limit, pin!(self.round_trip(limit))).await;
        checked.unwrap_or(Err(Error::NoAnswer(limit)))
    }

    /// Waits for `future` for so long at most, not counting the time in which this process did not run: stopped, asleep with its
    /// machine, or moved with it. `None` when the time is over.
    ///
    /// ```no_run
    /// # async fn example(pool: &db::Pool) {
    /// let names = sqlx::query("select name from customer").fetch_all(pool);
    /// let names = pool.within(std::time::Duration::from_secs(5), names).await;
    /// # }
    /// ```
    pub fn within<F: Future>(&self, limit: Duration, future: F) -> Within<F> {
        self.within_since(Instant::now(), limit, future)
    }

    /// The same for so long after `since`.
    ///
    /// ```no_run
    /// # use std::time::{Duration, Instant};
    /// # async fn example(pool: &db::Pool, began: Instant) {
    /// let names = sqlx::query("select name from customer").fetch_all(pool);
    /// let names = pool.within_since(began, Duration::from_secs(5), names).await;
    /// # }
    /// ```
    pub fn within_since<F: Future>(&self, since: Instant, limit: Duration, future: F) -> Within<F> {
        Within::new(self.0.clone(), (since, limit), future)
    }

    async fn round_trip(&self, limit: Duration) -> Result<(), Error> {
        const READINESS: SqlStr = SqlStr::from_static("/* readiness */");
        if self.0.permits.semaphore.is_closed() {
            return Err(Error::Closed);
        }
        if self.0.permits.semaphore.available_permits() == 0 {
            return match control_connection::ping(&self.0).await {
                // It answers that it has no room for one beside those that work.
                Err(Error::Connect(error)) if error.is_server_full() => Ok(()),
                answer => answer,
            };
        }
        let full = {
            let state = self.0.state();
            state.crowded().is_some() && state.idle.is_empty() && !state.is_empty()
        };
        // It has said a moment ago that it has no room, and works on what is open.
        if full {
            return Ok(());
        }
        let mut lease = acquire(&self.0, None, Origin::Statement(READINESS)).await?;
        lease.ping_within(limit).await
    }
}
