//! How a caller gets a connection: first a permit, in the order of the callers, then a connection and a lease on it.

use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::TryAcquireError;
use tracing::{Instrument as _, Span};

use crate::connect_error::ConnectError;
use crate::error::Error;
use crate::limits::Limits;
use crate::pool::closing::close_silent;
use crate::pool::connection::Connection;
use crate::pool::holder::{Caller, Nested, Origin, Taken};
use crate::pool::queue::{queue, take_turn, until_deadline};
use crate::pool::state::{Permit, Shared, State};
use crate::pool::strain::LEASES;
use crate::pool::within::within;
use crate::pool::{connect, janitor};
use crate::{spans, usage, work};

/// A connection is trusted for so long after its last use; after that it has to answer first.
const TRUSTED: Duration = Duration::from_millis(500);
const PING_TIMEOUT: Duration = Duration::from_millis(250);

pub(crate) async fn acquire(
    pool: &Arc<Shared>,
    limits: Option<&Limits>,
    origin: Origin,
) -> Result<Connection, Error> {
    let caller = Caller {
        origin,
        work: work::current(),
        pool_timeout: match limits.and_then(|limits| limits.wait) {
            Some(limit) => (limit < Duration::MAX).then_some(limit),
            None => pool.config.pool_timeout,
        },
    };
    let mut wait = Wait::new();
    match lease(pool, caller, &mut wait).await {
        Err(error) => {
            wait.failed(&error);
            // A caller that asks again at once lets other tasks run: one of them may open the connection it wants.
            tokio::task::yield_now().await;
            Err(error)
        }
        Ok(mut lease) => {
            if let Some(limits) = limits {
                lease.socket_timeout = limits.socket_timeout(lease.socket_timeout);
            }
            Ok(lease)
        }
    }
}

async fn lease(pool: &Arc<Shared>, caller: Caller, wait: &mut Wait) -> Result<Connection, Error> {
    let explicit = matches!(caller.origin, Origin::Code(_));
    let asked = wait.asked;
    let (mut permit, queued) = permit_and_turn(pool, &caller, wait).await?;
    if queued.is_some() {
        // The pool is busy: what has come meanwhile for other tasks of this thread goes before another statement is sent.
        // Otherwise the slowest of a hundred callers take a sixth longer.
        tokio::task::yield_now().await;
    }
    let since = queued.unwrap_or(asked);
    loop {
        let taken = pool.state().take(&caller, since);
        let direct = taken.is_some() && queued.is_none();
        let taken = match taken {
            Some(taken) => taken,
            None => {
                let waiting = wait_for_connection(pool, &caller).instrument(wait.span(pool));
                until_deadline(pool, &caller, asked, waiting).await?
            }
        };
        permit.holding.holder = Some(taken.holder);
        // Whoever waited in the queue has been told before.
        if let Some(nested) = taken.nested.filter(|_| queued.is_none()) {
            report_nesting(pool, &caller, nested);
        }
        let idle = since.saturating_duration_since(taken.connection.idle_since);
        let trusted = !taken.connection.suspect && idle < TRUSTED;
        let mut lease = Connection::new(permit, taken.connection, explicit);
        let answer = match trusted {
            true => Ok(()),
            false => {
                let ping = lease.ping_within(ping_timeout(pool));
                let ping = ping.instrument(wait.span(pool));
                until_deadline(pool, &caller, asked, ping).await
            }
        };
        match answer {
            Ok(()) => {
                pool.metrics.acquired.fetch_add(1, Relaxed);
                lease.waited = match direct && trusted {
                    true => wait.none(),
                    false => wait.end(),
                };
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
    let caller = Caller {
        origin: Origin::Code(place),
        work: work::current(),
        pool_timeout: None,
    };
    let taken = pool.state().take(&caller, Instant::now())?;
    permit.holding.holder = Some(taken.holder);
    pool.waited(caller.work.as_deref(), Duration::ZERO);
    pool.metrics.acquired.fetch_add(1, Relaxed);
    Some(Connection::new(permit, taken.connection, true))
}

/// A caller's wait for a connection, counted as its task's however it ends.
struct Wait {
    asked: Instant,
    over: bool,
    /// None as long as nothing had to be waited for.
    span: Span,
}

impl Wait {
    fn new() -> Self {
        Self {
            asked: Instant::now(),
            over: false,
            span: Span::none(),
        }
    }

    /// The span of the wait, which begins now if it has not begun.
    fn span(&mut self, pool: &Shared) -> Span {
        if self.span.is_none() {
            self.span = spans::wait(&pool.config);
        }
        self.span.clone()
    }

    /// There was none: the clock need not be asked.
    fn none(&mut self) -> Duration {
        self.over = true;
        Duration::ZERO
    }

    fn end(&mut self) -> Duration {
        self.over = true;
        let time = self.asked.elapsed();
        usage::waited(time);
        time
    }

    fn failed(&mut self, error: &Error) {
        self.end();
        spans::failed(
            &self.span,
            match error {
                Error::PoolTimeout(_) => "timeout",
                Error::Overloaded { .. } => "overloaded",
                Error::Connect(_) => "connect",
                Error::Closed => "closed",
                _ => "_OTHER",
            },
        );
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if !self.over {
            self.end();
            spans::failed(&self.span, "cancelled");
        }
    }
}

/// Takes a permit, and with it a turn of the caller's work. Slow work waits for its turn first, so that those of other work
/// who queue for a permit are not behind it.
async fn permit_and_turn(
    pool: &Arc<Shared>,
    caller: &Caller,
    wait: &mut Wait,
) -> Result<(Permit, Option<Instant>), Error> {
    let asked = wait.asked;
    let Some(work) = &caller.work else {
        let queued = take_permit(pool, caller, asked, wait).await?;
        return Ok((Permit::new(pool.clone()), queued));
    };
    if !work.is_slow() {
        let queued = take_permit(pool, caller, asked, wait).await?;
        let mut permit = Permit::new(pool.clone());
        let permits = &pool.permits;
        permit.turn = work.try_start(&permits.askers, permits.limit.load(Relaxed));
        if permit.turn.is_some() {
            return Ok((permit, queued));
        }
        // It has become slow while the caller queued: the permit goes to somebody else.
    }
    // Who holds a connection would keep it while waiting for a turn that it may itself hold up.
    if pool.state().holds_one() {
        let queued = take_permit(pool, caller, asked, wait).await?;
        return Ok((Permit::new(pool.clone()), queued));
    }
    wait.span(pool);
    let turn = take_turn(pool, caller, work, asked).await?;
    let since = Instant::now();
    let queued = take_permit(pool, caller, since, wait).await?;
    let mut permit = Permit::new(pool.clone());
    permit.turn = Some(turn);
    // The wait for the turn is no use of the connection.
    Ok((permit, queued.or(Some(since))))
}

/// Takes a permit, which dropping a [`Permit`] gives back. Says when it was there if the caller had to queue.
async fn take_permit(
    pool: &Shared,
    caller: &Caller,
    asked: Instant,
    wait: &mut Wait,
) -> Result<Option<Instant>, Error> {
    match pool.permits.semaphore.try_acquire() {
        Ok(permit) => {
            permit.forget();
            pool.waited(caller.work.as_deref(), Duration::ZERO);
            if let Some(delay) = &pool.permits.delay {
                delay.served(Duration::ZERO, asked, |calls| pool.expected_wait(calls));
            }
            return Ok(None);
        }
        Err(TryAcquireError::Closed) => return Err(Error::Closed),
        Err(TryAcquireError::NoPermits) => {}
    }
    wait.span(pool);
    // Before the wait, which may never end: holders that wait for each other are what this is about.
    let nested = pool.state().nested();
    if let Some(nested) = nested {
        report_nesting(pool, caller, nested);
    }
    queue(pool, caller, asked).await.map(Some)
}

/// Holding one connection while asking for another is how pools lock up: every holder waits for the others.
fn report_nesting(pool: &Shared, caller: &Caller, nested: Nested) {
    pool.metrics.nested.fetch_add(1, Relaxed);
    if let Some(held) = nested.held {
        let wanted = &caller.origin;
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

fn next(state: &mut State, caller: &Caller, limit: u32) -> Next {
    if let Some(taken) = state.take(caller, Instant::now()) {
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
async fn wait_for_connection(pool: &Arc<Shared>, caller: &Caller) -> Result<Taken, Error> {
    pool.state().waiting += 1;
    let _counted = WithoutConnection(pool);
    // The attempt to connect has the same deadline and a better error, so it may speak first.
    let limit = pool.config.connect_timeout.map_or(Duration::MAX, |limit| {
        limit.saturating_add(Duration::from_millis(50))
    });
    let waited = within(pool, limit, pin!(available(pool, caller))).await;
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

async fn available(pool: &Arc<Shared>, caller: &Caller) -> Result<Taken, Error> {
    loop {
        let available = pool.available.notified();
        tokio::pin!(available);
        available.as_mut().enable();
        if pool.permits.semaphore.is_closed() {
            return Err(Error::Closed);
        }
        let next = next(&mut pool.state(), caller, pool.permits.may_open());
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
