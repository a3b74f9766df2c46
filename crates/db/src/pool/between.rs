//! What is between the pool and its server, as far as it has been found out.

use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::Limits;

/// How long it counts that nothing could be found out: at first, and at most. Each time in a row it is twice as long.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);
const UNKNOWN_AT_MOST: Duration = Duration::from_secs(300);

/// What is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing, or what cannot be told from nothing.
    Nothing,
    /// A pooler that gives each connection a session of its own, but takes no settings when it is opened.
    SessionPooler,
    /// A pooler whose sessions are another connection's with each transaction.
    TransactionPooler,
}

/// Whose the sessions are that answer, by what no pooler can pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sessions {
    /// Each connection has one of its own.
    Own,
    /// Connections have them in turn.
    Shared,
    /// Some statements are answered by another server than others.
    Split,
    /// It could not be found out.
    Unknown,
}

/// That, and what follows from it.
pub(crate) struct Between {
    kind: AtomicU8,
    /// What each transaction is told behind a pooler of transactions.
    in_transactions: Limits,
    /// Set once such a pooler was seen to keep the prepared statements of its clients apart.
    pub(crate) statements_apart: OnceLock<()>,
    /// Whose the sessions of a generation are.
    sessions: Mutex<Option<Found>>,
    /// Whoever finds it out, which one does at a time.
    pub(crate) finding: tokio::sync::Mutex<()>,
    /// How often more it has to be seen that one server answers everything, after several have.
    pub(crate) doubts: AtomicU32,
    /// The server that was seen to answer everything last.
    server: Mutex<Arc<str>>,
    /// Whether sessions are kept when the connections that had them are gone.
    pub(crate) outlived: AtomicBool,
}

/// Whose the sessions of a generation are, and until when that counts if it could not be found out.
struct Found {
    generation: u64,
    sessions: Sessions,
    at: Instant,
    unknown_for: Duration,
}

impl Between {
    /// What the URL says of it is believed until something else is found.
    pub(crate) fn new(pgbouncer: bool, in_transactions: Limits) -> Self {
        let kind = match pgbouncer {
            true => Kind::TransactionPooler,
            false => Kind::Nothing,
        };
        Self {
            kind: AtomicU8::new(kind as u8),
            in_transactions,
            statements_apart: OnceLock::new(),
            sessions: Mutex::default(),
            finding: tokio::sync::Mutex::default(),
            doubts: AtomicU32::new(0),
            server: Mutex::new("".into()),
            outlived: AtomicBool::new(false),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.kind.load(Relaxed) {
            0 => Kind::Nothing,
            1 => Kind::SessionPooler,
            _ => Kind::TransactionPooler,
        }
    }

    /// Takes it for another kind than it was taken for. Says whether somebody else has not done so before.
    pub(crate) fn change(&self, from: Kind, to: Kind) -> bool {
        let changed = self
            .kind
            .compare_exchange(from as u8, to as u8, SeqCst, SeqCst);
        changed.is_ok()
    }

    /// What each transaction is told, if no session has limits of its own.
    pub(crate) fn in_transactions(&self) -> Option<&Limits> {
        (self.kind() == Kind::TransactionPooler).then_some(&self.in_transactions)
    }

    /// Whose the sessions of this generation are, as far as that is known.
    pub(crate) fn sessions(&self, generation: u64) -> Option<Sessions> {
        let found = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let found = found.as_ref()?;
        let late = found.sessions == Sessions::Unknown && found.at.elapsed() >= found.unknown_for;
        (found.generation == generation && !late).then_some(found.sessions)
    }

    pub(crate) fn found(&self, generation: u64, sessions: Sessions) {
        let mut kept = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let last = kept.as_ref();
        let unknown_for = last.map_or(UNKNOWN_FOR, |last| {
            match (last.sessions, last.generation == generation) {
                (Sessions::Unknown, true) => (last.unknown_for * 2).min(UNKNOWN_AT_MOST),
                _ => UNKNOWN_FOR,
            }
        });
        // A pooler of sessions may have none left for the question.
        let still_own = sessions == Sessions::Unknown
            && self.kind() == Kind::SessionPooler
            && last.is_some_and(|last| last.sessions == Sessions::Own);
        *kept = Some(Found {
            generation,
            sessions: if still_own { Sessions::Own } else { sessions },
            at: Instant::now(),
            unknown_for,
        });
    }

    /// Whether this server was seen last to answer everything.
    pub(crate) fn knows(&self, server: &str) -> bool {
        **self.server.lock().unwrap_or_else(PoisonError::into_inner) == *server
    }

    pub(crate) fn keep(&self, server: &str) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server.into();
    }
}
