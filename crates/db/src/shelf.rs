//! The shelf: every connection of the pool, idle or with its holder, behind one lock. All gauges are counted here.

use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgConnection;
use sqlx::SqlStr;
use tokio::task;

use crate::connect_error::ConnectError;

/// An open connection.
pub(crate) struct Slot {
    pub(crate) connection: PgConnection,
    /// The condition by which `pg_stat_activity` knows this session and no other. `None` behind a pooler.
    pub(crate) backend: Option<Arc<str>>,
    /// Connections older than the shelf's generation are closed instead of reused.
    pub(crate) generation: u64,
    pub(crate) expires: Option<Instant>,
    pub(crate) idle_since: Instant,
    /// Has to answer a ping before its next use, however fresh.
    pub(crate) suspect: bool,
}

impl Slot {
    /// Whether it has reached its age.
    pub(crate) fn is_older_than(&self, time: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= time)
    }
}

/// Where a lease was taken.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// By `acquire` or `begin`, at this place in the code.
    Code(&'static Location<'static>),
    /// By a statement on the pool itself.
    Statement(SqlStr),
}

/// Who holds a connection.
pub(crate) struct Holder {
    pub(crate) origin: Origin,
    pub(crate) since: Instant,
    /// What it runs or ran last.
    pub(crate) sql: Option<SqlStr>,
    pub(crate) task: Option<task::Id>,
    pub(crate) backend: Option<Arc<str>>,
    pub(crate) reported: bool,
}

impl Holder {
    pub(crate) fn describe(&self) -> String {
        match (&self.origin, &self.sql) {
            (Origin::Code(place), Some(sql)) => {
                format!("{place}, running `{}`", shorten(sql.as_str()))
            }
            (Origin::Code(place), None) => place.to_string(),
            (Origin::Statement(sql), _) => format!("`{}`", shorten(sql.as_str())),
        }
    }
}

/// SQL on one line, short enough for a log.
pub(crate) fn shorten(sql: &str) -> String {
    let mut line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(200) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// The database cannot be reached. One prober dials; everyone else is told why at once.
pub(crate) struct Outage {
    pub(crate) error: Arc<ConnectError>,
    pub(crate) failures: u32,
}

/// What a caller with a permit does next.
pub(crate) enum Next {
    Take(Slot, usize),
    Dial,
    Wait,
    Fail(Arc<ConnectError>),
}

#[derive(Default)]
pub(crate) struct Shelf {
    /// The last one back is the first one out: its caches are warm, and the others may grow old and go.
    pub(crate) idle: Vec<Slot>,
    seats: Vec<Option<Holder>>,
    free: Vec<usize>,
    pub(crate) dialling: u32,
    /// Callers that have a permit but no connection yet.
    pub(crate) hungry: u32,
    pub(crate) generation: u64,
    pub(crate) outage: Option<Outage>,
    /// Whether the prober runs.
    pub(crate) probing: bool,
    /// When a nesting task was last warned of.
    warned: Option<Instant>,
    breaks: (u32, Option<Instant>),
    /// When a connection last came back in good health.
    pub(crate) came_back: Option<Instant>,
    /// Holders that took their connection by `acquire` or `begin`.
    explicit: u32,
}

impl Shelf {
    pub(crate) fn in_use(&self) -> u32 {
        (self.seats.len() - self.free.len()) as u32
    }

    /// Open or about to be.
    pub(crate) fn total(&self) -> u32 {
        self.idle.len() as u32 + self.in_use() + self.dialling
    }

    /// Whether a caller waits for whom no dial is on its way: what has just gone makes room for one.
    pub(crate) fn stranded(&self) -> bool {
        self.hungry > self.dialling
    }

    pub(crate) fn take(&mut self, origin: &Origin, now: Instant) -> Option<(Slot, usize)> {
        let slot = self.idle.pop()?;
        let explicit = matches!(origin, Origin::Code(_));
        self.explicit += u32::from(explicit);
        let holder = Holder {
            origin: origin.clone(),
            since: now,
            sql: None,
            task: explicit.then(task::try_id).flatten(),
            backend: slot.backend.clone(),
            reported: false,
        };
        let seat = self.free.pop().unwrap_or_else(|| {
            self.seats.push(None);
            self.seats.len() - 1
        });
        self.seats[seat] = Some(holder);
        Some((slot, seat))
    }

    /// What to do when there was nothing to take at first sight.
    pub(crate) fn next(&mut self, origin: &Origin, limit: u32) -> Next {
        if let Some((slot, seat)) = self.take(origin, Instant::now()) {
            return Next::Take(slot, seat);
        }
        match &self.outage {
            // The server is full, not gone: a connection of our own may still come, or come back.
            Some(outage) if outage.error.is_transient() && self.total() > 0 => Next::Wait,
            // New ones fail but ours are at work: one of them will do.
            Some(_)
                if self.in_use() > 0
                    && self
                        .came_back
                        .is_some_and(|at| at.elapsed() < Duration::from_secs(1)) =>
            {
                Next::Wait
            }
            Some(outage) => Next::Fail(outage.error.clone()),
            None if self.dialling < self.hungry && self.total() < limit => {
                self.dialling += 1;
                Next::Dial
            }
            None => Next::Wait,
        }
    }

    /// Takes an idle connection that has reached its age out of use.
    pub(crate) fn take_older_than(&mut self, time: Instant) -> Option<Slot> {
        let index = self.idle.iter().position(|slot| slot.is_older_than(time))?;
        Some(self.idle.remove(index))
    }

    pub(crate) fn leave(&mut self, seat: usize) -> Option<Holder> {
        let holder = self.seats[seat].take()?;
        self.explicit -= u32::from(matches!(holder.origin, Origin::Code(_)));
        self.free.push(seat);
        Some(holder)
    }

    pub(crate) fn holder(&mut self, seat: usize) -> Option<&mut Holder> {
        self.seats[seat].as_mut()
    }

    pub(crate) fn holders(&mut self) -> impl Iterator<Item = &mut Holder> {
        self.seats.iter_mut().flatten()
    }

    /// What this task already holds and only its own code gives back, if anything, and whether that is worth a line in
    /// the log, which is so once a second.
    pub(crate) fn held_by_this_task(&mut self) -> Option<(String, bool)> {
        if self.explicit == 0 {
            return None;
        }
        let id = Some(task::try_id()?);
        let mine = |holder: &&Holder| holder.task == id && matches!(holder.origin, Origin::Code(_));
        let held = self
            .seats
            .iter()
            .flatten()
            .find(mine)
            .map(Holder::describe)?;
        let quiet = self
            .warned
            .is_some_and(|at| at.elapsed() < Duration::from_secs(1));
        if !quiet {
            self.warned = Some(Instant::now());
        }
        Some((held, !quiet))
    }

    /// A connection broke. Its neighbours are asked for a sign of life before their next use; after three within a
    /// second, or a sign of a failover, they all go. Returns those.
    pub(crate) fn broke(&mut self, generation: u64, failover: bool) -> Vec<Slot> {
        if generation != self.generation {
            return Vec::new();
        }
        let now = Instant::now();
        let recent = self
            .breaks
            .1
            .is_some_and(|first| now - first < Duration::from_secs(1));
        self.breaks = if recent {
            (self.breaks.0 + 1, self.breaks.1)
        } else {
            (1, Some(now))
        };
        if failover || self.breaks.0 >= 3 {
            self.generation += 1;
            self.breaks = (0, None);
            return std::mem::take(&mut self.idle);
        }
        for slot in &mut self.idle {
            slot.suspect = true;
        }
        Vec::new()
    }
}
