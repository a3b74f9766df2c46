//! The claim: a permit of the gate and a seat on the shelf, given back whichever way their owner ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::pool::Inner;
use crate::shelf::Shelf;

/// A permit of the gate, and a seat on the shelf once there is a connection for it. Dropping it gives both back.
pub(crate) struct Claim {
    pub(crate) pool: Arc<Inner>,
    seat: Option<usize>,
    held: Option<Duration>,
}

impl Claim {
    /// For a caller who has passed the gate.
    pub(crate) fn new(pool: Arc<Inner>) -> Self {
        Self {
            pool,
            seat: None,
            held: None,
        }
    }

    pub(crate) fn sit(&mut self, seat: usize) {
        self.seat = Some(seat);
    }

    pub(crate) fn seat(&self) -> Option<usize> {
        self.seat
    }

    /// The task that held the connection has let go of it; what happens now is nobody's fault.
    pub(crate) fn disown(&self) {
        let Some(seat) = self.seat else { return };
        if let Some(holder) = self.pool.shelf().holder(seat) {
            holder.task = None;
        }
    }

    /// Gives the seat back, under the shelf's lock.
    pub(crate) fn stand(&mut self, shelf: &mut Shelf, now: Instant) {
        let Some(holder) = self.seat.take().and_then(|seat| shelf.leave(seat)) else {
            return;
        };
        let held = now - holder.since;
        self.held = Some(held);
        if holder.reported {
            tracing::info!(
                "a connection reported as held too long came back after {held:.1?} from {}",
                holder.describe()
            );
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.seat.is_some() {
            let pool = self.pool.clone();
            self.stand(&mut pool.shelf(), Instant::now());
        }
        if let Some(held) = self.held {
            self.pool.stats.held(held);
        }
        self.pool.gate.leave(self.held);
        if self.pool.gate.is_closed() {
            self.pool.departures.notify_waiters();
        }
    }
}
