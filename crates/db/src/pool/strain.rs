//! What a replica could not answer lately although it is well: of that it is asked less, for a pause that grows.
//!
//! A table that its replay has locked, a statement that is too slow there, a disk that is full: the next one of the same
//! statements would only wait for the same. Everything else is read there as before.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::sqlstate::{self, AtReplica};

/// The first pause, and the longest: each is twice as long as the one before.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// So many are remembered at most.
const MOST: usize = 256;

/// Leases and transactions, of which nobody knows at their begin what they will ask for.
pub(crate) const LEASES: &str = "";

#[derive(Debug, Default)]
pub(crate) struct Strain {
    /// Whether there is anything, so that nobody takes the lock as long as there is not.
    any: AtomicBool,
    pauses: Mutex<Vec<Pause>>,
}

#[derive(Debug)]
struct Pause {
    /// The hash of a statement's text.
    of: u64,
    until: Instant,
    length: Duration,
    /// Somebody finds out whether it is over.
    tried: bool,
    /// The primary did no better: for so long that is the statement's own error.
    own: bool,
}

impl Strain {
    /// Whether the replica may be asked. After each pause one may be who finds out whether it answers again.
    pub(crate) fn allows(&self, text: &str) -> bool {
        if !self.any.load(Relaxed) {
            return true;
        }
        let (of, now) = (hash(text), Instant::now());
        let mut pauses = self.pauses();
        let Some(pause) = pauses.iter_mut().find(|pause| pause.of == of) else {
            return true;
        };
        let over = now >= pause.until;
        if over && !pause.own {
            (pause.until, pause.tried) = (now + pause.length, true);
        }
        over || pause.own
    }

    /// Whether the primary has lately failed in it as well, so that it need not be asked again.
    pub(crate) fn is_own_fault(&self, text: &str) -> bool {
        let (of, now) = (hash(text), Instant::now());
        let pauses = self.pauses();
        let mut own = pauses.iter().filter(|pause| pause.own);
        own.any(|pause| pause.of == of && now < pause.until)
    }

    /// The primary was asked instead. If it failed as the replica did, the replica is not to blame.
    pub(crate) fn primary_failed(&self, text: &str, error: sqlx::Error) -> sqlx::Error {
        let (of, error) = (hash(text), Error::from(error));
        if is_of_strain(&error)
            && let Some(pause) = self.pauses().iter_mut().find(|pause| pause.of == of)
        {
            (pause.own, pause.until) = (true, Instant::now() + FIRST);
        }
        error.into()
    }

    /// The replica has answered.
    pub(crate) fn answered(&self, text: &str) {
        if self.any.load(Relaxed) {
            let of = hash(text);
            let mut pauses = self.pauses();
            pauses.retain(|pause| pause.of != of);
            self.any.store(!pauses.is_empty(), Relaxed);
        }
    }

    /// The replica has failed: if it is strained, it is left alone with that for a while.
    pub(crate) fn failed(&self, text: &str, error: &Error) {
        if !is_of_strain(error) {
            return;
        }
        let (of, now) = (hash(text), Instant::now());
        let mut pauses = self.pauses();
        match pauses.iter_mut().find(|pause| pause.of == of) {
            Some(pause) if pause.own => pause.own = now < pause.until,
            // Those that were under way with the first one say nothing new.
            Some(pause) if !pause.tried => {}
            Some(pause) => {
                let length = (pause.length * 2).min(LONGEST);
                (pause.length, pause.until, pause.tried) = (length, now + length, false);
            }
            None => {
                pauses.retain(|pause| now < pause.until + LONGEST);
                if pauses.len() == MOST {
                    pauses.swap_remove(0);
                }
                pauses.push(Pause {
                    of,
                    until: now + FIRST,
                    length: FIRST,
                    tried: false,
                    own: false,
                });
            }
        }
        self.any.store(true, Relaxed);
    }

    fn pauses(&self) -> MutexGuard<'_, Vec<Pause>> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_of_strain(error: &Error) -> bool {
    match error {
        Error::StatementTimeout(_) => true,
        Error::Sqlx(error) => {
            let at_replica = error.as_database_error().map(sqlstate::at_replica);
            at_replica == Some(AtReplica::ToPrimaryForAWhile)
        }
        _ => false,
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
