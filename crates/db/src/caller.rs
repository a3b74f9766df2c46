//! What a caller carries from its task into the pool: an id, a deadline, its kind of work, how much it takes, and how far it has
//! to see. All of it is one value of the task, set once for a request and read at one place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::lazy;
use tokio::task::futures::TaskLocalFuture;
use tracing::Instrument as _;

use crate::seen::Seen;
use crate::usage::Usage;
use crate::work::Work;

tokio::task_local! {
    static CALLER: Arc<Caller>;
}

/// Until when a caller waits, and since when it is so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) set: Instant,
    pub(crate) at: Instant,
}

/// What a caller carries into every pool it asks, set once for a whole request. By default it carries nothing.
///
/// [`with_deadline`](crate::with_deadline), [`with_work`](crate::with_work), [`with_usage`](crate::with_usage) and
/// [`with_seen`](crate::with_seen) each set one part of it for a future, and leave the others as they are.
///
/// ```no_run
/// # use std::{sync::Arc, time::{Duration, Instant}};
/// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
/// let usage = Arc::new(db::Usage::default());
/// let mut caller = db::Caller::default();
/// caller.set_id("request 7", None);
/// caller.set_usage(usage.clone());
/// caller.set_deadline(Instant::now(), Duration::from_secs(5));
/// db::with_caller(Arc::new(caller), sqlx::query("select 1").execute(pool)).await?;
/// println!("{} statements", usage.statements());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Caller {
    id: Option<Box<str>>,
    trace: Option<Box<str>>,
    deadline: Option<Deadline>,
    work: Option<Arc<Work>>,
    usage: Option<Arc<Usage>>,
    seen: Option<Arc<Seen>>,
}

impl Caller {
    /// What tells it from all others, such as the id of a request, and the trace it belongs to. The pool does not read them: a
    /// formatter of log lines finds them by [`caller`].
    pub fn set_id(&mut self, id: &str, trace: Option<&str>) {
        self.id = Some(id.into());
        self.trace = trace.map(Into::into);
    }

    /// It waits for no connection later than `limit` after `since`; see [`with_deadline`](crate::with_deadline).
    pub fn set_deadline(&mut self, since: Instant, limit: Duration) {
        self.deadline = since
            .checked_add(limit)
            .map(|at| Deadline { set: since, at });
    }

    /// What it does is work of this kind; see [`with_work`](crate::with_work).
    pub fn set_work(&mut self, work: Arc<Work>) {
        self.work = Some(work);
    }

    /// What it takes of a pool is added up there; see [`with_usage`](crate::with_usage).
    pub fn set_usage(&mut self, usage: Arc<Usage>) {
        self.usage = Some(usage);
    }

    /// How far it has to see; see [`with_seen`](crate::with_seen).
    pub fn set_seen(&mut self, seen: Arc<Seen>) {
        self.seen = Some(seen);
    }

    /// What it has taken of a pool, if that is added up.
    #[must_use]
    pub fn usage(&self) -> Option<&Usage> {
        self.usage.as_deref()
    }

    /// How far it has to see, if that is known.
    #[must_use]
    pub fn seen(&self) -> Option<&Seen> {
        self.seen.as_deref()
    }

    /// Its id, if it has one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The id of its trace, if it belongs to one.
    #[must_use]
    pub fn trace(&self) -> Option<&str> {
        self.trace.as_deref()
    }
}

/// Runs `future` as this caller, in the place of any other around it. What counts is where a future or a stream is polled: a task
/// that `future` spawns is another caller, unless it is spawned with [`carry`].
///
/// ```no_run
/// # use std::sync::Arc;
/// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
/// let mut nightly = db::Caller::default();
/// nightly.set_id("nightly", None);
/// db::with_caller(Arc::new(nightly), sqlx::query("select 1").execute(pool)).await?;
/// # Ok(()) }
/// ```
pub fn with_caller<F: Future>(caller: Arc<Caller>, future: F) -> TaskLocalFuture<Arc<Caller>, F> {
    CALLER.scope(caller, future)
}

/// Runs `call` as this caller; for what is not asynchronous, such as writing a line in its name.
///
/// ```
/// # use std::sync::Arc;
/// let mut caller = db::Caller::default();
/// caller.set_id("request 7", None);
/// db::as_caller(Arc::new(caller), || {
///     assert_eq!(db::caller(|caller| caller.id().map(str::to_owned)).as_deref(), Some("request 7"));
/// });
/// assert!(db::caller(|_| Some(())).is_none());
/// ```
pub fn as_caller<T>(caller: Arc<Caller>, call: impl FnOnce() -> T) -> T {
    CALLER.sync_scope(caller, call)
}

/// What `read` finds in the caller; `None` where there is none.
///
/// ```
/// assert!(db::caller(|caller| caller.id().map(str::to_owned)).is_none());
/// ```
pub fn caller<T>(read: impl FnOnce(&Caller) -> Option<T>) -> Option<T> {
    CALLER.try_with(|caller| read(caller)).ok().flatten()
}

/// Carries the caller and its `tracing` span into a task that is spawned. Its deadline stays behind: what outlives a request is not
/// bound by it.
///
/// ```no_run
/// # async fn example(pool: db::Pool) {
/// tokio::spawn(db::carry(async move {
///     sqlx::query("select 1").execute(&pool).await
/// }));
/// # }
/// ```
pub fn carry<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let carried = changed(|caller| caller.deadline = None);
    CALLER.scope(carried, future).in_current_span()
}

/// Runs `future` with a deadline for its waits: inside it nobody waits for a connection beyond `deadline`.
///
/// Who would surely come too late gets [`Error::Overloaded`](crate::Error::Overloaded) at once, and whose wait the
/// deadline ends gets [`Error::PoolTimeout`](crate::Error::PoolTimeout), as after `pool_timeout`. A free connection is given
/// also after the deadline, and a statement that runs is not ended. Of nested deadlines the earliest holds. What counts is
/// where a future or a stream is polled: a task that `future` spawns has no deadline.
///
/// ```no_run
/// # use std::time::{Duration, Instant};
/// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
/// let deadline = Instant::now() + Duration::from_millis(500);
/// let names: Vec<String> = db::with_deadline(deadline, async {
///     sqlx::query_scalar("select name from customer").fetch_all(pool).await
/// })
/// .await?;
/// # Ok(()) }
/// ```
pub fn with_deadline<F: Future>(deadline: Instant, future: F) -> impl Future<Output = F::Output> {
    // Another deadline around it may be earlier, which is seen when it runs.
    let earliest = move |outer: Option<Deadline>| match outer {
        Some(outer) if outer.at < deadline => outer,
        _ => Deadline {
            set: Instant::now(),
            at: deadline,
        },
    };
    inside(
        move |caller| caller.deadline = Some(earliest(caller.deadline)),
        future,
    )
}

/// Runs `future` as work of this kind: what it does with a pool is counted there.
///
/// ```no_run
/// # use std::sync::Arc;
/// # async fn example(pool: &db::Pool, reports: &Arc<db::Work>) -> Result<(), db::Error> {
/// // `reports` was made once, and is used for every report.
/// let report = db::with_work(reports.clone(), async {
///     sqlx::query("select pg_sleep(2)").execute(pool).await
/// });
/// report.await?;
/// # Ok(()) }
/// ```
pub fn with_work<F: Future>(work: Arc<Work>, future: F) -> impl Future<Output = F::Output> {
    inside(|caller| caller.set_work(work), future)
}

/// Runs `future` and adds up in `usage` what it takes of any pool.
///
/// ```no_run
/// # use std::sync::Arc;
/// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
/// let usage = Arc::new(db::Usage::default());
/// db::with_usage(usage.clone(), sqlx::query("select pg_sleep(0.1)").execute(pool)).await?;
/// println!("waited {:?}, ran {:?}", usage.waited(), usage.ran());
/// # Ok(()) }
/// ```
pub fn with_usage<F: Future>(usage: Arc<Usage>, future: F) -> impl Future<Output = F::Output> {
    inside(|caller| caller.set_usage(usage), future)
}

/// Runs `future` for a client that has seen so much: its reads on replicas see no less, and its writes count for the next ones.
///
/// ```no_run
/// # use std::sync::Arc;
/// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
/// let seen = Arc::new(db::Seen::default());
/// let read = sqlx::query("select 1").execute(pool.read());
/// db::with_seen(seen, read).await?;
/// # Ok(()) }
/// ```
pub fn with_seen<F: Future>(seen: Arc<Seen>, future: F) -> impl Future<Output = F::Output> {
    inside(|caller| caller.set_seen(seen), future)
}

/// Runs `future` as the caller that is around it when it begins, but for one change.
fn inside<F: Future>(
    change: impl FnOnce(&mut Caller),
    future: F,
) -> impl Future<Output = F::Output> {
    // Not an `async fn`: that would hold `future` twice.
    lazy(|_| changed(change)).then(|caller| CALLER.scope(caller, future))
}

fn changed(change: impl FnOnce(&mut Caller)) -> Arc<Caller> {
    let mut caller = caller(|caller| Some(caller.clone())).unwrap_or_default();
    change(&mut caller);
    Arc::new(caller)
}

/// Counts a wait for a connection where the caller wants to know of it.
pub(crate) fn waited(time: Duration) {
    caller(|caller| caller.usage().map(|usage| usage.add_wait(time)));
}

/// Counts a statement where the caller wants to know of it.
pub(crate) fn ran(time: Duration) {
    caller(|caller| caller.usage().map(|usage| usage.add_statement(time)));
}

/// The work that the caller does.
pub(crate) fn work() -> Option<Arc<Work>> {
    caller(|caller| caller.work.clone())
}

/// The earliest deadline around the caller.
pub(crate) fn deadline() -> Option<Deadline> {
    caller(|caller| caller.deadline)
}

/// How far the caller has to see; `None` if only the primary will do.
pub(crate) fn needed() -> Option<u64> {
    caller(|caller| Some(caller.seen()?.needed())).unwrap_or(Some(0))
}

/// Whether somebody wants to know of the caller's writes.
pub(crate) fn writes_count() -> bool {
    caller(|caller| Some(!caller.seen()?.has_written())).unwrap_or(false)
}

/// The caller has written, or may have.
pub(crate) fn wrote() {
    caller(|caller| caller.seen().map(Seen::wrote));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_part_is_set_and_the_others_stay() {
        let mut request = Caller::default();
        request.set_id("request 7", Some("trace 1"));
        request.set_deadline(Instant::now(), Duration::from_secs(60));
        let usage = Arc::new(Usage::default());
        let ids = || caller(|caller| Some((caller.id()?.to_owned(), caller.trace()?.to_owned())));
        let same = Some(("request 7".to_owned(), "trace 1".to_owned()));
        with_caller(Arc::new(request), async {
            let inner = with_usage(usage.clone(), async {
                waited(Duration::from_secs(3));
                assert_eq!(ids(), same);
                assert!(deadline().is_some(), "that of the caller around it");
                tokio::spawn(carry(async move {
                    ran(Duration::from_secs(2));
                    assert!(deadline().is_none(), "it stays behind");
                    ids()
                }))
                .await
            });
            assert_eq!(inner.await.expect("no panic"), same);
            waited(Duration::from_secs(9));
        })
        .await;
        let (waited, ran) = (usage.waited().as_secs(), usage.ran().as_secs());
        assert_eq!((waited, ran, usage.statements()), (3, 2, 1));
        assert_eq!(ids(), None);
    }
}
