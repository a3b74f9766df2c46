//! What can be seen of the pool: its holders, its numbers, and what a diagnosis is made from.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use crate::diagnosis::View;
use crate::metrics::Stats;
use crate::pool::holder::Held;
use crate::pool::state::Shared;

impl Shared {
    /// Who holds a connection, longest first.
    pub(crate) fn holders(&self) -> Vec<Held> {
        let mut holders: Vec<Held> = self.state().holders().map(|one| one.held()).collect();
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.held));
        holders
    }

    /// What a diagnosis is made from.
    pub(crate) fn view(&self) -> View {
        let stats = self.stats();
        let mut state = self.state();
        let longest = state.holders().min_by_key(|holder| holder.since);
        let longest = longest.map(|holder| holder.held());
        let outage = state.outage().map(|failures| failures.last.clone());
        let connecting = state.connecting;
        drop(state);
        let (setting, room) = self.room();
        View {
            limit: stats.limit,
            open: stats.open,
            in_use: stats.in_use,
            waiting: stats.waiting,
            connecting,
            longest: longest.map(|holder| (holder.to_string(), holder.held)),
            outage,
            closed: self.permits.semaphore.is_closed(),
            room,
            setting,
            pooled: !self.takes_options(),
            leak_threshold: self.config.leak_threshold,
        }
    }

    /// The setting that keeps the pool from having more, and how many more the server has room for, if that is known.
    fn room(&self) -> (&'static str, Option<u32>) {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let room = server.as_ref().map(|server| server.room);
        if !self.follows() {
            return ("connection_limit", room);
        }
        // A share that could be larger is already, or will be in a moment.
        let full = self.permits.whole_limit() < self.config.connection_limit_max;
        let room = if full { Some(0) } else { room };
        ("connection_limit_max", room)
    }

    pub(crate) fn stats(&self) -> Stats {
        let state = self.state();
        let (idle, in_use) = (state.idle.len() as u32, state.in_use());
        let permits = &self.permits;
        let queued = permits.waiting.load(Relaxed) + permits.waiting_for_turn.load(Relaxed);
        let waiting = queued + state.waiting;
        let up = u32::from(state.outage().is_none() || state.crowded().is_some());
        drop(state);
        self.metrics.stats(Stats {
            limit: self.permits.limit.load(Relaxed),
            open: idle + in_use,
            idle,
            in_use,
            waiting,
            up,
            ..Stats::default()
        })
    }
}
