//! A clean connection comes back: the next caller's, or closed if it is no longer wanted.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::metrics::CloseReason;
use crate::pool::closing::close_connections;
use crate::pool::state::{Opened, Permit};

/// The janitor replaces connections while they are idle; one that never is goes when it is so much too old.
const OVERAGE: Duration = Duration::from_secs(30);

/// Makes a clean connection idle, or closes it if it is no longer wanted.
pub(crate) fn give_back(permit: &mut Permit, connection: Opened) {
    let now = Instant::now();
    let Permit { pool, holding, .. } = permit;
    let mut state = pool.state();
    holding.end(&mut state, now);
    let too_old = |expires: Instant| expires + OVERAGE <= now;
    let reason = if pool.permits.semaphore.is_closed() {
        Some(CloseReason::Shutdown)
    } else if connection.generation != state.generation {
        Some(CloseReason::Failover)
    } else if state.total() >= pool.permits.limit.load(Relaxed) {
        Some(CloseReason::Idle)
    } else if connection.expires.is_some_and(too_old) && state.outage().is_none() {
        Some(CloseReason::Lifetime)
    } else {
        None
    };
    let Some(reason) = reason else {
        state.came_back = Some(now);
        state.idle.push(Opened {
            idle_since: now,
            suspect: false,
            ..connection
        });
        let wanted = state.waiting > 0;
        drop(state);
        if wanted {
            pool.available.notify_one();
        }
        return;
    };
    let lacks_connection = state.lacks_connection();
    drop(state);
    close_connections(pool, vec![connection], reason);
    if lacks_connection {
        pool.available.notify_waiters();
    }
}
