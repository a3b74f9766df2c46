//! The end of a pool: callers are sent away, idle connections go, busy ones may finish until a deadline.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, SqlSafeStr};
use tokio::time::timeout;

use crate::pool::{Inner, Pool};
use crate::stats::Reason;

/// What [`Pool::close`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Connections that were idle and went at once.
    pub idle: u32,
    /// Connections that were in use and came back in time.
    pub finished: u32,
    /// Connections still in use at the deadline. Unless a pooler stands between, the server was told to end them.
    pub cut: u32,
}

impl Pool {
    /// Closes the pool for good. Waiters get [`Error::Closed`](crate::Error::Closed) at once, idle connections go,
    /// busy ones may finish until `deadline`, then the server ends their sessions. Takes at most a second longer than
    /// `deadline`, whatever the server does.
    pub async fn close(&self, deadline: Duration) -> Closed {
        let inner = &self.0;
        inner.gate.close();
        inner.arrivals.notify_waiters();
        let busy = inner.shelf().in_use();
        let idle = inner.close_idle();
        let _ = timeout(deadline, inner.empty()).await;
        let backends: Vec<String> = inner
            .shelf()
            .holders()
            .filter_map(|holder| {
                holder
                    .backend
                    .as_deref()
                    .map(|backend| format!("({backend})"))
            })
            .collect();
        let cut = inner.shelf().in_use();
        if !backends.is_empty() {
            let backends = backends.join(" or ");
            let sql =
                format!("select pg_terminate_backend(pid) from pg_stat_activity where {backends}");
            let _ = timeout(
                Duration::from_millis(500),
                inner
                    .side
                    .run(inner, Some(AssertSqlSafe(sql).into_sql_str())),
            )
            .await;
            let _ = timeout(Duration::from_millis(250), inner.empty()).await;
        }
        let _ = timeout(Duration::from_millis(250), inner.side.rest(true)).await;
        Closed {
            idle,
            finished: busy.saturating_sub(cut),
            cut,
        }
    }
}

impl Inner {
    pub(crate) fn close_idle(&self) -> u32 {
        let slots = std::mem::take(&mut self.shelf().idle);
        let count = slots.len() as u32;
        self.close_slots(slots, Reason::Shutdown);
        count
    }

    /// Waits until nothing is in use.
    async fn empty(self: &Arc<Self>) {
        loop {
            let departure = self.departures.notified();
            tokio::pin!(departure);
            departure.as_mut().enable();
            if self.shelf().in_use() == 0 {
                return;
            }
            departure.await;
        }
    }
}
