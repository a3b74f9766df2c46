//! Connections that leave the pool, each with its reason.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use tokio::time::timeout;

use crate::metrics::CloseReason;
use crate::pool::opened::Opened;
use crate::pool::state::{Permit, Shared, State};
use crate::sqlstate::Loss;

/// So many connections that break within this time say that the others are broken too.
const BREAKS: u32 = 3;
const BREAKS_WITHIN: Duration = Duration::from_secs(1);

/// Counts connections as closed and tells the server, briefly and in the background; outside a runtime the socket
/// just closes.
pub(crate) fn close_connections(pool: &Shared, connections: Vec<Opened>, reason: CloseReason) {
    pool.metrics.closed[reason as usize].fetch_add(connections.len() as u64, Relaxed);
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    for connection in connections {
        runtime.spawn(timeout(Duration::from_secs(1), connection.inner.close()));
    }
}

/// Closes what is idle, because the pool closes. Says how many there were.
pub(crate) fn close_idle(pool: &Shared) -> u32 {
    let idle = std::mem::take(&mut pool.state().idle);
    let count = idle.len() as u32;
    close_connections(pool, idle, CloseReason::Shutdown);
    count
}

/// Closes what is idle, because one of them does not answer.
pub(crate) fn close_silent(pool: &Shared) {
    let idle = std::mem::take(&mut pool.state().idle);
    close_connections(pool, idle, CloseReason::Broken);
}

/// Changes the whole limit. Says whether there is another number of permits now.
pub(crate) fn resize(pool: &Shared, limit: u32) -> bool {
    let changed = pool.permits.resize_whole(limit);
    close_excess(pool);
    // Whoever has a permit may open a connection now.
    pool.available.notify_waiters();
    changed
}

/// Closes idle connections that are over the limit.
pub(crate) fn close_excess(pool: &Shared) {
    let mut state = pool.state();
    let excess = state
        .total()
        .saturating_sub(pool.permits.limit.load(Relaxed)) as usize;
    let count = excess.min(state.idle.len());
    let connections = state.idle.drain(..count).collect();
    drop(state);
    close_connections(pool, connections, CloseReason::Idle);
}

/// Makes all connections those of a time that is over.
pub(crate) fn evict(pool: &Shared) {
    let idle = retire(&mut pool.state());
    close_connections(pool, idle, CloseReason::Failover);
    // Whoever has a permit and waits for one of them may open another.
    pool.available.notify_waiters();
}

/// Closes a connection for a reason that says nothing about the others.
pub(crate) fn close_unwanted(permit: &mut Permit, connection: Opened, reason: CloseReason) {
    leave(permit, |_| ());
    close_connections(&permit.pool, vec![connection], reason);
}

/// Drops a connection that is of no further use, and takes the hint about the others.
pub(crate) fn discard(permit: &mut Permit, connection: Opened, loss: Loss) {
    let retired = leave(permit, |state| broke(state, connection.generation, loss));
    permit.pool.metrics.closed[CloseReason::Broken as usize].fetch_add(1, Relaxed);
    if let Some(replica) = &permit.pool.replica {
        replica.health.forget();
    }
    if let Some(retired) = retired {
        tracing::warn!(
            event = "failover",
            "the server has gone away or changed: all connections are opened anew"
        );
        close_connections(&permit.pool, retired, CloseReason::Failover);
    }
}

/// Ends the holding of a connection that does not come back. Whoever waits may open one in its place.
fn leave<T>(permit: &mut Permit, and: impl FnOnce(&mut State) -> T) -> T {
    let Permit { pool, holding, .. } = permit;
    let mut state = pool.state();
    holding.end(&mut state, Instant::now());
    let result = and(&mut state);
    let lacks_connection = state.lacks_connection();
    drop(state);
    if lacks_connection {
        pool.available.notify_waiters();
    }
    result
}

/// A connection broke. The others have to answer before their next use; when the server itself went away, or after
/// several breaks in a short time, they all go. Returns those that are idle then.
fn broke(state: &mut State, generation: u64, loss: Loss) -> Option<Vec<Opened>> {
    if generation != state.generation {
        return None;
    }
    if loss == Loss::Connection {
        let now = Instant::now();
        state.broken = match state.broken {
            (count, Some(first)) if now - first < BREAKS_WITHIN => (count + 1, Some(first)),
            _ => (1, Some(now)),
        };
    }
    if loss == Loss::Server || state.broken.0 >= BREAKS {
        return Some(retire(state));
    }
    for connection in &mut state.idle {
        connection.suspect = true;
    }
    None
}

/// Begins a new generation: connections in use close when they come back, the idle ones are returned to be closed now.
fn retire(state: &mut State) -> Vec<Opened> {
    state.generation += 1;
    state.broken = (0, None);
    std::mem::take(&mut state.idle)
}
