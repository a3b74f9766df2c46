//! The end of a pool: who waits gets an error, idle connections close, busy ones may finish until a deadline.

use std::time::Duration;

use tokio::time::timeout;

use crate::pool::closing::close_idle;
use crate::pool::control_connection;
use crate::pool::state::Shared;

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

pub(crate) async fn close(pool: &Shared, deadline: Duration) -> Closed {
    pool.permits.semaphore.close();
    pool.available.notify_waiters();
    let busy = pool.state().in_use();
    let idle = close_idle(pool);
    let _ = timeout(deadline, unused(pool)).await;
    let cut = pool.state().in_use();
    if let Some(backends) = backends_in_use(pool) {
        let ended = control_connection::terminate(pool, &backends);
        let _ = timeout(Duration::from_millis(500), ended).await;
        let _ = timeout(Duration::from_millis(250), unused(pool)).await;
    }
    let closed = control_connection::close(pool, true);
    let _ = timeout(Duration::from_millis(250), closed).await;
    Closed {
        idle,
        finished: busy.saturating_sub(cut),
        cut,
    }
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
