//! The pool itself: who may pass, what is on the shelf, and the way from one to the other.

use std::fmt;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sqlx::postgres::PgConnectOptions;
use tokio::sync::Notify;

use crate::config::Config;
use crate::dial;
use crate::error::Error;
use crate::gate::Gate;
use crate::lease::Lease;
use crate::parameters::ConfigError;
use crate::shelf::{Origin, Shelf};
use crate::side::Side;
use crate::stats::{Counted, Stats};
use crate::transaction::{Transaction, TransactionOptions};

/// A pool of connections to one database. Clones are the same pool.
///
/// `&Pool` works wherever sqlx takes an executor: `query_as!(…).fetch_all(&pool)`.
#[derive(Clone)]
pub struct Pool(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) gate: Gate,
    shelf: Mutex<Shelf>,
    /// A connection came to the shelf, or none will: callers with a permit but no connection listen.
    pub(crate) arrivals: Notify,
    /// A lease ended: `close` listens.
    pub(crate) departures: Notify,
    pub(crate) side: Side,
    pub(crate) stats: Counted,
    pub(crate) janitor: OnceLock<()>,
    options: Mutex<Arc<PgConnectOptions>>,
}

/// The process's one pool, made from `DATABASE_URL` at first use and the same ever after.
///
/// It opens no connection until somebody needs one. Call it inside a tokio runtime that lives as long as the process.
///
/// # Errors
/// When `DATABASE_URL` is missing or not valid.
pub fn pool() -> Result<&'static Pool, ConfigError> {
    static POOL: OnceLock<Result<Pool, ConfigError>> = OnceLock::new();
    POOL.get_or_init(|| Config::from_env().map(Pool::new))
        .as_ref()
        .map_err(Clone::clone)
}

impl Pool {
    /// A pool that opens its connections when they are needed. For tests and tools; a service has [`pool()`].
    #[must_use]
    pub fn new(config: Config) -> Self {
        let gate = Gate::new(
            config.connection_limit,
            config.queue_limit,
            config.pool_timeout,
        );
        Self(Arc::new(Inner {
            gate,
            shelf: Mutex::default(),
            arrivals: Notify::new(),
            departures: Notify::new(),
            side: Side::default(),
            stats: Counted::new(),
            janitor: OnceLock::new(),
            options: Mutex::new(Arc::new(config.options())),
            config,
        }))
    }

    /// A pool with its first connection open.
    ///
    /// # Errors
    /// [`Error::Connect`] with the cause, within `connect_timeout`.
    pub async fn connect(config: Config) -> Result<Self, Error> {
        let pool = Self::new(config);
        pool.acquire().await?;
        Ok(pool)
    }

    /// A connection for several statements in a row. Dropping the lease gives it back.
    ///
    /// # Errors
    /// [`Error::PoolTimeout`], [`Error::Overloaded`], [`Error::Connect`] or [`Error::Closed`].
    #[track_caller]
    pub fn acquire(&self) -> impl Future<Output = Result<Lease, Error>> + Send + use<> {
        let (pool, place) = (self.0.clone(), Location::caller());
        async move { pool.lease(Origin::Code(place)).await }
    }

    /// A transaction. Dropping it without `commit` rolls back.
    ///
    /// # Errors
    /// Those of [`Pool::acquire`], or the server's refusal.
    #[track_caller]
    pub fn begin(&self) -> impl Future<Output = Result<Transaction, Error>> + Send + use<> {
        self.begin_with(TransactionOptions::default())
    }

    /// A transaction with an isolation level, or read-only.
    ///
    /// # Errors
    /// Those of [`Pool::begin`].
    #[track_caller]
    pub fn begin_with(
        &self,
        options: TransactionOptions,
    ) -> impl Future<Output = Result<Transaction, Error>> + Send + use<> {
        let lease = self.acquire();
        async move { Transaction::begin(lease.await?, options).await }
    }

    /// Changes `connection_limit` while the pool runs. What is in use stays; connections over a smaller limit close
    /// when they come back.
    pub fn resize(&self, limit: u32) {
        self.0.gate.resize(limit.max(1));
        self.0.trim();
        self.0.arrivals.notify_waiters();
    }

    /// Changes how new connections are opened, for instance with a new password. Those that are open stay.
    ///
    /// # Errors
    /// When the URL is not valid. Its pool settings are read but only its connection settings are used.
    pub fn set_url(&self, url: &str) -> Result<(), ConfigError> {
        let options = Arc::new(self.0.config.options_at(&Config::parse(url)?));
        *self
            .0
            .options
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = options;
        Ok(())
    }

    /// The settings the pool was made with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// What the pool looks like now and has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// Hands the numbers to the `metrics` facade. Call it right before each scrape.
    ///
    /// Histograms go to the recorder that was installed when the pool was made: install yours first.
    pub fn publish(&self) {
        self.stats().publish();
    }

    /// One round trip that a full pool cannot starve, within `connect_timeout`: for readiness.
    ///
    /// # Errors
    /// Why the database cannot be used.
    pub async fn check(&self) -> Result<(), Error> {
        self.0.check().await
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("config", &self.0.config)
            .field("stats", &self.stats())
            .finish()
    }
}

impl Inner {
    pub(crate) fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The options for the next dial.
    pub(crate) fn options(&self) -> Arc<PgConnectOptions> {
        self.options
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Looks the connection settings up again, because the server refused the password. Says whether it may.
    pub(crate) fn reload(&self) -> bool {
        let Some(options) = self.config.options_now() else {
            return false;
        };
        *self.options.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(options);
        true
    }

    pub(crate) async fn dial_with(
        &self,
        options: &PgConnectOptions,
    ) -> Result<sqlx::PgConnection, Error> {
        dial::open(&self.config, options, self.config.connect_timeout)
            .await
            .map_err(|error| Error::Connect(Arc::new(error)))
    }
}
