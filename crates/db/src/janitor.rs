//! What is done once a second in the background: keep connections fresh and warm, let idle ones go, report leaks.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::pool::Inner;
use crate::stats::Reason;

const PERIOD: Duration = Duration::from_secs(1);

impl Inner {
    /// Starts the janitor if it does not run yet. It ends with the pool.
    pub(crate) fn start_janitor(self: &Arc<Self>) {
        self.janitor
            .get_or_init(|| drop(tokio::spawn(work(Arc::downgrade(self)))));
    }

    /// Opens what is missing to `min_connections`, all at once.
    fn warm(self: &Arc<Self>) {
        let missing = {
            let mut shelf = self.shelf();
            let wanted = self.config.min_connections.min(self.gate.limit());
            let missing = if shelf.outage.is_some() {
                0
            } else {
                wanted.saturating_sub(shelf.total())
            };
            shelf.dialling += missing;
            missing
        };
        for _ in 0..missing {
            self.spawn_dial();
        }
    }

    /// Closes what nobody has used for a while, oldest first, down to `min_connections`.
    fn shrink(&self, now: Instant) {
        let Some(limit) = self.config.max_idle_connection_lifetime else {
            return;
        };
        let mut shelf = self.shelf();
        let spare = shelf.total().saturating_sub(self.config.min_connections) as usize;
        // The stack's bottom is what was used longest ago.
        let old = shelf
            .idle
            .iter()
            .take_while(|slot| now - slot.idle_since > limit)
            .count()
            .min(spare);
        let slots = shelf.idle.drain(..old).collect();
        drop(shelf);
        self.close_slots(slots, Reason::Idle);
    }

    /// Replaces one connection that has reached its age; one a second keeps a fleet from reconnecting all at once.
    /// Where there is room the new connection comes before the old one goes.
    fn replace(self: &Arc<Self>, now: Instant) {
        let mut shelf = self.shelf();
        if shelf.outage.is_some()
            || shelf.dialling > 0
            || !shelf.idle.iter().any(|slot| slot.is_older_than(now))
        {
            return;
        }
        let room = shelf.total() < self.gate.limit();
        let old = if room {
            None
        } else {
            shelf.take_older_than(now)
        };
        shelf.dialling += 1;
        drop(shelf);
        self.close_slots(old.into_iter().collect(), Reason::Lifetime);
        let dial = self.spawn_dial();
        if room {
            let pool = self.clone();
            tokio::spawn(async move {
                if !dial.await.unwrap_or(false) {
                    return;
                }
                let old = pool.shelf().take_older_than(now);
                pool.close_slots(old.into_iter().collect(), Reason::Lifetime);
            });
        }
    }

    /// Tells once about each connection that has been held too long, with the place that took it.
    fn report_leaks(&self) {
        let Some(limit) = self.config.leak_threshold else {
            return;
        };
        let mut late = Vec::new();
        for holder in self
            .shelf()
            .holders()
            .filter(|holder| !holder.reported && holder.since.elapsed() > limit)
        {
            holder.reported = true;
            late.push((holder.since.elapsed(), holder.describe()));
        }
        for (held, holder) in late {
            tracing::warn!(
                "a connection has been held for {held:.1?}, longer than leak_threshold, by {holder}"
            );
        }
    }
}

async fn work(pool: Weak<Inner>) {
    loop {
        {
            let Some(inner) = pool.upgrade() else { return };
            if inner.gate.is_closed() {
                return;
            }
            let now = Instant::now();
            inner.shrink(now);
            inner.replace(now);
            inner.warm();
            inner.report_leaks();
            inner.side.rest(false).await;
        }
        tokio::time::sleep(PERIOD).await;
    }
}
