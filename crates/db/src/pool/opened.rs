//! An open connection, and what is known of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sqlx::{PgConnection, SqlStr};

/// The connection beside the pool, and when it was last used.
pub(crate) struct Control {
    pub(crate) connection: PgConnection,
    pub(crate) used: Instant,
    /// One of an earlier generation than the state's may be another server's.
    pub(crate) generation: u64,
}

/// An open connection.
pub(crate) struct Opened {
    pub(crate) inner: PgConnection,
    /// The condition by which `pg_stat_activity` knows this session and no other. `None` behind a pooler.
    pub(crate) backend: Option<Arc<str>>,
    /// The timeline that its server wrote, 0 where nobody asked.
    pub(crate) timeline: u32,
    /// Connections of an earlier generation than the state's are closed instead of reused.
    pub(crate) generation: u64,
    pub(crate) expires: Option<Instant>,
    pub(crate) idle_since: Instant,
    /// Has to answer a ping before its next use, however fresh.
    pub(crate) suspect: bool,
    /// What its lease runs.
    pub(crate) running: Running,
}

/// The text that a lease runs, or ran last. It has a lock of its own, so that a statement does not take the pool's to note it.
#[derive(Clone, Default)]
pub(crate) struct Running(Arc<Mutex<Option<SqlStr>>>);

impl Running {
    /// A lease that has run nothing yet.
    pub(crate) fn begin(&self) -> Self {
        *self.text() = None;
        self.clone()
    }

    pub(crate) fn text(&self) -> MutexGuard<'_, Option<SqlStr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    /// Whether it has reached its age.
    pub(crate) fn is_older_than(&self, time: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= time)
    }
}
