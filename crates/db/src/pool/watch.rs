//! Looks after the replicas: how far the primary has written and each of them has replayed, asked twice a second, and sooner
//! when a client has to see what it has just written.
//!
//! How far a replica is behind is said in this process's own time: how long ago the primary was first seen further than the
//! replica is now. So an idle primary makes nobody late, and a replica whose replay or whose stream stands still is found,
//! whatever it says about itself.
//!
//! What was known stays while nothing better is: a primary that does not answer writes nothing that a replica could lack, so the
//! time stands still with its last answer, and a standby that has lost its stream is still in the history that it was in.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::error::Error;
use crate::pool::control_connection::{self, Progress};
use crate::pool::health::ReplicaState;
use crate::pool::state::{Replica, Shared};
use crate::pool::within::within;

const PERIOD: Duration = Duration::from_millis(500);
/// The same where a client has to see more than any replica is known to show.
const SHORTEST: Duration = Duration::from_millis(50);
/// Who does not answer within this time is out of reach.
const PATIENCE: Duration = Duration::from_secs(1);
/// Ten minutes of the shortest pause. Who is later than all of them is late by any limit, and is not told by how much.
const MOST_SAMPLES: usize = 12_000;
/// A position that is not the end of a record may be after the head of a page that nothing has been written to yet.
const PAGE_HEAD: u64 = 24;

/// Where the primary was, and when that was first seen. Positions grow from front to back.
#[derive(Default)]
struct History {
    samples: VecDeque<(Instant, u64)>,
    /// There were earlier ones.
    is_full: bool,
    /// Flushed to disk, and written at that time, as last seen.
    last: Option<(u64, u64)>,
    /// The primary's, as last seen.
    timeline: i64,
    /// When that was.
    answered: Option<Instant>,
}

impl History {
    fn add(&mut self, now: Instant, flushed: u64, written: u64) {
        self.last = Some((flushed, written));
        // After a failover there may be less than there was.
        while self
            .samples
            .back()
            .is_some_and(|(_, position)| *position > flushed)
        {
            self.samples.pop_back();
        }
        if self
            .samples
            .back()
            .is_none_or(|(_, position)| *position < flushed)
        {
            self.samples.push_back((now, flushed));
        }
        if self.samples.len() > MOST_SAMPLES {
            self.samples.pop_front();
            self.is_full = true;
        }
    }

    /// How far who has replayed so much has surely come: to the end, if only the head of a page is missing.
    fn reached(&self, replayed: u64) -> u64 {
        match self.last {
            Some((flushed, written))
                if replayed >= flushed && written.saturating_sub(flushed) <= PAGE_HEAD =>
            {
                replayed.max(written)
            }
            _ => replayed,
        }
    }

    /// How long ago the primary was first seen further than that.
    fn lag(&self, now: Instant, replayed: u64) -> Duration {
        let known = |(_, position): &(Instant, u64)| *position <= replayed;
        let missing = self.samples.get(self.samples.partition_point(known));
        missing.map_or(Duration::ZERO, |(since, _)| {
            now.saturating_duration_since(*since)
        })
    }

    /// What a replica with this answer is good for, how far it has surely come, and how far it is behind. `timeline` is what
    /// was known of it, and then is what is.
    fn judge(
        &self,
        now: Instant,
        limit: Duration,
        answer: Result<Progress, Error>,
        timeline: &mut i64,
    ) -> (ReplicaState, u64, Option<Duration>) {
        let Ok(progress) = answer else {
            return (ReplicaState::Down, 0, None);
        };
        *timeline = match progress.is_exact {
            true => progress.timeline,
            false => progress.timeline.max(*timeline),
        };
        if !progress.standby {
            return (ReplicaState::Primary, 0, None);
        }
        // Positions of two histories cannot be compared.
        if ![0, *timeline].contains(&self.timeline) {
            return (ReplicaState::Diverged, 0, None);
        }
        let lag = self.lag(now, progress.position);
        let is_before_all = self.is_full
            && limit < Duration::MAX
            && self
                .samples
                .front()
                .is_some_and(|(_, position)| *position > progress.position);
        let state = match lag > limit || is_before_all {
            true => ReplicaState::Behind,
            false => ReplicaState::Fresh,
        };
        (state, self.reached(progress.position), Some(lag))
    }
}

/// Looks after these replicas of one primary, until one of the pools is closed.
pub(crate) async fn watch(replicas: Vec<Weak<Shared>>, wanted: Arc<Notify>) {
    let mut history = History::default();
    let mut timelines = vec![0; replicas.len()];
    loop {
        let all: Option<Vec<Arc<Shared>>> = replicas.iter().map(Weak::upgrade).collect();
        let Some(all) = all else { return };
        if !look(&all, &mut history, &mut timelines).await {
            return;
        }
        drop(all);
        tokio::time::sleep(SHORTEST).await;
        let pause = PERIOD.mul_f64(0.8 + 0.4 * fastrand::f64());
        let _ = timeout(pause - SHORTEST, wanted.notified()).await;
    }
}

/// Looks once. Says whether there is a next time.
async fn look(replicas: &[Arc<Shared>], history: &mut History, timelines: &mut [i64]) -> bool {
    let of_replicas: Vec<(&Arc<Shared>, &Replica)> = replicas
        .iter()
        .filter_map(|pool| Some((pool, pool.replica.as_ref()?)))
        .collect();
    let Some((_, first)) = of_replicas.first() else {
        return false;
    };
    if first.primary.permits.semaphore.is_closed() {
        return false;
    }
    let ask_all = join_all(of_replicas.iter().map(|(pool, _)| ask(pool)));
    let (primary, answers) = join(ask(&first.primary), ask_all).await;
    let now = Instant::now();
    // What is dead writes nothing. One that has no room for this question may write on.
    let dead = match &primary {
        Err(Error::Connect(error)) => !error.is_server_full(),
        Err(Error::NoAnswer(_)) => true,
        _ => false,
    };
    if let Ok(Progress {
        standby: false,
        position,
        written,
        timeline,
        ..
    }) = primary
    {
        history.add(now, position, written);
        (history.timeline, history.answered) = (timeline, Some(now));
    }
    let now = history.answered.filter(|_| dead).unwrap_or(now);
    let answers = answers.into_iter().zip(timelines);
    for ((pool, replica), (answer, timeline)) in of_replicas.into_iter().zip(answers) {
        let limit = pool.config.replica_max_lag.unwrap_or(Duration::MAX);
        let (state, replayed, lag) = history.judge(now, limit, answer, timeline);
        let before = replica.health.found(state, replayed, lag);
        tell(pool, before, state, lag.unwrap_or_default());
    }
    true
}

async fn ask(pool: &Shared) -> Result<Progress, Error> {
    let answer = within(pool, PATIENCE, pin!(control_connection::progress(pool))).await;
    answer.unwrap_or(Err(Error::NoAnswer(PATIENCE)))
}

/// Says what has changed.
fn tell(pool: &Shared, before: ReplicaState, state: ReplicaState, lag: Duration) {
    if before == state || (before == ReplicaState::Unknown && state == ReplicaState::Fresh) {
        return;
    }
    let (address, lag) = (pool.config.address(), lag.as_secs_f64());
    match state {
        ReplicaState::Fresh => {
            tracing::info!(event = "replica", "the replica {address} is used again")
        }
        ReplicaState::Behind => tracing::warn!(
            event = "replica",
            lag,
            "the replica {address} is {lag:.1} s behind, more than replica_max_lag: it gets no reads"
        ),
        ReplicaState::Diverged => tracing::warn!(
            event = "replica",
            "the replica {address} follows another timeline than the primary, or has not said yet that it follows this one, so it gets \
             no reads until then; to a role with pg_read_all_stats it says so at once"
        ),
        ReplicaState::Primary => tracing::warn!(
            event = "replica",
            "{address} is no standby, so it gets no reads: it was promoted, or DATABASE_REPLICA_URLS names a primary"
        ),
        ReplicaState::Down => tracing::warn!(
            event = "replica",
            "the replica {address} does not answer: it gets no reads"
        ),
        ReplicaState::Unknown => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_late_only_for_what_was_written() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut history = History::default();
        assert_eq!(history.lag(at(9), 5), Duration::ZERO, "nothing is known");
        history.add(at(0), 100, 100);
        history.add(at(60), 100, 100);
        assert_eq!(history.lag(at(60), 100), Duration::ZERO, "an idle primary");
        history.add(at(61), 200, 200);
        assert_eq!(history.lag(at(64), 100), Duration::from_secs(3));
        assert_eq!(history.lag(at(64), 99), Duration::from_secs(64));
        assert_eq!(history.lag(at(64), 200), Duration::ZERO);
        history.add(at(65), 150, 150);
        assert_eq!(
            history.lag(at(66), 150),
            Duration::ZERO,
            "after a failover there is less"
        );
    }

    #[test]
    fn a_replica_that_is_later_than_is_remembered_is_behind() {
        let start = Instant::now();
        let mut history = History::default();
        let looks = 20 * 1200;
        for look in 1..=looks {
            history.add(start + SHORTEST * look, u64::from(look), u64::from(look));
        }
        let end = start + SHORTEST * looks;
        let judged = |late: u32, limit| {
            let progress = Progress {
                standby: true,
                position: u64::from(looks - 20 * late),
                written: 0,
                timeline: 0,
                is_exact: false,
            };
            history.judge(end, limit, Ok(progress), &mut 0).0
        };
        let limit = Duration::from_secs(900);
        assert_eq!(judged(590, limit), ReplicaState::Fresh);
        assert_eq!(judged(1000, limit), ReplicaState::Behind);
        assert_eq!(judged(1000, Duration::MAX), ReplicaState::Fresh);
    }

    #[test]
    fn what_is_known_of_a_timeline_stays_until_something_better_is() {
        let mut history = History::default();
        let mut known = 0;
        let mut judged = |primary, timeline, is_exact| {
            history.timeline = primary;
            let progress = Progress {
                standby: true,
                position: 0,
                written: 0,
                timeline,
                is_exact,
            };
            let now = Instant::now();
            history
                .judge(now, Duration::MAX, Ok(progress), &mut known)
                .0
        };
        use ReplicaState::{Diverged, Fresh};
        assert_eq!(judged(2, 1, false), Diverged, "it has not said so");
        assert_eq!(judged(2, 2, true), Fresh);
        assert_eq!(judged(2, 1, false), Fresh, "its stream has ended");
        assert_eq!(judged(3, 1, false), Diverged, "another was promoted");
        assert_eq!(judged(3, 2, true), Diverged);
        assert_eq!(judged(3, 3, false), Fresh, "its restart point");
        assert_eq!(judged(3, 2, true), Diverged, "it was made anew");
        assert_eq!(judged(3, 2, false), Diverged);
    }

    #[test]
    fn the_head_of_an_empty_page_keeps_nobody_from_the_end() {
        let mut history = History::default();
        history.add(Instant::now(), 8192, 8192 + 24);
        assert_eq!(history.reached(8192), 8192 + 24);
        assert_eq!(history.reached(8000), 8000);
        history.add(Instant::now(), 8192, 8192 + 120);
        assert_eq!(history.reached(8192), 8192, "a record is missing");
    }
}
