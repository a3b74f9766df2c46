//! What is known of a replica: whether it answers, how far it has replayed what the primary wrote, and how far it is behind.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;

use crate::error::{Error, is_of_replica};
use crate::pool::strain::Strain;

/// What a replica is good for.
///
/// ```
/// assert_eq!(db::ReplicaState::Behind.as_str(), "behind");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplicaState {
    /// It has not been asked yet.
    Unknown,
    /// Reads go there.
    Fresh,
    /// It is further behind than `replica_max_lag`.
    Behind,
    /// It follows another history than the primary's: another server was promoted.
    Diverged,
    /// It is no standby: it was promoted, or never was one.
    Primary,
    /// It does not answer.
    Down,
}

impl ReplicaState {
    const ALL: [Self; 6] = [
        Self::Unknown,
        Self::Fresh,
        Self::Behind,
        Self::Diverged,
        Self::Primary,
        Self::Down,
    ];

    /// `unknown`, `fresh`, `behind`, `diverged`, `primary` or `down`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Fresh => "fresh",
            Self::Behind => "behind",
            Self::Diverged => "diverged",
            Self::Primary => "primary",
            Self::Down => "down",
        }
    }
}

/// One replica, as it was last seen.
///
/// ```no_run
/// # fn example(pool: &db::Pool) {
/// for replica in pool.replicas() {
///     println!("{} is {}, behind by {:?}", replica.name, replica.state.as_str(), replica.lag);
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaStats {
    /// The name of its pool in the metrics: `host:port/database`.
    pub name: String,
    /// Whether reads go there.
    pub state: ReplicaState,
    /// How far it is behind the primary, give or take half a second. `None` while that is not known, or makes no sense.
    pub lag: Option<Duration>,
    /// Reads that were sent there.
    pub reads: u64,
    /// Those of them that the primary had to answer.
    pub fallbacks: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Health {
    state: AtomicU8,
    /// How far it has surely come; 0 if that is not known.
    replayed: AtomicU64,
    /// Microseconds; 0 for not known, else one more.
    lag: AtomicU64,
    /// What it could not answer lately.
    pub(crate) strain: Strain,
    /// It does not answer any more.
    lost: Notify,
    /// Somebody has to see more than it is known to show.
    pub(crate) wanted: Arc<Notify>,
    /// Set once somebody looks after the replicas of this one's primary.
    pub(crate) watched: OnceLock<()>,
}

impl Health {
    pub(crate) fn state(&self) -> ReplicaState {
        ReplicaState::ALL[usize::from(self.state.load(SeqCst))]
    }

    pub(crate) fn lag(&self) -> Option<Duration> {
        let lag = self.lag.load(SeqCst).checked_sub(1);
        lag.map(Duration::from_micros)
    }

    /// Whether who has to see so far may read there.
    pub(crate) fn shows(&self, position: u64) -> bool {
        self.state() == ReplicaState::Fresh && self.replayed.load(SeqCst) >= position
    }

    /// Whether the primary may answer what failed so.
    pub(crate) fn leaves_to_primary(&self, error: &Error) -> bool {
        self.state() == ReplicaState::Down || is_of_replica(error)
    }

    /// The same for a statement that the replica has failed in: it is left alone with that for a while if it is strained.
    pub(crate) fn leaves_statement(&self, text: &str, error: &Error) -> bool {
        self.strain.failed(text, error);
        self.leaves_to_primary(error) && !self.strain.is_own_fault(text)
    }

    /// What was found. Gives the state before.
    pub(crate) fn found(
        &self,
        state: ReplicaState,
        replayed: u64,
        lag: Option<Duration>,
    ) -> ReplicaState {
        let lag = lag.map_or(0, |lag| lag.as_micros().saturating_add(1));
        self.lag
            .store(u64::try_from(lag).unwrap_or(u64::MAX), SeqCst);
        self.replayed.store(replayed, SeqCst);
        let place = ReplicaState::ALL.iter().position(|one| *one == state);
        let before = self.state.swap(place.unwrap_or(0) as u8, SeqCst);
        if state == ReplicaState::Down {
            self.lost.notify_waiters();
        }
        ReplicaState::ALL[usize::from(before)]
    }

    /// A connection broke: if the server was started anew, it may have to replay again what it had.
    pub(crate) fn forget(&self) {
        self.replayed.store(0, SeqCst);
        self.state.store(0, SeqCst);
    }

    /// Waits until it does not answer any more.
    pub(crate) async fn lost(&self) {
        let lost = self.lost.notified();
        tokio::pin!(lost);
        lost.as_mut().enable();
        if self.state() != ReplicaState::Down {
            lost.await;
        }
    }
}
