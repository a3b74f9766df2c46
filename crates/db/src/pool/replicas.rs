//! Which replica a read goes to, and what a client has to bring to read there what it wrote.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::timeout;

use crate::caller;
use crate::pool::health::ReplicaStats;
use crate::pool::state::{Replica, Shared};
use crate::pool::watch::watch;
use crate::pool::{Pool, control_connection};
use crate::seen::{self, Seen};

/// Longest wait for how far the primary has come.
const PATIENCE: Duration = Duration::from_secs(1);

impl Pool {
    /// Where to read: the replica of `DATABASE_REPLICA_URLS` with the most to spare among those that answer, are not further
    /// behind than `replica_max_lag`, and show the client's own writes ([`with_seen`](crate::with_seen)). The pool itself
    /// if there is none.
    ///
    /// A statement that the replica does not answer is made at the primary, and so is one that writes. In a transaction only its
    /// begin is. What others have written is seen a moment later than at the primary.
    ///
    /// ```no_run
    /// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
    /// let names: Vec<String> = sqlx::query_scalar("select name from customer").fetch_all(pool.read()).await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn read(&self) -> &Self {
        let Some(replicas) = &self.2 else {
            return self;
        };
        start_watch(replicas);
        let needed = caller::needed();
        let shows =
            |replica: &Replica| needed.is_some_and(|position| replica.health.shows(position));
        let fit = replicas
            .iter()
            .filter(|pool| pool.0.replica.as_ref().is_some_and(shows));
        let chosen = fit.max_by_key(|pool| (spare(&pool.0), fastrand::u8(..)));
        if chosen.is_none() {
            want_news(replicas);
        }
        let chosen = chosen.unwrap_or(self);
        chosen.0.metrics.reads.fetch_add(1, Relaxed);
        chosen
    }

    /// The replicas as they were last seen, in the order of `DATABASE_REPLICA_URLS`.
    #[must_use]
    pub fn replicas(&self) -> Vec<ReplicaStats> {
        let of = |pool: &Self| {
            let health = &pool.0.replica.as_ref()?.health;
            Some(ReplicaStats {
                name: pool.name().to_owned(),
                state: health.state(),
                lag: health.lag(),
                reads: pool.0.metrics.reads.load(Relaxed),
                fallbacks: pool.0.metrics.fallbacks.load(Relaxed),
            })
        };
        self.2
            .iter()
            .flat_map(|replicas| replicas.iter())
            .filter_map(of)
            .collect()
    }

    /// The primary of a replica, with the same limits.
    pub(crate) fn primary(&self, replica: &Replica) -> Self {
        Self(replica.primary.clone(), self.1.clone(), None)
    }

    /// What a client has to bring with its next request to see there what it has written in this one; `None` if it has written
    /// nothing, or there are no replicas.
    ///
    /// It costs a round trip on the control connection, which all share who ask at one time.
    pub async fn token(&self, seen: &Seen) -> Option<String> {
        let replicas = self.2.as_deref().filter(|_| seen.has_written())?;
        want_news(replicas);
        // Nobody knows: then only the primary will do.
        let position = timeout(PATIENCE, control_connection::position(&self.0)).await;
        let position = position.ok().and_then(Result::ok).unwrap_or(u64::MAX);
        seen.reached(position);
        Some(seen::write_position(position))
    }
}

fn start_watch(replicas: &[Pool]) {
    let Some(first) = replicas.first().and_then(|pool| pool.0.replica.as_ref()) else {
        return;
    };
    if first.health.watched.get().is_none()
        && let Ok(runtime) = tokio::runtime::Handle::try_current()
        && first.health.watched.set(()).is_ok()
    {
        let all = replicas.iter().map(|pool| Arc::downgrade(&pool.0));
        runtime.spawn(watch(all.collect(), first.health.wanted.clone()));
    }
}

/// Has the replicas looked at soon: one of them may show by now what is needed.
fn want_news(replicas: &[Pool]) {
    if let Some(first) = replicas.first().and_then(|pool| pool.0.replica.as_ref()) {
        first.health.wanted.notify_one();
    }
}

/// Which part of its limit is free, in thousandths; less than nothing if callers wait.
fn spare(pool: &Shared) -> i64 {
    let permits = &pool.permits;
    let limit = i64::from(permits.limit.load(Relaxed)).max(1);
    let free = permits.semaphore.available_permits() as i64;
    (free - i64::from(permits.waiting.load(Relaxed))) * 1000 / limit
}
