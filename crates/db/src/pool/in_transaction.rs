//! The record of a transaction on a connection: what has happened in it, and how long it may take.

use std::time::{Duration, Instant};

use sqlx::SqlStr;

use crate::error::Error;
use crate::limits::Limits;

/// What has happened in a transaction so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct InTransaction {
    /// What the first statement that failed said: the server will not commit.
    pub(crate) failed: Option<String>,
    /// Whether that was a conflict with another transaction, so that running it again may help.
    pub(crate) conflict: bool,
    pub(crate) changed: bool,
    /// How deep it is begun: 1, and 1 more for each savepoint.
    pub(crate) depth: usize,
    /// Something was given up half-way, so only the server knows whether it can still commit.
    pub(crate) doubtful: bool,
    /// What began it.
    pub(crate) begun: Option<SqlStr>,
    /// Nothing else was sent in it yet.
    pub(crate) untouched: bool,
    /// Begun so on purpose: an error about a write says nothing about the server.
    pub(crate) read_only: bool,
    /// How long it may take, and until when.
    limit: Option<(Duration, Instant)>,
    /// How long the server lets it pause, and since when it does.
    pause: Option<(Duration, Instant)>,
}

impl InTransaction {
    /// One that begins now. The server lets it pause for `pause` unless the limits say otherwise.
    pub(crate) fn new(read_only: bool, limits: &Limits, pause: Option<Duration>) -> Self {
        let now = Instant::now();
        let until = |limit| Some((limit, now.checked_add(limit)?));
        Self {
            read_only,
            limit: limits.transaction.and_then(until),
            pause: limits.pause.or(pause).map(|limit| (limit, now)),
            depth: 1,
            ..Self::default()
        }
    }

    /// An answer has come, so the pause begins anew.
    pub(crate) fn answered(&mut self) {
        if let Some((_, since)) = &mut self.pause {
            *since = Instant::now();
        }
    }

    /// How long the next answer may take.
    pub(crate) fn patience(&self, socket_timeout: Option<Duration>) -> Patience {
        let over = |(limit, since): &(Duration, Instant)| since.elapsed() >= *limit;
        let mut patience = Patience {
            limit: socket_timeout.unwrap_or(Duration::MAX),
            transaction: None,
            paused: self.pause.filter(over).map(|(limit, _)| limit),
        };
        if let Some((limit, until)) = self.limit {
            let left = until.saturating_duration_since(Instant::now());
            if left < patience.limit {
                (patience.limit, patience.transaction) = (left, Some(limit));
            }
        }
        patience
    }

    /// Becomes what it was before a savepoint, which is undone.
    pub(crate) fn restore(&mut self, before: Self, doubtful: bool) {
        let (changed, pause) = (self.changed, self.pause);
        *self = before;
        self.changed |= changed;
        self.doubtful |= doubtful;
        self.pause = pause;
    }
}

/// How long an answer may take, and why no longer.
#[derive(Default)]
pub(crate) struct Patience {
    pub(crate) limit: Duration,
    /// The limit of the whole transaction, if that is what ends the wait.
    pub(crate) transaction: Option<Duration>,
    /// What the server let the transaction pause, if it has paused for longer.
    pub(crate) paused: Option<Duration>,
}

impl Patience {
    /// What a caller is told who has waited for so long.
    pub(crate) fn error(&self) -> Error {
        match self.transaction {
            Some(limit) => Error::TransactionTimeout(limit),
            None => Error::StatementTimeout(self.limit),
        }
    }

    /// Why the connection broke, if that is known better.
    pub(crate) fn explain(&self, error: sqlx::Error) -> sqlx::Error {
        self.paused
            .map_or(error, |limit| Error::TransactionPaused(limit).into())
    }
}
