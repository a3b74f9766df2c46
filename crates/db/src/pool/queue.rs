//! The queue for a permit: who may wait, for how long, and what those are told who wait in vain.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::task::consume_budget;

use crate::caller::{self, Deadline};
use crate::error::Error;
use crate::pool::holder::Demand;
use crate::pool::state::Shared;
use crate::pool::within::within;
use crate::queue_error::{PoolTimeout, QueueLimit};
use crate::work::{Turn, Work};

/// Waits in the queue for a permit, which dropping a [`Permit`](crate::pool::state::Permit) gives back. Says when it was
/// there. The time is recorded also for those who wait in vain.
pub(crate) async fn queue(
    pool: &Shared,
    demand: &Demand,
    since: Instant,
) -> Result<Instant, Error> {
    let work = demand.work.as_deref();
    let (longest, limit) = patience(pool, demand, since);
    if let Err(error) = admit(pool, since, limit) {
        // Whoever asks again and again must not keep a thread from those whose turn it is.
        consume_budget().await;
        return Err(error);
    }
    let _waiting = Waiting::new(pool, &pool.permits.waiting, work, since);
    let permit = pin!(pool.permits.semaphore.acquire());
    let permit = within(pool, longest, permit);
    let permit = match &pool.permits.delay {
        None => permit.await,
        Some(delay) => tokio::select! {
            biased;
            permit = permit => permit,
            () = delay.cut_off(since) => {
                let waiting = pool.permits.waiting.load(Relaxed);
                return Err(shed(pool, waiting, QueueLimit::Target(delay.target)));
            }
        },
    };
    match permit {
        Some(Ok(permit)) => permit.forget(),
        Some(Err(_)) => return Err(Error::Closed),
        None => {
            let by_deadline = matches!(limit, Some(QueueLimit::Deadline(_)));
            return Err(timed_out(pool, demand, since, by_deadline));
        }
    }
    let now = Instant::now();
    if let Some(delay) = &pool.permits.delay {
        delay.served(
            (now - since).saturating_sub(pool.lost(since, now)),
            now,
            |calls| pool.expected_wait(calls),
        );
    }
    Ok(now)
}

/// Takes a turn of the caller's work, which is slow: while it has its share of the connections, this waits.
pub(crate) async fn take_turn(
    pool: &Shared,
    demand: &Demand,
    work: &Arc<Work>,
    asked: Instant,
) -> Result<Turn, Error> {
    let permits = &pool.permits;
    if let Some(turn) = work.try_start(&permits.askers, permits.limit.load(Relaxed)) {
        return Ok(turn);
    }
    let (mut longest, mut limit) = patience(pool, demand, asked);
    if let Some(delay) = &pool.permits.delay
        && delay.target < longest
    {
        (longest, limit) = (delay.target, Some(QueueLimit::Target(delay.target)));
    }
    let (waiting, expected) = work.expected_wait(pool.permits.limit.load(Relaxed));
    if let Some(limit) = limit.filter(|_| expected > longest) {
        return Err(turned_away(pool, waiting, Some(expected), limit));
    }
    let counted = Waiting::new(pool, &pool.permits.waiting_for_turn, Some(work), asked);
    let turn = within(
        pool,
        longest,
        pin!(work.start(&pool.permits.askers, &pool.permits.limit)),
    )
    .await;
    drop(counted);
    turn.ok_or_else(|| match limit {
        Some(target @ QueueLimit::Target(_)) => turned_away(pool, waiting, Some(expected), target),
        _ => timed_out(
            pool,
            demand,
            asked,
            matches!(limit, Some(QueueLimit::Deadline(_))),
        ),
    })
}

/// How long a caller waits at most, and what says so: `pool_timeout` or its own deadline, whichever is sooner.
fn patience(pool: &Shared, demand: &Demand, since: Instant) -> (Duration, Option<QueueLimit>) {
    let left = caller::deadline().map(|deadline| left(pool, deadline, since));
    match (left, demand.pool_timeout) {
        (Some(left), limit) if limit.is_none_or(|limit| left < limit) => {
            (left, Some(QueueLimit::Deadline(left)))
        }
        (_, Some(limit)) => (limit, Some(QueueLimit::PoolTimeout(limit))),
        (_, None) => (Duration::MAX, None),
    }
}

/// How long it is until the caller's deadline, which waits for a process that does not run.
fn left(pool: &Shared, deadline: Deadline, now: Instant) -> Duration {
    let lost = pool.lost(deadline.set, now);
    (deadline.at + lost).saturating_duration_since(now)
}

/// Turns a caller away at once who would only wait in vain.
fn admit(pool: &Shared, since: Instant, limit: Option<QueueLimit>) -> Result<(), Error> {
    let waiting = pool.permits.waiting.load(Relaxed);
    let is_longer = |permits, limit| pool.expected_wait(permits).is_some_and(|wait| wait > limit);
    let exceeded = match (limit, &pool.permits.delay) {
        _ if waiting >= pool.config.queue_limit => {
            Some(QueueLimit::Length(pool.config.queue_limit))
        }
        // A place in a full queue is taken right after somebody was served: nearly a whole turn passes before the next is.
        // A quarter is for what that varies, so that few wait for the whole target and are refused then.
        (_, Some(delay))
            if delay.arrived(waiting, since)
                && is_longer(waiting + 1, delay.target - delay.target / 4) =>
        {
            Some(QueueLimit::Target(delay.target))
        }
        (Some(QueueLimit::Deadline(longest) | QueueLimit::PoolTimeout(longest)), _)
            if is_longer(waiting, longest) =>
        {
            limit
        }
        _ => None,
    };
    exceeded.map_or(Ok(()), |limit| Err(shed(pool, waiting, limit)))
}

/// The error of a caller whom the queue has no place for.
fn shed(pool: &Shared, waiting: u32, limit: QueueLimit) -> Error {
    if let Some(delay) = &pool.permits.delay {
        delay.refused();
    }
    let turns = match limit {
        QueueLimit::Target(_) => waiting + 1,
        _ => waiting,
    };
    turned_away(pool, waiting, pool.expected_wait(turns), limit)
}

/// The error of a caller who is turned away.
fn turned_away(
    pool: &Shared,
    waiting: u32,
    expected_wait: Option<Duration>,
    limit: QueueLimit,
) -> Error {
    pool.metrics.shed.fetch_add(1, Relaxed);
    let (soonest, latest) = (Duration::from_secs(1), Duration::from_secs(30));
    Error::Overloaded {
        waiting,
        expected_wait,
        limit,
        retry_after: expected_wait.unwrap_or_default().clamp(soonest, latest),
    }
}

/// Counts a caller in the queue for as long as it waits, however the waiting ends.
struct Waiting<'a> {
    pool: &'a Shared,
    queue: &'a AtomicU32,
    work: Option<&'a Work>,
    since: Instant,
}

impl<'a> Waiting<'a> {
    fn new(pool: &'a Shared, queue: &'a AtomicU32, work: Option<&'a Work>, since: Instant) -> Self {
        queue.fetch_add(1, Relaxed);
        Self {
            pool,
            queue,
            work,
            since,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.queue.fetch_sub(1, Relaxed);
        self.pool.waited(self.work, self.since.elapsed());
    }
}

/// The error of a caller who has waited in vain, with what the pool looks like.
fn timed_out(pool: &Shared, demand: &Demand, since: Instant, by_deadline: bool) -> Error {
    pool.metrics.timed_out.fetch_add(1, Relaxed);
    let view = pool.view();
    Error::PoolTimeout(Box::new(PoolTimeout {
        waited: since.elapsed(),
        pool_timeout: demand.pool_timeout,
        by_deadline,
        limit: view.limit,
        in_use: view.in_use,
        idle: view.open - view.in_use,
        waiting: view.waiting,
        diagnosis: view.diagnosis().sentence,
        longest: view.longest,
        connect: view.outage,
    }))
}

/// Does what comes between the permit and the lease, until the caller's deadline if it carries one.
pub(crate) async fn until_deadline<T>(
    pool: &Shared,
    demand: &Demand,
    since: Instant,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let Some(deadline) = caller::deadline() else {
        return work.await;
    };
    let left = left(pool, deadline, Instant::now());
    let done = within(pool, left, pin!(work)).await;
    done.unwrap_or_else(|| Err(timed_out(pool, demand, since, true)))
}
