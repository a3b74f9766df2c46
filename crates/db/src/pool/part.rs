//! A part of the limit as a pool of sqlx's own, for crates that want that type: one budget, two doors.

use std::panic::Location;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use sqlx::pool::CloseEvent;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool, SqlSafeStr};
use tokio::time::timeout;

use crate::error::Error;
use crate::pool::acquire::acquire;
use crate::pool::between::Kind;
use crate::pool::closing::close_excess;
use crate::pool::connection::Connection;
use crate::pool::holder::Origin;
use crate::pool::permits::Part;
use crate::pool::state::Shared;
use crate::pool::{handshake, janitor};

/// As good as no limit.
const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// Why a pool of `connections` cannot be a part of this one, if it cannot.
fn check(pool: &Shared, connections: u32) -> Result<(), Error> {
    let limit = pool.permits.limit.load(Relaxed);
    if (1..limit).contains(&connections) {
        return Ok(());
    }
    Err(Error::Sqlx(sqlx::Error::InvalidArgument(format!(
        "a pool of sqlx's own may have 1 to {} of the {limit} connections, not {connections}: raise connection_limit, so \
         that both have what they need",
        limit - 1
    ))))
}

/// Waits until a limit that follows the fleet, and begins with one, is large enough, for as long as a caller would wait.
async fn grown(pool: &Arc<Shared>, connections: u32) {
    if !pool.follows() || connections >= pool.config.connection_limit_max {
        return;
    }
    janitor::start(pool);
    let large_enough = async {
        loop {
            let changed = pool.available.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if check(pool, connections).is_ok() {
                return;
            }
            changed.await;
        }
    };
    let limit = pool.config.pool_timeout.unwrap_or(NEVER);
    let _ = timeout(limit, large_enough).await;
}

/// Takes so many connections out of the limit, when they are free, and makes a pool of sqlx's own in their place.
pub(crate) async fn take(
    pool: &Arc<Shared>,
    connections: u32,
    place: &'static Location<'static>,
) -> Result<Part, Error> {
    grown(pool, connections).await;
    check(pool, connections)?;
    let mut free = Vec::new();
    for _ in 0..connections {
        let one = acquire(pool, None, Origin::Code(place)).await?;
        // Several at once, and yet nobody's work waits for the next one.
        one.disown();
        free.push(one);
    }
    let part = make(pool, connections);
    let mut parts = pool.permits.parts();
    parts.push(part.clone());
    let limit = pool.permits.limit.load(Relaxed);
    // Before the connections go, so that nobody opens others in their place.
    pool.permits
        .resize(limit.saturating_sub(connections).max(1));
    drop(parts);
    free.into_iter().for_each(Connection::close);
    close_excess(pool);
    Ok(part)
}

/// Another pool of sqlx's own for the same part of the limit, where a connection of the last one may never come back.
pub(crate) fn renew(pool: &Arc<Shared>, part: &Part) -> Part {
    let new = make(pool, part.connections);
    let mut parts = pool.permits.parts();
    if let Some(kept) = parts.iter_mut().find(|kept| kept.id == part.id) {
        *kept = new.clone();
    }
    drop(parts);
    let last = part.pool.clone();
    tokio::spawn(async move { last.close().await });
    new
}

fn make(pool: &Arc<Shared>, connections: u32) -> Part {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let part = Part {
        id: MADE.fetch_add(1, Relaxed),
        pool: open(pool, connections),
        connections,
    };
    let closed = part.pool.close_event();
    tokio::spawn(take_back(Arc::downgrade(pool), part.id, closed));
    part
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place where sqlx's pool is wanted"
)]
fn open(pool: &Shared, connections: u32) -> PgPool {
    let config = &pool.config;
    let mut options = PgPoolOptions::new();
    let told = pool.between.kind() == Kind::SessionPooler;
    let told = told.then(|| AssertSqlSafe(config.tell(pool.instance.id())).into_sql_str());
    let hook = pool.after_connect().cloned();
    if hook.is_some() || told.is_some() {
        options = options.after_connect(move |connection, _| {
            let (hook, told) = (hook.clone(), told.clone());
            Box::pin(async move {
                if let Some(told) = told {
                    sqlx::raw_sql(told).execute(&mut *connection).await?;
                }
                match hook {
                    Some(hook) => hook(connection).await,
                    None => Ok(()),
                }
            })
        });
    }
    options
        .max_connections(connections)
        .acquire_timeout(config.pool_timeout.unwrap_or(NEVER).min(NEVER))
        .max_lifetime(config.max_connection_lifetime)
        .idle_timeout(config.max_idle_connection_lifetime)
        .connect_lazy_with(handshake::options_of_part(pool))
}

/// Gives the connections back to the limit when that pool has closed all of its own.
async fn take_back(pool: Weak<Shared>, id: usize, closed: CloseEvent) {
    closed.await;
    let Some(shared) = pool.upgrade() else { return };
    let Some(part) = shared
        .permits
        .parts()
        .iter()
        .find(|part| part.id == id)
        .cloned()
    else {
        return;
    };
    drop(shared);
    // Until the last one that is in use has come back.
    part.pool.close().await;
    let Some(shared) = pool.upgrade() else { return };
    let mut parts = shared.permits.parts();
    parts.retain(|part| part.id != id);
    let limit = shared.permits.limit.load(Relaxed);
    shared.permits.resize(limit + part.connections);
    drop(parts);
    shared.available.notify_waiters();
}

/// Closes all of them, which ends when what is in use has come back.
pub(crate) async fn close(pool: &Shared) {
    let all = pool.permits.parts().clone();
    join_all(all.iter().map(|part| part.pool.close())).await;
}

/// How many connections they may have together, how many are idle, and how many are in use. `None` if there is no part.
pub(crate) fn stats(pool: &Shared) -> Option<(u32, u32, u32)> {
    let parts = pool.permits.parts();
    let sum = |count: fn(&Part) -> u32| parts.iter().map(count).sum::<u32>();
    let idle = sum(|part| part.pool.num_idle() as u32);
    let open = sum(|part| part.pool.size());
    let limit = sum(|part| part.connections);
    (!parts.is_empty()).then_some((limit, idle, open.saturating_sub(idle)))
}
