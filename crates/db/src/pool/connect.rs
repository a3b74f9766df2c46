//! Opening connections: in tasks of their own, so that a caller who gives up leaves no half-open one behind.
//!
//! After two failures in a row the database counts as out of reach: one task tries again with growing pauses, and
//! everyone else is told why at once.

use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use sqlx::PgConnection;
use tokio::task::JoinHandle;
use tracing::Span;

use crate::connect_error::ConnectError;
use crate::error::Error;
use crate::fleet::Session;
use crate::metrics::Outcome;
use crate::pool::between::Kind;
use crate::pool::closing::close_idle;
use crate::pool::handshake::session;
use crate::pool::hosts::{Reached, reach};
use crate::pool::opened::{Opened, Running};
use crate::pool::opening::{opened, run_hook};
use crate::pool::proof;
use crate::pool::state::{Failures, Shared, State};
use crate::pool::within::within;
use crate::spans;

/// The first pause between two attempts, and the longest: at first for a restart, after [`EARLY`] for a longer outage.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const EARLY_PAUSE: Duration = Duration::from_millis(120);
const LATE_PAUSE: Duration = Duration::from_millis(800);
const EARLY: Duration = Duration::from_secs(10);

/// An attempt to reconnect always ends.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(5);

/// Opens the control connection, within `connect_timeout`. It does not take a place that the pool waits for to have its first
/// connection.
pub(crate) async fn open_control(pool: &Shared) -> Result<Reached, Error> {
    let lacking = {
        let state = pool.state();
        let lacks = state.is_empty() && state.crowded().is_some();
        state.failures.clone().filter(|_| lacks)
    };
    if let Some(Failures { last, .. }) = lacking {
        return Err(Error::Connect(last));
    }
    let session = match pool.follows() {
        true => Session::Claiming(pool.claim.load(Relaxed)),
        false => Session::Beside,
    };
    within_timeout(pool, reach(pool, session)).await
}

/// Opens a connection that does not belong to the pool, with the service's hook.
pub(crate) async fn open_for_work(pool: &Shared) -> Result<PgConnection, Error> {
    let opened = async {
        let (mut reached, _) = opened(pool, Session::Beside).await?;
        run_hook(pool, &mut reached.inner).await?;
        Ok(reached.inner)
    };
    within_timeout(pool, opened).await
}

async fn within_timeout<T>(
    pool: &Shared,
    opened: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, Error> {
    let limit = pool.config.connect_timeout.unwrap_or(Duration::MAX);
    let opened = within(pool, limit, pin!(opened)).await;
    let opened = opened.unwrap_or_else(|| Err(timed_out(pool)));
    opened.map_err(|error| Error::Connect(Arc::new(error)))
}

/// Whoever was asked has not answered in time.
fn timed_out(pool: &Shared) -> ConnectError {
    if pool.between.kind() == Kind::SessionPooler {
        let none = "no answer within connect_timeout. It gives each connection a session of its own (pool_mode = session) and may have \
                    none left: lower connection_limit, or give it more (default_pool_size in PgBouncer)";
        return ConnectError::no_session(&pool.config, none);
    }
    ConnectError::timeout(&pool.config, pool.servers.addresses())
}

/// Opens a connection of the pool in a task of its own, which the caller has counted as `connecting`. The task's
/// result says whether there is one.
pub(crate) fn spawn(pool: &Arc<Shared>) -> JoinHandle<bool> {
    let connecting = Connecting::counted(pool.clone());
    // Part of the caller's wait, though it is another task's work.
    let span = spans::connect(&pool.config);
    tokio::spawn(async move {
        let limit = connecting.pool.config.connect_timeout;
        let connected = connect(&connecting.pool, limit, span).await;
        connecting.ended(connected)
    })
}

/// The handshake and the first question together within `limit`.
async fn connect(
    pool: &Shared,
    limit: Option<Duration>,
    span: Span,
) -> Result<Opened, ConnectError> {
    let limit = limit.unwrap_or(Duration::MAX);
    let connected = within(pool, limit, pin!(connect_now(pool))).await;
    match &connected {
        Some(Ok(_)) => {}
        Some(Err(error)) => spans::ended(&span, &Outcome::of(&error.source)),
        None => spans::ended(&span, &Outcome::Timeout),
    }
    connected.unwrap_or_else(|| Err(timed_out(pool)))
}

async fn connect_now(pool: &Shared) -> Result<Opened, ConnectError> {
    let (config, started) = (&pool.config, Instant::now());
    let (reached, first) = opened(pool, session(pool)).await?;
    let Reached {
        mut inner,
        generation,
        ..
    } = reached;
    run_hook(pool, &mut inner).await?;
    let now = Instant::now();
    let took = now - started;
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    pool.metrics.last_connect.store(nanos, Relaxed);
    pool.metrics.create_time.record(took);
    Ok(Opened {
        inner,
        backend: first.backend,
        timeline: first.role.timeline,
        generation,
        expires: config
            .max_connection_lifetime
            .map(|life| now + life.mul_f64(0.9 + 0.2 * fastrand::f64())),
        idle_since: now,
        suspect: false,
        running: Running::default(),
    })
}

/// Counts a connection that is being opened, also when its task is dropped.
struct Connecting {
    pool: Arc<Shared>,
    over: bool,
}

impl Connecting {
    /// For one that the state has counted already.
    fn counted(pool: Arc<Shared>) -> Self {
        Self { pool, over: false }
    }

    /// Makes the new connection idle, or tells everybody why there is none. Says whether there is.
    fn ended(self, connected: Result<Opened, ConnectError>) -> bool {
        match connected {
            Ok(connection) => {
                self.succeeded(connection);
                true
            }
            Err(error) => {
                let pool = self.pool.clone();
                drop(self);
                failed(&pool, error);
                false
            }
        }
    }

    fn succeeded(mut self, connection: Opened) {
        let pool = self.pool.clone();
        let mut state = pool.state();
        let shared = connection
            .backend
            .as_ref()
            .is_some_and(|backend| has(&mut state, backend));
        let failures = state.failures.take();
        // A failover meanwhile does not matter: this connection was made by the new server or fails.
        let generation = state.generation;
        state.idle.push(Opened {
            generation,
            ..connection
        });
        pool.metrics.opened.fetch_add(1, Relaxed);
        state.connecting -= 1;
        self.over = true;
        drop(state);
        match failures {
            Some(Failures { count, last }) => {
                if count > 1 {
                    tell_up(&last, count);
                }
                // Those who waited for what is open may open their own now.
                pool.available.notify_waiters();
            }
            None => pool.available.notify_one(),
        }
        if shared {
            proof::are_not_own(&pool);
        }
        if pool.permits.semaphore.is_closed() {
            close_idle(&pool);
        }
    }
}

/// Whether an open connection has this session, which no server gives to two.
fn has(state: &mut State, backend: &Arc<str>) -> bool {
    let same = |one: &Option<Arc<str>>| one.as_ref() == Some(backend);
    state.idle.iter().any(|one| same(&one.backend)) || state.holders().any(|one| same(&one.backend))
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if !self.over {
            self.pool.state().connecting -= 1;
        }
    }
}

fn failed(pool: &Arc<Shared>, error: ConnectError) {
    pool.metrics.connect_failed.fetch_add(1, Relaxed);
    let error = Arc::new(error);
    let mut state = pool.state();
    let before = state.failures.take();
    let count = before.as_ref().map_or(0, |failures| failures.count) + 1;
    state.failures = Some(Failures {
        last: error.clone(),
        count,
    });
    let reconnect = count > 1 && !std::mem::replace(&mut state.reconnecting, true);
    drop(state);
    let is_full = |failures: Failures| failures.last.is_server_full();
    if count == 2 || count > 2 && before.map(is_full) != Some(error.is_server_full()) {
        tell_down(&error);
    }
    pool.available.notify_waiters();
    if reconnect {
        let reconnecting = Reconnecting(Arc::downgrade(pool));
        tokio::spawn(async move { reconnecting.run().await });
    }
}

/// Says that no connection can be opened. Want of room is not the same as being out of reach.
fn tell_down(error: &ConnectError) {
    match error.is_server_full() {
        true => tracing::warn!(
            event = "no_room",
            "no more connections can be opened: {error}"
        ),
        false => tracing::warn!(
            event = "database_down",
            "no connection can be opened: {error}"
        ),
    }
}

/// Says that one can be opened again, after so many failures of which this was the last.
fn tell_up(last: &ConnectError, failures: u32) {
    match last.is_server_full() {
        true => tracing::info!(
            event = "room",
            failures,
            "the database has room for more connections again"
        ),
        false => tracing::info!(
            event = "database_up",
            failures,
            "the database can be reached again"
        ),
    }
}

/// The state's note that a task tries to reach the database again, taken back however that ends.
struct Reconnecting(Weak<Shared>);

impl Drop for Reconnecting {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            let mut state = pool.state();
            state.reconnecting = false;
            // Whoever failed meanwhile has left it to this task: let the next caller try.
            if state.outage().is_some() {
                state.failures = None;
            }
            drop(state);
            pool.available.notify_waiters();
        }
    }
}

impl Reconnecting {
    /// Tries until the database is back, with growing pauses that no two instances share.
    async fn run(&self) {
        let (since, mut pause, mut factor) = (Instant::now(), FIRST_PAUSE, 1);
        loop {
            tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
            let longest = match since.elapsed() < EARLY {
                true => EARLY_PAUSE,
                false => LATE_PAUSE,
            };
            pause = (pause * 2).min(longest);
            let Some(pool) = self.0.upgrade() else { return };
            if pool.permits.semaphore.is_closed() || pool.state().outage().is_none() {
                return;
            }
            pool.state().connecting += 1;
            let connecting = Connecting::counted(pool.clone());
            let limit = Some(patience(&pool, factor));
            let connected = connect(&pool, limit, spans::connect(&pool.config)).await;
            factor = (factor * 2).min(64);
            if connecting.ended(connected) {
                return;
            }
        }
    }
}

/// Where connecting usually takes milliseconds, an attempt that has hung for half a second is better made anew, with
/// more patience each time.
fn patience(pool: &Shared, factor: u32) -> Duration {
    let longest = pool.config.connect_timeout.unwrap_or(LONGEST_ATTEMPT);
    let usual = match pool.metrics.last_connect.load(Relaxed) {
        0 => longest,
        nanos => Duration::from_nanos(nanos),
    };
    ((usual * 20).max(Duration::from_millis(500)) * factor).min(longest)
}
