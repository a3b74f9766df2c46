//! How a caller gets a connection: first a permit, in the order of the callers, then a connection and a lease on it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::TryAcquireError;
use tokio::time::timeout;

use crate::connect_error::ConnectError;
use crate::error::{Error, PoolTimeout};
use crate::pool::holder::Origin;
use crate::pool::lease::Lease;
use crate::pool::state::{Nested, Permit, Shared, State, Taken};
use crate::pool::{connect, janitor};

/// A connection is trusted for so long after its last use; after that it has to answer first.
const TRUSTED: Duration = Duration::from_millis(500);
const PING_TIMEOUT: Duration = Duration::from_millis(250);

pub(crate) async fn acquire(pool: &Arc<Shared>, origin: Origin) -> Result<Lease, Error> {
    let explicit = matches!(origin, Origin::Code(_));
    let (since, queued) = take_permit(pool, &origin).await?;
    let mut permit = Permit::new(pool.clone());
    if queued {
        // The pool is busy: what has come meanwhile for other tasks of this thread goes before another statement is sent.
        // Otherwise the slowest of a hundred callers take a sixth longer.
        tokio::task::yield_now().await;
    }
    loop {
        let taken = pool.state().take(&origin, since);
        let taken = match taken {
            Some(taken) => taken,
            None => wait_for_connection(pool, &origin).await?,
        };
        permit.holding.holder = Some(taken.holder);
        // Whoever waited in the queue has been told before.
        if let Some(nested) = taken.nested.filter(|_| !queued) {
            report_nesting(pool, &origin, nested);
        }
        let idle = since.saturating_duration_since(taken.connection.idle_since);
        let trusted = !taken.connection.suspect && idle < TRUSTED;
        let mut lease = Lease::new(permit, taken.connection, explicit);
        if trusted || lease.ping(PING_TIMEOUT).await.is_ok() {
            pool.metrics.acquired.fetch_add(1, Relaxed);
            return Ok(lease);
        }
        permit = lease.discard();
    }
}

/// Takes a permit, which dropping a [`Permit`] gives back. Says when it was there, and whether the
/// caller had to queue.
async fn take_permit(pool: &Shared, origin: &Origin) -> Result<(Instant, bool), Error> {
    let since = Instant::now();
    match pool.permits.semaphore.try_acquire() {
        Ok(permit) => {
            permit.forget();
            pool.metrics.wait_time.record(Duration::ZERO);
            return Ok((since, false));
        }
        Err(TryAcquireError::Closed) => return Err(Error::Closed),
        Err(TryAcquireError::NoPermits) => {}
    }
    // Before the wait, which may never end: holders that wait for each other are what this is about.
    let nested = pool.state().nested();
    if let Some(nested) = nested {
        report_nesting(pool, origin, nested);
    }
    Ok((queue(pool, since).await?, true))
}

/// Waits in the queue. The time is recorded also for those who wait in vain.
async fn queue(pool: &Shared, since: Instant) -> Result<Instant, Error> {
    admit(pool)?;
    let _waiting = Waiting::new(pool, since);
    let limit = pool.config.pool_timeout.unwrap_or(Duration::MAX);
    match timeout(limit, pool.permits.semaphore.acquire()).await {
        Ok(Ok(permit)) => permit.forget(),
        Ok(Err(_)) => return Err(Error::Closed),
        Err(_) => return Err(timed_out(pool, since, limit)),
    }
    Ok(Instant::now())
}

/// Turns a caller away at once who would only wait in vain.
fn admit(pool: &Shared) -> Result<(), Error> {
    let waiting = pool.permits.waiting.load(Relaxed);
    let expected = pool.permits.expected_wait(waiting);
    let too_long = pool
        .config
        .pool_timeout
        .is_some_and(|limit| expected > limit);
    if waiting < pool.config.queue_limit && !too_long {
        return Ok(());
    }
    pool.metrics.shed.fetch_add(1, Relaxed);
    Err(Error::Overloaded {
        waiting,
        retry_after: expected.clamp(Duration::from_secs(1), Duration::from_secs(30)),
    })
}

/// Counts a caller in the queue for as long as it waits, however the waiting ends.
struct Waiting<'a> {
    pool: &'a Shared,
    since: Instant,
}

impl<'a> Waiting<'a> {
    fn new(pool: &'a Shared, since: Instant) -> Self {
        pool.permits.waiting.fetch_add(1, Relaxed);
        Self { pool, since }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pool.permits.waiting.fetch_sub(1, Relaxed);
        self.pool.metrics.wait_time.record(self.since.elapsed());
    }
}

/// Holding one connection while asking for another is how pools lock up: every holder waits for the others.
fn report_nesting(pool: &Shared, wanted: &Origin, nested: Nested) {
    pool.metrics.nested.fetch_add(1, Relaxed);
    if let Some(held) = nested.held {
        tracing::warn!(
            held,
            ?wanted,
            "a task that holds a connection asks for another: enough of them lock the pool up"
        );
    }
}

fn timed_out(pool: &Shared, since: Instant, pool_timeout: Duration) -> Error {
    pool.metrics.timed_out.fetch_add(1, Relaxed);
    let stats = pool.stats();
    let mut state = pool.state();
    let longest = state
        .holders()
        .min_by_key(|holder| holder.since)
        .map(|holder| (holder.describe(), holder.since.elapsed()));
    let connect = state.outage().map(|failures| failures.last.clone());
    drop(state);
    Error::PoolTimeout(Box::new(PoolTimeout {
        waited: since.elapsed(),
        pool_timeout,
        limit: stats.limit,
        in_use: stats.in_use,
        idle: stats.idle,
        waiting: stats.waiting,
        longest,
        connect,
    }))
}

/// What a caller with a permit but no connection does next.
enum Next {
    Use(Taken),
    Connect,
    Wait,
    Fail(Arc<ConnectError>),
}

fn next(state: &mut State, origin: &Origin, limit: u32) -> Next {
    if let Some(taken) = state.take(origin, Instant::now()) {
        return Next::Use(taken);
    }
    let came_back_lately = state
        .came_back
        .is_some_and(|at| at.elapsed() < Duration::from_secs(1));
    match state.outage() {
        // The server is full, not gone: a connection of our own may still come, or come back.
        Some(outage) if outage.last.is_server_full() && state.total() > 0 => Next::Wait,
        // New ones fail but ours are at work: one of them will do.
        Some(_) if state.in_use() > 0 && came_back_lately => Next::Wait,
        Some(outage) => Next::Fail(outage.last.clone()),
        None if state.connecting < state.waiting && state.total() < limit => {
            state.connecting += 1;
            Next::Connect
        }
        None => Next::Wait,
    }
}

/// Counts a caller that has a permit but no connection.
struct WithoutConnection<'a>(&'a Shared);

impl Drop for WithoutConnection<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

/// Waits until a connection is there for a caller with a permit: a new one or one that came back.
async fn wait_for_connection(pool: &Arc<Shared>, origin: &Origin) -> Result<Taken, Error> {
    pool.state().waiting += 1;
    let _counted = WithoutConnection(pool);
    // The attempt to connect has the same deadline and a better error, so it may speak first.
    let limit = pool.config.connect_timeout.map_or(Duration::MAX, |limit| {
        limit.saturating_add(Duration::from_millis(50))
    });
    let waited = timeout(limit, available(pool, origin)).await;
    waited.unwrap_or_else(|_| {
        let failures = pool.state().failures.clone();
        Err(Error::Connect(failures.map_or_else(
            || Arc::new(ConnectError::timeout(&pool.config)),
            |failures| failures.last,
        )))
    })
}

async fn available(pool: &Arc<Shared>, origin: &Origin) -> Result<Taken, Error> {
    loop {
        let available = pool.available.notified();
        tokio::pin!(available);
        available.as_mut().enable();
        if pool.permits.semaphore.is_closed() {
            return Err(Error::Closed);
        }
        let next = next(&mut pool.state(), origin, pool.permits.limit.load(Relaxed));
        match next {
            Next::Use(taken) => return Ok(taken),
            Next::Fail(error) => return Err(Error::Connect(error)),
            Next::Connect => {
                janitor::start(pool);
                drop(connect::spawn(pool));
            }
            Next::Wait => {}
        }
        available.await;
    }
}
