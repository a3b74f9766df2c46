//! What one pool consists of: its settings, permits and numbers, and the state of its connections behind one lock.
//!
//! The state keeps itself consistent and decides nothing: that is for the files that use it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use tokio::sync::Notify;
use tokio::task;

use crate::config::Config;
use crate::config::hooks::AfterConnect;
use crate::connect_error::ConnectError;
use crate::fleet::Instance;
use crate::metrics::Metrics;
use crate::pool::between::{Between, Kind};
use crate::pool::health::Health;
use crate::pool::holder::{Demand, Holder, Nested, Origin, Taken};
use crate::pool::opened::{Control, Opened};
use crate::pool::permits::{Pace, Permits};
use crate::pool::renewed::Renewed;
use crate::pool::servers::Servers;
use crate::server_limits::ServerLimits;
use crate::work::{Turn, Work};

#[cfg(test)]
thread_local! {
    /// How often this thread has taken the lock of a pool.
    pub(crate) static LOCKS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// What all clones of a pool, its leases and its background tasks share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) permits: Permits,
    state: Mutex<State>,
    /// A connection became idle, or none will: callers with a permit but no connection listen.
    pub(crate) available: Notify,
    /// A lease ended: `close` listens.
    pub(crate) returned: Notify,
    /// The control connection.
    pub(crate) control: tokio::sync::Mutex<Option<Control>>,
    pub(crate) metrics: Metrics,
    /// Set once the janitor runs.
    pub(crate) janitor: OnceLock<()>,
    /// What the next connection is opened with.
    pub(crate) options: Mutex<Arc<PgConnectOptions>>,
    /// Which of several servers it works with.
    pub(crate) servers: Servers,
    /// What the server allows, as it was last asked.
    pub(crate) server: Mutex<Option<ServerLimits>>,
    /// What is between the pool and the server.
    pub(crate) between: Between,
    /// What is sent there in the place of texts that were found stale.
    pub(crate) renewed: Renewed,
    /// Who this pool is among those of its role.
    pub(crate) instance: Instance,
    /// What it has told the others that it may have open, if its limit follows them.
    pub(crate) claim: AtomicU32,
    /// How many questions for the position have begun, and the last answer with its number.
    pub(crate) asked: (AtomicU64, tokio::sync::Mutex<(u64, u64)>),
    /// Whose replica it is, if it is one.
    pub(crate) replica: Option<Replica>,
}

impl Shared {
    pub(crate) fn new(config: Config, replica: Option<Replica>) -> Self {
        config.tls.say(&config.address());
        Self {
            between: Between::new(config.pgbouncer, config.in_transactions()),
            renewed: Renewed::default(),
            permits: Permits::new(&config),
            state: Mutex::default(),
            available: Notify::new(),
            returned: Notify::new(),
            control: tokio::sync::Mutex::default(),
            metrics: Metrics::new(config.pool_name(), config.database()),
            janitor: OnceLock::new(),
            options: Mutex::new(Arc::new(config.options(config.pgbouncer))),
            servers: Servers::default(),
            server: Mutex::default(),
            instance: Instance::new(&config.application_name()),
            claim: AtomicU32::new(1),
            asked: Default::default(),
            replica,
            config,
        }
    }

    /// The pool of a replica, with its primary's hooks where it has none, and no long waits for what that can answer.
    pub(crate) fn of_replica(config: &Config, primary: &Arc<Self>) -> Self {
        let mut config = config.clone();
        config.wait_less_for_locks();
        config.hooks = config.hooks.or(&primary.config.hooks);
        let replica = Replica {
            primary: primary.clone(),
            health: Health::default(),
        };
        Self::new(config, Some(replica))
    }

    /// Takes the pool's one lock. Nothing waits or calls out while it is held.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        #[cfg(test)]
        LOCKS.set(LOCKS.get() + 1);
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a pooler is between the pool and the server that gives a connection another session with each transaction.
    pub(crate) fn is_pooled(&self) -> bool {
        self.between.kind() == Kind::TransactionPooler
    }

    /// Whether a session is told its settings when it is opened.
    pub(crate) fn takes_options(&self) -> bool {
        self.between.kind() == Kind::Nothing
    }

    /// How long the server lets a transaction pause, as far as this pool has told it.
    pub(crate) fn longest_pause(&self) -> Option<Duration> {
        match self.between.in_transactions() {
            Some(behind) => behind.pause,
            None => self.config.idle_in_transaction_session_timeout,
        }
    }

    /// The service's own hook. Behind a pooler what it sets would be others' too.
    pub(crate) fn after_connect(&self) -> Option<&Arc<AfterConnect>> {
        let hook = self.config.hooks.after_connect.as_ref();
        hook.filter(|_| !self.is_pooled())
    }

    /// Whether the limit follows the fleet.
    pub(crate) fn follows(&self) -> bool {
        self.config.follows() && self.takes_options() && !self.between.outlived.load(Relaxed)
    }

    /// How long it is likely to take until so many permits come back, if that is known.
    pub(crate) fn expected_wait(&self, permits: u32) -> Option<Duration> {
        let limit = self.permits.limit.load(Relaxed);
        let state = self.state();
        state.pace.expected_wait(permits, limit, Instant::now())
    }

    /// Records how long a caller waited for a permit.
    pub(crate) fn waited(&self, work: Option<&Work>, time: Duration) {
        self.metrics.wait.record(time);
        match work.and_then(|work| work.labelled(&self.metrics)) {
            Some(labelled) => labelled.wait_time.record(time),
            None => self.metrics.wait_time.record(time),
        }
    }

    /// Records how long a connection was held.
    fn held(&self, work: Option<&Work>, time: Duration) {
        self.metrics.hold.record(time);
        match work.and_then(|work| work.labelled(&self.metrics)) {
            Some(labelled) => labelled.use_time.record(time),
            None => self.metrics.use_time.record(time),
        }
    }
}

/// What the pool of a replica knows beside its connections.
pub(crate) struct Replica {
    /// Where it reads what the replica does not answer.
    pub(crate) primary: Arc<Shared>,
    pub(crate) health: Health,
}

impl Replica {
    /// Whether it may be asked this: it is not left alone with it, or the primary cannot answer instead.
    pub(crate) fn may_be_asked(&self, text: &str) -> bool {
        self.health.strain.allows(text) || self.primary.state().outage().is_some()
    }
}

/// Failures to open a connection, with no success since.
#[derive(Clone)]
pub(crate) struct Failures {
    pub(crate) last: Arc<ConnectError>,
    pub(crate) count: u32,
}

#[derive(Default)]
pub(crate) struct State {
    /// The last one back is the first one out: its caches are warm, and the others may grow old and go.
    pub(crate) idle: Vec<Opened>,
    holders: Vec<Option<Holder>>,
    free: Vec<usize>,
    /// Connections being opened.
    pub(crate) connecting: u32,
    /// Callers that have a permit but no connection yet.
    pub(crate) waiting: u32,
    pub(crate) generation: u64,
    pub(crate) failures: Option<Failures>,
    /// Whether a task tries to reach the database again.
    pub(crate) reconnecting: bool,
    /// Connections that broke lately, and since when.
    pub(crate) broken: (u32, Option<Instant>),
    pub(crate) pace: Pace,
    /// When a connection last came back in good health.
    pub(crate) came_back: Option<Instant>,
    /// Holders that took their connection by `acquire` or `begin`.
    explicit: u32,
    /// When a nesting task was last logged.
    nesting_logged: Option<Instant>,
}

impl State {
    pub(crate) fn in_use(&self) -> u32 {
        (self.holders.len() - self.free.len()) as u32
    }

    /// Whether no connection is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.in_use() == 0
    }

    /// Open or being opened.
    pub(crate) fn total(&self) -> u32 {
        (self.idle.len() + self.holders.len() - self.free.len()) as u32 + self.connecting
    }

    /// No connection can be opened: two attempts in a row have failed.
    pub(crate) fn outage(&self) -> Option<&Failures> {
        self.failures.as_ref().filter(|failures| failures.count > 1)
    }

    /// The database answers that it has no room for one more connection. What is open goes on working.
    pub(crate) fn crowded(&self) -> Option<&Failures> {
        self.outage().filter(|they| they.last.is_server_full())
    }

    /// Whether a caller waits for whom no connection is being opened: what has just gone makes room for one.
    pub(crate) fn lacks_connection(&self) -> bool {
        self.waiting > self.connecting
    }

    /// Takes the connection that was used last.
    pub(crate) fn take(&mut self, demand: &Demand, now: Instant) -> Option<Taken> {
        let connection = self.idle.pop()?;
        let nested = match self.explicit {
            0 => None,
            _ => self.nested(),
        };
        let explicit = matches!(demand.origin, Origin::Code(_));
        self.explicit += u32::from(explicit);
        let holder = Some(Holder {
            demand: demand.clone(),
            since: now,
            running: explicit.then(|| connection.running.begin()),
            task: explicit.then(task::try_id).flatten(),
            backend: connection.backend.clone(),
            reported: false,
        });
        let index = self.free.pop().unwrap_or(self.holders.len());
        if index == self.holders.len() {
            self.holders.push(holder);
        } else {
            self.holders[index] = holder;
        }
        Some(Taken {
            connection,
            holder: index,
            nested,
        })
    }

    /// Takes an idle connection that has reached its age out of use.
    pub(crate) fn take_older_than(&mut self, time: Instant) -> Option<Opened> {
        let index = self.idle.iter().position(|one| one.is_older_than(time))?;
        Some(self.idle.remove(index))
    }

    pub(crate) fn holder(&mut self, index: usize) -> Option<&mut Holder> {
        self.holders[index].as_mut()
    }

    pub(crate) fn holders(&mut self) -> impl Iterator<Item = &mut Holder> {
        self.holders.iter_mut().flatten()
    }

    /// Whether the caller's task holds a connection.
    pub(crate) fn holds_one(&self) -> bool {
        self.of_caller().is_some()
    }

    fn of_caller(&self) -> Option<&Holder> {
        if self.explicit == 0 {
            return None;
        }
        let id = Some(task::try_id()?);
        let mine =
            |holder: &&Holder| holder.task == id && matches!(holder.demand.origin, Origin::Code(_));
        self.holders.iter().flatten().find(mine)
    }

    /// What this task already holds and only its own code gives back, if anything.
    pub(crate) fn nested(&mut self) -> Option<Nested> {
        let held = self.of_caller()?.describe();
        let quiet = self
            .nesting_logged
            .is_some_and(|at| at.elapsed() < Duration::from_secs(1));
        if !quiet {
            self.nesting_logged = Some(Instant::now());
        }
        Some(Nested {
            held: (!quiet).then_some(held),
        })
    }
}

/// The right to use one connection, and how it is held once there is one. Dropping it gives both back.
pub(crate) struct Permit {
    pub(crate) pool: Arc<Shared>,
    pub(crate) holding: Holding,
    /// That of its work, if the caller has named one.
    pub(crate) turn: Option<Turn>,
}

/// The place of a connection's holder, and what is known when it has ended.
#[derive(Default)]
pub(crate) struct Holding {
    pub(crate) holder: Option<usize>,
    used: Option<(Duration, Option<Arc<Work>>)>,
    /// Who held the connection, if the log has named them. Logged again outside the lock.
    late: Option<String>,
}

impl Permit {
    pub(crate) fn new(pool: Arc<Shared>) -> Self {
        Self {
            pool,
            holding: Holding::default(),
            turn: None,
        }
    }

    /// The holder's task has given the connection back, so it may ask for another one.
    pub(crate) fn disown(&self) {
        if let Some(index) = self.holding.holder
            && let Some(holder) = self.pool.state().holder(index)
        {
            holder.task = None;
        }
    }
}

impl Holding {
    /// Ends the holding of a connection, under the state's lock.
    pub(crate) fn end(&mut self, state: &mut State, now: Instant) {
        let Some(index) = self.holder.take() else {
            return;
        };
        let Some(holder) = state.holders[index].take() else {
            return;
        };
        state.free.push(index);
        state.explicit -= u32::from(matches!(holder.demand.origin, Origin::Code(_)));
        let held = state.pace.record(holder.since, now);
        if holder.reported {
            self.late = Some(holder.describe());
        }
        self.used = Some((held, holder.demand.work));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Self {
            pool,
            holding,
            turn,
        } = self;
        if holding.holder.is_some() {
            holding.end(&mut pool.state(), Instant::now());
        }
        if let Some((used, work)) = holding.used.take() {
            pool.held(work.as_deref(), used);
            if let Some(turn) = turn {
                turn.record(used);
            }
            if let Some(holder) = &holding.late {
                tracing::info!(
                    event = "leak_over",
                    "a connection reported as held too long came back after {used:.1?} from {holder}"
                );
            }
        }
        // Its turn ends first, so that the next of its work may take the permit.
        drop(turn.take());
        pool.permits.give_back();
        if pool.permits.semaphore.is_closed() {
            pool.returned.notify_waiters();
        }
    }
}
