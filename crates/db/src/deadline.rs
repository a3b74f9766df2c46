//! The deadline that a caller carries, for instance that of its request.

use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::lazy;

tokio::task_local! {
    static DEADLINE: Deadline;
}

/// Until when a caller waits, and since when it is so.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) set: Instant,
    pub(crate) at: Instant,
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
    // Which other deadline is around it is seen when it runs. Not an `async fn`: that would hold `future` twice.
    lazy(move |_| match current() {
        Some(outer) if outer.at < deadline => outer,
        _ => Deadline {
            set: Instant::now(),
            at: deadline,
        },
    })
    .then(move |earliest| DEADLINE.scope(earliest, future))
}

/// The earliest deadline around the caller.
pub(crate) fn current() -> Option<Deadline> {
    DEADLINE.try_get().ok()
}
