//! The way of every caller: through the gate, to the shelf, and away with a lease; and the way back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::claim::Claim;
use crate::deadline::within;
use crate::dial::close_slots;
use crate::error::{Error, PoolTimeout};
use crate::gate::Refused;
use crate::lease::Lease;
use crate::pool::Inner;
use crate::shelf::{Origin, Shelf, Slot};
use crate::stats::{Reason, Stats};

/// The janitor replaces connections while they are idle; one that never is goes when it is so much too old.
const OVERAGE: Duration = Duration::from_secs(30);

impl Inner {
    /// The way of every caller: through the gate, to the shelf, and away with a lease.
    pub(crate) async fn lease(self: &Arc<Self>, origin: Origin) -> Result<Lease, Error> {
        let mut since = Instant::now();
        self.warn_of_nesting(&origin);
        let waited = |time| self.stats.waited(time);
        if self
            .gate
            .enter(waited)
            .await
            .map_err(|refused| self.explain(refused, since))?
        {
            since = Instant::now();
        }
        let mut claim = Claim::new(self.clone());
        loop {
            let taken = self.shelf().take(&origin, since);
            let slot = match taken {
                Some((slot, seat)) => {
                    claim.sit(seat);
                    slot
                }
                None => self.wait_for_connection(&mut claim, &origin).await?,
            };
            let mut lease = Lease::new(claim, slot, &origin);
            if lease.answers(since).await {
                self.stats.acquired();
                return Ok(lease);
            }
            claim = lease.discard();
        }
    }

    /// Holding one connection while asking for another is how pools lock up: every holder waits for the others.
    fn warn_of_nesting(&self, origin: &Origin) {
        let Some((held, worth_a_line)) = self.shelf().held_by_this_task() else {
            return;
        };
        self.stats.nested();
        if worth_a_line {
            tracing::warn!(held, wanted = ?origin, "a task that holds a connection asks for another: enough of them lock the pool up");
        }
    }

    fn explain(&self, refused: Refused, since: Instant) -> Error {
        match refused {
            Refused::Closed => Error::Closed,
            Refused::Overloaded {
                waiting,
                retry_after,
            } => {
                self.stats.shed();
                Error::Overloaded {
                    waiting,
                    retry_after,
                }
            }
            Refused::Timeout => {
                self.stats.timed_out();
                let stats = self.stats();
                let mut shelf = self.shelf();
                let longest = shelf
                    .holders()
                    .min_by_key(|holder| holder.since)
                    .map(|holder| (holder.describe(), holder.since.elapsed()));
                let dial = shelf.outage.as_ref().map(|outage| outage.error.clone());
                drop(shelf);
                Error::PoolTimeout(Box::new(PoolTimeout {
                    waited: since.elapsed(),
                    limit: stats.limit,
                    in_use: stats.in_use,
                    idle: stats.idle,
                    waiting: stats.waiting,
                    longest,
                    dial,
                }))
            }
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let shelf = self.shelf();
        let (idle, in_use) = (shelf.idle.len() as u32, shelf.in_use());
        let waiting = self.gate.waiting() + shelf.hungry;
        drop(shelf);
        self.stats.snapshot(Stats {
            limit: self.gate.limit(),
            open: idle + in_use,
            idle,
            in_use,
            waiting,
            ..Stats::default()
        })
    }

    /// Puts a clean connection back, or closes it if it is no longer wanted.
    pub(crate) fn put(self: &Arc<Self>, claim: &mut Claim, slot: Slot) {
        let now = Instant::now();
        let mut shelf = self.shelf();
        claim.stand(&mut shelf, now);
        let (wanted, hungry) = (slot.generation == shelf.generation, shelf.hungry > 0);
        let reason = if self.gate.is_closed() {
            Some(Reason::Shutdown)
        } else if !wanted {
            Some(Reason::Failover)
        } else if shelf.total() >= self.gate.limit() {
            Some(Reason::Idle)
        } else if slot.expires.is_some_and(|expires| expires + OVERAGE <= now)
            && shelf.outage.is_none()
            && tokio::runtime::Handle::try_current().is_ok()
        {
            shelf.dialling += 1;
            Some(Reason::Lifetime)
        } else {
            None
        };
        let Some(reason) = reason else {
            shelf.came_back = Some(now);
            shelf.idle.push(Slot {
                idle_since: now,
                ..slot
            });
            drop(shelf);
            if hungry {
                self.arrivals.notify_one();
            }
            return;
        };
        let stranded = shelf.stranded();
        drop(shelf);
        if reason == Reason::Lifetime {
            self.spawn_dial();
        }
        self.close_slots(vec![slot], reason);
        if stranded {
            self.arrivals.notify_waiters();
        }
    }

    /// Throws a connection away that is of no further use, and takes the hint about its neighbours.
    pub(crate) fn discard(&self, claim: &mut Claim, slot: Slot, failover: bool) {
        let retired = self.vacate(claim, |shelf| shelf.broke(slot.generation, failover));
        self.stats.closed(Reason::Broken, 1);
        self.close_slots(retired, Reason::Failover);
    }

    /// Closes a connection that nobody knows the state of. It says nothing about its neighbours.
    pub(crate) fn let_go(&self, claim: &mut Claim, slot: Slot) {
        self.vacate(claim, |_| ());
        self.close_slots(vec![slot], Reason::Broken);
    }

    /// Gives the seat of a connection back that will not return, and the room it took to whoever waits for some.
    fn vacate<T>(&self, claim: &mut Claim, also: impl FnOnce(&mut Shelf) -> T) -> T {
        let mut shelf = self.shelf();
        claim.stand(&mut shelf, Instant::now());
        let result = also(&mut shelf);
        let stranded = shelf.stranded();
        drop(shelf);
        if stranded {
            self.arrivals.notify_waiters();
        }
        result
    }

    pub(crate) fn close_slots(&self, slots: Vec<Slot>, reason: Reason) {
        self.stats.closed(reason, slots.len());
        close_slots(slots);
    }

    /// Closes idle connections that are over the limit.
    pub(crate) fn trim(&self) {
        let mut shelf = self.shelf();
        let over = shelf.total().saturating_sub(self.gate.limit()) as usize;
        let count = over.min(shelf.idle.len());
        let slots = shelf.idle.drain(..count).collect();
        drop(shelf);
        self.close_slots(slots, Reason::Idle);
    }

    pub(crate) async fn check(self: &Arc<Self>) -> Result<(), Error> {
        if self.gate.is_closed() {
            return Err(Error::Closed);
        }
        let limit = self
            .config
            .connect_timeout
            .unwrap_or(Duration::from_secs(5));
        if !self.gate.has_room() {
            let answer = self.side.run(self, None);
            return within(Some(limit), answer).await?;
        }
        let mut lease = self
            .lease(Origin::Statement(sqlx::SqlStr::from_static(
                "/* readiness */",
            )))
            .await?;
        lease.ping(limit).await.map_err(Error::from)
    }
}
