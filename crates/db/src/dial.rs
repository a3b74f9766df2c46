//! Opening connections: never in a caller's own future, so that nobody who gives up takes a half-open one along.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::claim::Claim;
use crate::config::Config;
use crate::connect_error::ConnectError;
use crate::deadline::within;
use crate::error::Error;
use crate::pool::Inner;
use crate::probe::spawn_prober;
use crate::shelf::{Next, Origin, Outage, Slot};

/// Opens a connection that belongs to nobody yet, within `connect_timeout`.
pub(crate) async fn open(
    config: &Config,
    options: &PgConnectOptions,
    limit: Option<Duration>,
) -> Result<PgConnection, ConnectError> {
    let opened = within(limit, options.connect()).await;
    let opened = opened.map_err(|_| ConnectError::timeout(config))?;
    opened.map_err(|source| ConnectError::new(config, source))
}

/// Counts a caller that has a permit but no connection.
struct Hungry<'a>(&'a Inner);

impl Drop for Hungry<'_> {
    fn drop(&mut self) {
        self.0.shelf().hungry -= 1;
    }
}

/// Counts a dial, also when its task is dropped.
pub(crate) struct Dialling {
    pub(crate) pool: Arc<Inner>,
    over: bool,
}

impl Dialling {
    /// For a dial that the shelf has counted already.
    pub(crate) fn counted(pool: Arc<Inner>) -> Self {
        Self { pool, over: false }
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        if !self.over {
            self.pool.shelf().dialling -= 1;
        }
    }
}

impl Inner {
    /// Waits until a connection is there for a caller who has passed the gate: a new one or one that came back.
    pub(crate) async fn wait_for_connection(
        self: &Arc<Self>,
        claim: &mut Claim,
        origin: &Origin,
    ) -> Result<Slot, Error> {
        self.shelf().hungry += 1;
        let _hungry = Hungry(self);
        // The dial has the same deadline and a better error, so it may speak first.
        let deadline = self
            .config
            .connect_timeout
            .map(|limit| limit + Duration::from_millis(50));
        let waiting = async {
            loop {
                let arrival = self.arrivals.notified();
                tokio::pin!(arrival);
                arrival.as_mut().enable();
                if self.gate.is_closed() {
                    return Err(Error::Closed);
                }
                let next = self.shelf().next(origin, self.gate.limit());
                match next {
                    Next::Take(slot, seat) => {
                        claim.sit(seat);
                        return Ok(slot);
                    }
                    Next::Fail(error) => return Err(Error::Connect(error)),
                    Next::Dial => drop(self.spawn_dial()),
                    Next::Wait => {}
                }
                arrival.await;
            }
        };
        let waited = within(deadline, waiting).await;
        waited.unwrap_or_else(|_| {
            let failure = self.last_failure();
            Err(Error::Connect(failure.unwrap_or_else(|| {
                Arc::new(ConnectError::timeout(&self.config))
            })))
        })
    }

    pub(crate) fn last_failure(&self) -> Option<Arc<ConnectError>> {
        self.shelf()
            .outage
            .as_ref()
            .map(|outage| outage.error.clone())
    }

    /// Dials in a task of its own; `dialling` was counted by whoever asked for it.
    pub(crate) fn spawn_dial(self: &Arc<Self>) -> JoinHandle<bool> {
        self.start_janitor();
        let dialling = Dialling::counted(self.clone());
        tokio::spawn(async move {
            let dialled = dialling
                .pool
                .dial(dialling.pool.config.connect_timeout)
                .await;
            dialling.land(dialled)
        })
    }

    /// The handshake and the first question together within `limit`.
    pub(crate) async fn dial(&self, limit: Option<Duration>) -> Result<Slot, ConnectError> {
        let dialled = within(limit, self.dial_now()).await;
        dialled.unwrap_or_else(|_| Err(ConnectError::timeout(&self.config)))
    }

    async fn dial_now(&self) -> Result<Slot, ConnectError> {
        let started = Instant::now();
        let (options, generation) = (self.options(), self.shelf().generation);
        let mut connection = match open(&self.config, &options, None).await {
            Err(error) if error.is_refusal() && self.reload() => {
                open(&self.config, &self.options(), None).await?
            }
            opened => opened?,
        };
        let backend = match self.config.pgbouncer {
            true => None,
            false => Some(
                backend(&mut connection)
                    .await
                    .map_err(|source| ConnectError::new(&self.config, source))?,
            ),
        };
        let took = started.elapsed();
        self.stats.dialled(took);
        let now = Instant::now();
        let expires = self
            .config
            .max_connection_lifetime
            .map(|life| now + life.mul_f64(0.9 + 0.2 * fastrand::f64()));
        Ok(Slot {
            connection,
            backend,
            generation,
            expires,
            idle_since: now,
            suspect: false,
        })
    }

    fn failed(self: &Arc<Self>, error: ConnectError) {
        self.stats.dial_failed();
        let mut shelf = self.shelf();
        let failures = shelf.outage.as_ref().map_or(0, |outage| outage.failures);
        if failures == 0 {
            tracing::warn!("no connection can be opened: {error}");
        }
        shelf.outage = Some(Outage {
            error: Arc::new(error),
            failures: failures + 1,
        });
        let probing = std::mem::replace(&mut shelf.probing, true);
        drop(shelf);
        self.arrivals.notify_waiters();
        if !probing {
            spawn_prober(self);
        }
    }
}

impl Dialling {
    /// Puts the new connection on the shelf, or tells everybody why there is none. Says whether there is.
    pub(crate) fn land(mut self, dialled: Result<Slot, ConnectError>) -> bool {
        let pool = self.pool.clone();
        let slot = match dialled {
            Ok(slot) => slot,
            Err(error) => {
                drop(self);
                pool.failed(error);
                return false;
            }
        };
        let mut shelf = pool.shelf();
        let outage = shelf.outage.take();
        // A failover while dialling does not matter: this connection was made by the new server or fails.
        let generation = shelf.generation;
        shelf.idle.push(Slot { generation, ..slot });
        pool.stats.opened();
        shelf.dialling -= 1;
        self.over = true;
        drop(shelf);
        match outage {
            Some(Outage { failures, .. }) => {
                tracing::info!(failures, "the database can be reached again");
                // Those who waited for what is open may dial now.
                pool.arrivals.notify_waiters();
            }
            None => pool.arrivals.notify_one(),
        }
        if pool.gate.is_closed() {
            pool.close_idle();
        }
        true
    }
}

/// What tells this session from all others of the server, also from a later one with the same process id.
async fn backend(connection: &mut PgConnection) -> Result<Arc<str>, sqlx::Error> {
    use sqlx::Row;
    // Text protocol: a prepared statement would stay on the server for a query that never comes again.
    const SQL: &str = "select format('pid = %s and backend_start = %L', pid, backend_start) \
                       from pg_stat_activity where pid = pg_backend_pid()";
    let row = sqlx::raw_sql(SQL).fetch_one(connection).await?;
    Ok(row.try_get_unchecked::<String, _>(0)?.into())
}

/// Says goodbye to the server, briefly and in the background; outside a runtime the socket just closes.
pub(crate) fn close_slots(slots: Vec<Slot>) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    for slot in slots {
        runtime.spawn(timeout(Duration::from_secs(1), slot.connection.close()));
    }
}
