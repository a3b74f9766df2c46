//! What an operator has to know about the pool, told in the log once a second at most, each with its field `event`.

use std::time::{Duration, Instant};

use crate::diagnosis::PoolState;
use crate::duration::seconds;
use crate::pool::state::Shared;

/// While the pool stays full, that is said again so often.
const AGAIN: Duration = Duration::from_secs(10);

/// What has been told so far.
#[derive(Default)]
pub(crate) struct Told {
    timed_out: u64,
    shed: u64,
    /// Since when callers wait for a full pool, and when that was last said.
    full: Option<(Instant, Option<Instant>)>,
}

impl Told {
    /// Says what is new since the last call, which was a second ago.
    pub(crate) fn tell(&mut self, pool: &Shared) {
        let stats = pool.stats();
        let timed_out = stats.timed_out - std::mem::replace(&mut self.timed_out, stats.timed_out);
        let shed = stats.shed - std::mem::replace(&mut self.shed, stats.shed);
        let full = stats.in_use >= stats.limit && stats.waiting > 0;
        if timed_out + shed == 0 && !full && self.full.is_none() {
            return;
        }
        let diagnosis = pool.view().diagnosis();
        if timed_out > 0 {
            tracing::warn!(
                event = "pool_timeout",
                timed_out,
                "{timed_out} waited in vain for a connection. {diagnosis}"
            );
        }
        if shed > 0 {
            tracing::warn!(
                event = "overload",
                shed,
                "{shed} were turned away at once. {diagnosis}"
            );
        }
        self.tell_full(
            full && diagnosis.state == PoolState::Full,
            &diagnosis.sentence,
        );
    }

    fn tell_full(&mut self, full: bool, sentence: &str) {
        let now = Instant::now();
        match (full, self.full) {
            (true, None) => {
                // A burst that is over within a second is what pools are for.
                self.full = Some((now, None));
            }
            (true, Some((since, told))) if told.is_none_or(|told| now - told >= AGAIN) => {
                tracing::warn!(event = "pool_full", "{sentence}");
                self.full = Some((since, Some(now)));
            }
            (false, Some((since, told))) => {
                self.full = None;
                if told.is_some() {
                    let lasted = seconds(now - since);
                    tracing::info!(
                        event = "pool_full_over",
                        "Nobody waits any more; the pool was full for {lasted}."
                    );
                }
            }
            _ => {}
        }
    }
}
