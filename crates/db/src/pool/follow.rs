//! The limit that follows the fleet, for `connection_limit=auto`: what the others have is looked up again and again, and the
//! share that it leaves becomes the limit.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::error::Error;
use crate::fleet::Fleet;
use crate::pool::closing::resize;
use crate::pool::state::Shared;
use crate::pool::{control_connection, pooler};
use crate::share::Share;

/// A look always ends.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// Follows the fleet until the pool is closed.
pub(crate) async fn follow(pool: Weak<Shared>) {
    let started = Instant::now();
    let Some(most) = pool.upgrade().map(|pool| pool.config.connection_limit_max) else {
        return;
    };
    let mut share = Share::new(most);
    loop {
        let Some(pool) = pool.upgrade() else { return };
        if !pool.permits.semaphore.is_closed() {
            look(&pool, &mut share, started).await;
        }
        if pool.permits.semaphore.is_closed() || pool.is_pooled() {
            pooler::set_limit(&pool);
            control_connection::close(&pool, true).await;
            return;
        }
        drop(pool);
        // No two instances ask in step.
        let pause = share.pause().mul_f64(0.8 + 0.4 * fastrand::f64());
        tokio::time::sleep(pause.min(share.time_left(started.elapsed()))).await;
    }
}

/// Looks once, and sets the limit to what that says.
async fn look(pool: &Shared, share: &mut Share, started: Instant) {
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
            return;
        }
    };
    share.saw(&fleet.view(), began);
    set(pool, share.limit(), &fleet);
    let limits = fleet.limits(share.limit() as i32, pool.stats().open as i32);
    *pool.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(limits);
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
