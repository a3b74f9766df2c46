//! How a caller gets a connection: first a permit, in the order of the callers, then a connection and a lease on it.

use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::TryAcquireError;
use tracing::Instrument as _;

use crate::caller;
use crate::connect_error::ConnectError;
use crate::error::Error;
use crate::limits::Limits;
use crate::pool::closing::close_silent;
use crate::pool::connection::Connection;
use crate::pool::holder::{Demand, Nested, Origin, Taken};
use crate::pool::opened::Opened;
use crate::pool::queue::{queue, take_turn, until_deadline};
use crate::pool::state::{Permit, Shared, State};
use crate::pool::strain::LEASES;
use crate::pool::wait::Wait;
use crate::pool::within::within;
use crate::pool::{connect, janitor};
use crate::work::Work;

/// A connection is trusted for so long after its last use; after that it has to answer first.
const TRUSTED: Duration = Duration::from_millis(500);
const PING_TIMEOUT: Duration = Duration::from_millis(250);

pub(crate) async fn acquire(
    pool: &Arc<Shared>,
    limits: Option<&Limits>,
    origin: Origin,
) -> Result<Connection, Error> {
    let asked = Instant::now();
    let demand = Demand {
        origin,
        work: caller::work(),
        pool_timeout: match limits.and_then(|limits| limits.wait) {
            Some(limit) => (limit < Duration::MAX).then_some(limit),
            None => pool.config.pool_timeout,
        },
    };
    let mut lease = match at_once(pool, &demand, asked) {
        Some(lease) => lease,
        // Boxed, as is below what fewer need: each statement would carry its size.
        None => Box::pin(wait(pool, demand, asked)).await?,
    };
    if let Some(limits) = limits {
        lease.socket_timeout = limits.socket_timeout(lease.socket_timeout);
        // The session is told them before the statement begins.
        lease.asked = None;
    }
    Ok(lease)
}

/// What nobody has to wait for: a permit is free, and the connection that was used last is trusted.
fn at_once(pool: &Arc<Shared>, demand: &Demand, asked: Instant) -> Option<Connection> {
    let work = demand.work.as_ref();
    if work.is_some_and(|work| work.is_slow()) {
        return None;
    }
    pool.permits.semaphore.try_acquire().ok()?.forget();
    let mut permit = Permit::new(pool.clone());
    if let Some(work) = work {
        let permits = &pool.permits;
        permit.turn = Some(work.try_start(&permits.askers, permits.limit.load(Relaxed))?);
    }
    let taken = {
        let mut state = pool.state();
        let last = state.idle.last();
        last.filter(|last| is_trusted(last, asked))?;
        state.take(demand, asked)?
    };
    permit.holding.holder = Some(taken.holder);
    served(pool, demand, asked);
    if let Some(nested) = taken.nested {
        report_nesting(pool, demand, nested);
    }
    pool.metrics.acquired.fetch_add(1, Relaxed);
    let explicit = matches!(demand.origin, Origin::Code(_));
    let mut lease = Connection::new(permit, taken.connection, explicit);
    lease.asked = (!explicit).then_some(asked);
    Some(lease)
}

/// A permit was free.
fn served(pool: &Shared, demand: &Demand, asked: Instant) {
    pool.waited(demand.work.as_deref(), Duration::ZERO);
    if let Some(delay) = &pool.permits.delay {
        delay.served(Duration::ZERO, asked, |calls| pool.expected_wait(calls));
    }
}

fn is_trusted(connection: &Opened, now: Instant) -> bool {
    !connection.suspect && now.saturating_duration_since(connection.idle_since) < TRUSTED
}

async fn wait(pool: &Arc<Shared>, demand: Demand, asked: Instant) -> Result<Connection, Error> {
    let mut wait = Wait::new(asked);
    let leased = lease(pool, demand, &mut wait).await;
    if let Err(error) = &leased {
        wait.failed(error);
        // A caller that asks again at once lets other tasks run: one of them may open the connection it wants.
        tokio::task::yield_now().await;
    }
    leased
}

async fn lease(pool: &Arc<Shared>, demand: Demand, wait: &mut Wait) -> Result<Connection, Error> {
    let explicit = matches!(demand.origin, Origin::Code(_));
    let asked = wait.asked;
    let (mut permit, queued) = permit_and_turn(pool, &demand, wait).await?;
    if queued.is_some() {
        // The pool is busy: what has come meanwhile for other tasks of this thread goes before another statement is sent.
        // Otherwise the slowest of a hundred callers take a sixth longer.
        tokio::task::yield_now().await;
    }
    let since = queued.unwrap_or(asked);
    loop {
        let taken = pool.state().take(&demand, since);
        let taken = match taken {
            Some(taken) => taken,
            None => {
                let waiting = wait_for_connection(pool, &demand).instrument(wait.span(pool));
                Box::pin(until_deadline(pool, &demand, asked, waiting)).await?
            }
        };
        permit.holding.holder = Some(taken.holder);
        // Whoever waited in the queue has been told before.
        if let Some(nested) = taken.nested.filter(|_| queued.is_none()) {
            report_nesting(pool, &demand, nested);
        }
        let trusted = is_trusted(&taken.connection, since);
        let mut lease = Connection::new(permit, taken.connection, explicit);
        let answer = match trusted {
            true => Ok(()),
            false => {
                let ping = lease.ping_within(ping_timeout(pool));
                let ping = ping.instrument(wait.span(pool));
                Box::pin(until_deadline(pool, &demand, asked, ping)).await
            }
        };
        match answer {
            Ok(()) => {
                pool.metrics.acquired.fetch_add(1, Relaxed);
                lease.waited = wait.end();
                return Ok(lease);
            }
            // Its time is over, which says nothing about the connection.
            Err(error @ Error::PoolTimeout(_)) => return Err(error),
            Err(error) => permit = given_up(pool, lease, &error),
        }
    }
}

/// Closes what has not answered well, and keeps its permit.
fn given_up(pool: &Shared, lease: Connection, error: &Error) -> Permit {
    // What is idle beside it behind a pooler is as silent, and would be asked for as long.
    if pool.is_pooled() && matches!(error, Error::NoAnswer(_)) {
        close_silent(pool);
    }
    lease.discard()
}

/// A pooler answers when a session of the server is free. A new connection would stand in the same queue.
fn ping_timeout(pool: &Shared) -> Duration {
    match pool.is_pooled() {
        true => pool.config.connect_timeout.unwrap_or(Duration::MAX),
        false => PING_TIMEOUT,
    }
}

/// What is idle, without a wait of any kind.
pub(crate) fn try_acquire(
    pool: &Arc<Shared>,
    place: &'static Location<'static>,
) -> Option<Connection> {
    pool.permits.semaphore.try_acquire().ok()?.forget();
    let mut permit = Permit::new(pool.clone());
    let demand = Demand {
        origin: Origin::Code(place),
        work: caller::work(),
        pool_timeout: None,
    };
    let taken = pool.state().take(&demand, Instant::now())?;
    permit.holding.holder = Some(taken.holder);
    pool.waited(demand.work.as_deref(), Duration::ZERO);
    pool.metrics.acquired.fetch_add(1, Relaxed);
    Some(Connection::new(permit, taken.connection, true))
}

/// Takes a permit, and with it a turn of the caller's work. Slow work waits for its turn first, so that those of other work
/// who queue for a permit are not behind it.
async fn permit_and_turn(
    pool: &Arc<Shared>,
    demand: &Demand,
    wait: &mut Wait,
) -> Result<(Permit, Option<Instant>), Error> {
    match &demand.work {
        Some(work) if work.is_slow() => Box::pin(after_turn(pool, demand, work, wait)).await,
        work => {
            let queued = take_permit(pool, demand, wait.asked, wait).await?;
            let mut permit = Permit::new(pool.clone());
            let Some(work) = work else {
                return Ok((permit, queued));
            };
            let permits = &pool.permits;
            permit.turn = work.try_start(&permits.askers, permits.limit.load(Relaxed));
            if permit.turn.is_some() {
                return Ok((permit, queued));
            }
            // It has become slow while the caller queued: the permit goes to somebody else.
            drop(permit);
            Box::pin(after_turn(pool, demand, work, wait)).await
        }
    }
}

/// Takes a turn of slow work, and then a permit.
async fn after_turn(
    pool: &Arc<Shared>,
    demand: &Demand,
    work: &Arc<Work>,
    wait: &mut Wait,
) -> Result<(Permit, Option<Instant>), Error> {
    let asked = wait.asked;
    // Who holds a connection would keep it while waiting for a turn that it may itself hold up.
    if pool.state().holds_one() {
        let queued = take_permit(pool, demand, asked, wait).await?;
        return Ok((Permit::new(pool.clone()), queued));
    }
    wait.span(pool);
    let turn = take_turn(pool, demand, work, asked).await?;
    let since = Instant::now();
    let queued = take_permit(pool, demand, since, wait).await?;
    let mut permit = Permit::new(pool.clone());
    permit.turn = Some(turn);
    // The wait for the turn is no use of the connection.
    Ok((permit, queued.or(Some(since))))
}

/// Takes a permit, which dropping a [`Permit`] gives back. Says when it was there if the caller had to queue.
async fn take_permit(
    pool: &Shared,
    demand: &Demand,
    asked: Instant,
    wait: &mut Wait,
) -> Result<Option<Instant>, Error> {
    match pool.permits.semaphore.try_acquire() {
        Ok(permit) => {
            permit.forget();
            served(pool, demand, asked);
            return Ok(None);
        }
        Err(TryAcquireError::Closed) => return Err(Error::Closed),
        Err(TryAcquireError::NoPermits) => {}
    }
    wait.span(pool);
    // Before the wait, which may never end: holders that wait for each other are what this is about.
    let nested = pool.state().nested();
    if let Some(nested) = nested {
        report_nesting(pool, demand, nested);
    }
    queue(pool, demand, asked).await.map(Some)
}

/// Holding one connection while asking for another is how pools lock up: every holder waits for the others.
fn report_nesting(pool: &Shared, demand: &Demand, nested: Nested) {
    pool.metrics.nested.fetch_add(1, Relaxed);
    if let Some(held) = nested.held {
        let wanted = &demand.origin;
        tracing::warn!(
            event = "nested",
            held,
            ?wanted,
            "a task that holds a connection asks for another: enough of them lock the pool up"
        );
    }
}

/// What a caller with a permit but no connection does next.
enum Next {
    Use(Taken),
    Connect,
    Wait,
    Fail(Arc<ConnectError>),
}

fn next(state: &mut State, demand: &Demand, limit: u32) -> Next {
    if let Some(taken) = state.take(demand, Instant::now()) {
        return Next::Use(taken);
    }
    let came_back_lately = state
        .came_back
        .is_some_and(|at| at.elapsed() < Duration::from_secs(1));
    match state.outage() {
        // A connection of our own may still come, or come back.
        Some(_) if state.crowded().is_some() && state.total() > 0 => Next::Wait,
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
async fn wait_for_connection(pool: &Arc<Shared>, demand: &Demand) -> Result<Taken, Error> {
    pool.state().waiting += 1;
    let _counted = WithoutConnection(pool);
    // The attempt to connect has the same deadline and a better error, so it may speak first.
    let limit = pool.config.connect_timeout.map_or(Duration::MAX, |limit| {
        limit.saturating_add(Duration::from_millis(50))
    });
    let waited = within(pool, limit, pin!(available(pool, demand))).await;
    waited.unwrap_or_else(|| {
        let failures = pool.state().failures.clone();
        Err(Error::Connect(failures.map_or_else(
            || {
                Arc::new(ConnectError::timeout(
                    &pool.config,
                    pool.servers.addresses(),
                ))
            },
            |failures| failures.last,
        )))
    })
}

async fn available(pool: &Arc<Shared>, demand: &Demand) -> Result<Taken, Error> {
    loop {
        let available = pool.available.notified();
        tokio::pin!(available);
        available.as_mut().enable();
        if pool.permits.semaphore.is_closed() {
            return Err(Error::Closed);
        }
        let next = next(&mut pool.state(), demand, pool.permits.may_open());
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

/// A connection of the pool; of its primary if it is a replica that does not answer, or on which others have just failed.
pub(crate) async fn acquire_anywhere(
    pool: &Arc<Shared>,
    limits: Option<&Limits>,
    origin: Origin,
) -> Result<Connection, Error> {
    let Some(replica) = &pool.replica else {
        return acquire(pool, limits, origin).await;
    };
    let acquired = match replica.may_be_asked(LEASES) {
        false => None,
        true => Some(tokio::select! {
            acquired = acquire(pool, limits, origin.clone()) => acquired,
            () = replica.health.lost() => Err(Error::NoAnswer(Duration::ZERO)),
        }),
    };
    let left = |error: &Error| replica.health.leaves_to_primary(error);
    match acquired {
        Some(acquired) if !acquired.as_ref().is_err_and(left) => acquired,
        _ => {
            pool.metrics.fallbacks.fetch_add(1, Relaxed);
            acquire(&replica.primary, limits, origin).await
        }
    }
}
