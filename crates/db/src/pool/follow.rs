//! The limit that follows the fleet, for `connection_limit=auto`: what the others have is looked up again and again, and the
//! share that it leaves becomes the limit.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::error::Error;
use crate::fleet::Fleet;
use crate::pool::between::Sessions;
use crate::pool::closing::resize;
use crate::pool::state::Shared;
use crate::pool::{control_connection, pooler, proof};
use crate::share::Share;

/// A look always ends.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// Where there is no room for a connection that looks, or for those that prove whose the sessions are, the next look comes so late.
const CROWDED: Duration = Duration::from_secs(3);
/// How long the pool's own first connection may take, and how often that is looked at.
const FIRST: Duration = Duration::from_secs(5);
const GLANCE: Duration = Duration::from_millis(10);

/// Follows the fleet until the pool is closed.
pub(crate) async fn follow(pool: Weak<Shared>) {
    let started = Instant::now();
    let Some(most) = pool.upgrade().map(|pool| pool.config.connection_limit_max) else {
        return;
    };
    let mut share = Share::new(most);
    let _ = timeout(FIRST, first_connection(&pool)).await;
    let mut tight_before = false;
    loop {
        let Some(pool) = pool.upgrade() else { return };
        // Behind a pooler that passes everything on the list of sessions looks like a server's.
        let proves = proof::known(&pool).is_none();
        let unproven = proof::sessions(&pool).await == Sessions::Unknown;
        let crowded = !pool.permits.semaphore.is_closed()
            && pool.follows()
            && look(&pool, &mut share, started).await;
        if pool.permits.semaphore.is_closed() || !pool.follows() {
            pooler::set_limit(&pool);
            control_connection::close(&pool, true).await;
            return;
        }
        drop(pool);
        let tight = crowded || unproven;
        // What was just closed, by the pool at first or by the proof, may still take a place.
        let pause = match tight && tight_before && !proves {
            true => share.pause().max(CROWDED),
            false => share.pause(),
        };
        tight_before = tight;
        // No two instances ask in step.
        let pause = pause.mul_f64(0.8 + 0.4 * fastrand::f64());
        tokio::time::sleep(pause.min(share.time_left(started.elapsed()))).await;
    }
}

/// Waits until the pool has a connection, or has failed to open one: the first one is for work.
async fn first_connection(pool: &Weak<Shared>) {
    let is_opening = |pool: Arc<Shared>| {
        let state = pool.state();
        state.is_empty() && state.connecting > 0
    };
    while pool.upgrade().is_some_and(is_opening) {
        tokio::time::sleep(GLANCE).await;
    }
}

/// Looks once, and sets the limit to what that says. Says whether there is no room for the connection that looks.
async fn look(pool: &Shared, share: &mut Share, started: Instant) -> bool {
    let began = started.elapsed();
    // Whoever is counted as gone has to know that in time.
    let patience = share.time_left(began).min(LONGEST_LOOK);
    // What has not been given back yet is claimed too, and what parts keep.
    let has = pool.permits.in_parts() + pool.state().total();
    let asked = control_connection::ask_fleet(pool, share.claim().max(has));
    let answer = timeout(patience, asked).await;
    let answer = answer.unwrap_or(Err(Error::NoAnswer(patience)));
    let fleet = match answer {
        Ok(fleet) => fleet,
        Err(error) => {
            tracing::debug!("the fleet cannot be seen: {error}");
            share.saw_nothing(started.elapsed());
            if pool.permits.most_open.swap(share.may_open(), Relaxed) > share.may_open() {
                tracing::warn!(
                    event = "fleet_unseen",
                    "the other instances cannot be seen, and may have taken more: no new connections until they are"
                );
            }
            return matches!(error, Error::Connect(error) if error.is_server_full());
        }
    };
    // It was found behind a pooler meanwhile, by the very connection that asks.
    if !pool.follows() {
        return false;
    }
    share.saw(&fleet.view(), began);
    set(pool, share.limit(), &fleet);
    let limits = fleet.limits(share.limit() as i32, pool.stats().open as i32);
    *pool.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(limits);
    // The last place is for an instance that has none, and this one has no more to gain by looking.
    let crowded = share.limit() == 1 && fleet.is_full();
    if crowded {
        control_connection::close(pool, true).await;
    }
    crowded
}

/// Makes this the limit, if it is another one.
fn set(pool: &Shared, limit: u32, fleet: &Fleet) {
    let before = pool.permits.whole_limit();
    pool.permits.most_open.store(limit, Relaxed);
    if !resize(pool, limit) {
        return;
    }
    tracing::info!(
        event = "limit",
        limit,
        instances = fleet.following,
        "the limit is {limit} now, {before} before: {} {} connections to share",
        instances(fleet.following),
        fleet.view().budget,
    );
}

fn instances(count: i32) -> String {
    match count {
        1 => "1 instance has".to_owned(),
        _ => format!("{count} instances have"),
    }
}
