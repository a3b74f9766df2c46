//! The end of a pool: who waits gets an error, idle connections close, busy ones may finish until a deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join;
use tokio::time::timeout;

use crate::pool::between::Sessions;
use crate::pool::closing::close_idle;
use crate::pool::state::Shared;
use crate::pool::{control_connection, part, proof};

/// What [`Pool::close`](crate::Pool::close) did.
///
/// ```no_run
/// # async fn example(pool: &db::Pool) {
/// let closed = pool.close(std::time::Duration::from_secs(10)).await;
/// if closed.cut > 0 {
///     eprintln!("{} connections were still in use", closed.cut);
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Connections that were idle and closed at once.
    pub idle: u32,
    /// Connections that were in use and came back in time.
    pub finished: u32,
    /// Connections still in use at the deadline. Unless there is a pooler in between, the server was told to end them.
    pub cut: u32,
}

impl Closed {
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            idle: self.idle + other.idle,
            finished: self.finished + other.finished,
            cut: self.cut + other.cut,
        }
    }
}

/// Time at the end of the deadline for ending what is still in use: a quarter of it, and no more than this.
const LONGEST_END: Duration = Duration::from_millis(500);
/// How long ending it may go on after the deadline.
const GRACE: Duration = Duration::from_millis(50);

pub(crate) async fn close(pool: &Arc<Shared>, deadline: Duration) -> Closed {
    let started = Instant::now();
    pool.permits.semaphore.close();
    pool.available.notify_waiters();
    let busy = pool.state().in_use();
    let idle = close_idle(pool);
    if busy > 0 {
        // Known in time for those that have to be ended.
        let shared = pool.clone();
        tokio::spawn(async move { proof::sessions(&shared).await });
    }
    let patience = deadline.saturating_sub(LONGEST_END.min(deadline / 4));
    // Polled again later, the parts would close anew: once is enough, and goes on by itself.
    let parts = pool.clone();
    let parts = tokio::spawn(async move { part::close(&parts).await });
    let _ = timeout(patience, join(unused(pool), parts)).await;
    let parts = part::stats(pool).map_or(0, |(_, _, in_use)| in_use);
    let cut = pool.state().in_use() + parts;
    // Without a deadline to keep, nothing is waited for, not even the server's answer.
    let end = match deadline.is_zero() {
        true => deadline,
        false => deadline.saturating_add(GRACE),
    };
    let _ = timeout(end.saturating_sub(started.elapsed()), end_sessions(pool)).await;
    Closed {
        idle,
        finished: busy.saturating_sub(cut),
        cut,
    }
}

/// Tells the server to end the sessions in use, waits until they have gone, and closes the control connection.
async fn end_sessions(pool: &Arc<Shared>) {
    if let Some(backends) = backends_in_use(pool) {
        // In a task of its own, which goes on when the time is over.
        let shared = pool.clone();
        let ended = tokio::spawn(async move {
            // A session that is a stranger's by now must not be ended.
            proof::sessions(&shared).await == Sessions::Own
                && control_connection::terminate(&shared, &backends)
                    .await
                    .is_ok()
        });
        if matches!(ended.await, Ok(true)) {
            let _ = timeout(LONGEST_END, unused(pool)).await;
        }
    }
    control_connection::close(pool, true).await;
}

/// The condition that finds the sessions in use, if there are any that the server can be told of.
fn backends_in_use(pool: &Shared) -> Option<String> {
    let mut state = pool.state();
    let backends = state
        .holders()
        .filter_map(|holder| holder.backend.as_deref());
    let conditions: Vec<String> = backends.map(|backend| format!("({backend})")).collect();
    (!conditions.is_empty()).then(|| conditions.join(" or "))
}

/// Waits until nothing is in use.
async fn unused(pool: &Shared) {
    loop {
        let returned = pool.returned.notified();
        tokio::pin!(returned);
        returned.as_mut().enable();
        if pool.state().in_use() == 0 {
            return;
        }
        returned.await;
    }
}
