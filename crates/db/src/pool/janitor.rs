//! What is done once a second in the background: keep connections fresh and ready, close idle ones, report leaks.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::metrics::CloseReason;
use crate::pool::closing::close_connections;
use crate::pool::events::Told;
use crate::pool::follow::follow;
use crate::pool::handshake::refresh;
use crate::pool::state::Shared;
use crate::pool::{connect, control_connection, proof};

const PERIOD: Duration = Duration::from_secs(1);
/// How often new credentials are asked for, for those connections that sqlx's own pools open.
const BETWEEN_CREDENTIALS: Duration = Duration::from_secs(30);

/// Starts the janitor if it does not run yet. It ends with the pool.
pub(crate) fn start(pool: &Arc<Shared>) {
    pool.janitor
        .get_or_init(|| drop(tokio::spawn(work(Arc::downgrade(pool)))));
}

async fn work(pool: Weak<Shared>) {
    if pool.upgrade().is_some_and(|pool| pool.follows()) {
        tokio::spawn(follow(pool.clone()));
    }
    let _ticks = Ticks(pool.clone());
    let (mut told, mut asked) = (Told::default(), Instant::now());
    loop {
        {
            let Some(pool) = pool.upgrade() else { return };
            if pool.permits.semaphore.is_closed() {
                return;
            }
            let now = Instant::now();
            pool.state().pace.pauses.ticked(now);
            close_idle(&pool, now);
            replace_old(&pool, now);
            open_missing(&pool);
            report_leaks(&pool);
            find_out(&pool);
            told.tell(&pool);
            control_connection::close(&pool, false).await;
            if asked.elapsed() > BETWEEN_CREDENTIALS && !pool.permits.parts().is_empty() {
                asked = Instant::now();
                tokio::spawn(refresh(pool));
            }
        }
        if let Some(pool) = pool.upgrade() {
            let now = Instant::now();
            pool.state().pace.pauses.await_tick(now, now + PERIOD);
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Has it found out whose the sessions are, where nobody has needed to know yet.
fn find_out(pool: &Arc<Shared>) {
    let state = pool.state();
    let open = state.total() > state.connecting && state.outage().is_none();
    drop(state);
    if open && proof::known(pool).is_none() {
        let pool = pool.clone();
        tokio::spawn(async move { proof::sessions(&pool).await });
    }
}

/// What ticks for a pool, until the runtime drops it.
struct Ticks(Weak<Shared>);

impl Drop for Ticks {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.state().pace.pauses.ticked(Instant::now());
        }
    }
}

/// Closes what nobody has used for a while, oldest first, down to `min_connections`.
fn close_idle(pool: &Shared, now: Instant) {
    let Some(limit) = pool.config.max_idle_connection_lifetime else {
        return;
    };
    let mut state = pool.state();
    let spare = state.total().saturating_sub(pool.config.min_connections) as usize;
    // The first ones were used longest ago.
    let old = state
        .idle
        .iter()
        .take_while(|connection| now - connection.idle_since > limit)
        .count()
        .min(spare);
    let connections = state.idle.drain(..old).collect();
    drop(state);
    close_connections(pool, connections, CloseReason::Idle);
}

/// Replaces one connection that has reached its age; one a second keeps a fleet from reconnecting all at once.
/// Where there is room the new connection comes before the old one goes.
fn replace_old(pool: &Arc<Shared>, now: Instant) {
    let mut state = pool.state();
    let is_old = state.idle.iter().any(|one| one.is_older_than(now));
    if !is_old || state.outage().is_some() || state.connecting > 0 {
        return;
    }
    let room = state.total() < pool.permits.may_open();
    let old = match room {
        true => None,
        false => state.take_older_than(now),
    };
    state.connecting += 1;
    drop(state);
    close_connections(pool, old.into_iter().collect(), CloseReason::Lifetime);
    let connecting = connect::spawn(pool);
    if room {
        let pool = pool.clone();
        tokio::spawn(async move {
            if connecting.await.unwrap_or(false) {
                let old = pool.state().take_older_than(now);
                close_connections(&pool, old.into_iter().collect(), CloseReason::Lifetime);
            }
        });
    }
}

/// Opens what is missing to `min_connections`, all at once.
fn open_missing(pool: &Arc<Shared>) {
    let mut state = pool.state();
    let wanted = pool.config.min_connections.min(pool.permits.may_open());
    let missing = match state.outage() {
        Some(_) => 0,
        None => wanted.saturating_sub(state.total()),
    };
    state.connecting += missing;
    drop(state);
    for _ in 0..missing {
        connect::spawn(pool);
    }
}

/// Tells once about each connection that has been held too long, with the place that took it.
fn report_leaks(pool: &Shared) {
    let Some(limit) = pool.config.leak_threshold else {
        return;
    };
    let mut late = Vec::new();
    let (mut state, now) = (pool.state(), Instant::now());
    let pauses = state.pace.pauses.clone();
    for holder in state.holders().filter(|holder| !holder.reported) {
        let held = (now - holder.since).saturating_sub(pauses.lost(holder.since, now));
        if held > limit {
            holder.reported = true;
            late.push((held, holder.describe()));
        }
    }
    drop(state);
    pool.metrics.leaked.fetch_add(late.len() as u64, Relaxed);
    for (held, holder) in late {
        tracing::warn!(
            event = "leak",
            "a connection has been held for {held:.1?}, longer than leak_threshold, by {holder}"
        );
    }
}
