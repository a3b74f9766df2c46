//! The pool as its users see it. Each promise is kept in a file of this folder, which imports only files below it:
//!
//! `close` · `replicas`, `check` · `watch` · `part` · `acquire` · `wait`, `janitor` · `follow` · `queue`, `events` · `lease` · `transacting` ·
//! `connection` · `in_transaction`, `recycle` · `control_connection` · `connect` · `opening` · `proof` · `hosts`, `in_turn` · `handshake`,
//! `first_question` · `pooler` · `closing` · `report` · `within` · `state` · `between` · `opened`, `permits`, `holder`, `servers`, `health`,
//! `strain` · `condition`, `delay`, `pause`, `renewed`
mod acquire;
mod addresses;
mod between;
mod check;
mod close;
mod closing;
mod condition;
mod connect;
mod connection;
mod control_connection;
mod delay;
mod dial;
mod events;
mod first_question;
mod follow;
mod handshake;
mod health;
mod holder;
mod hosts;
mod in_transaction;
mod in_turn;
mod janitor;
mod lease;
mod opened;
mod opening;
#[cfg(feature = "tls")]
mod own_tls;
pub(crate) mod part;
mod pause;
mod permits;
mod pooler;
pub(crate) mod proof;
mod queue;
mod raw_password;
mod recycle;
mod relay;
mod renewed;
mod replicas;
mod report;
mod servers;
mod state;
mod strain;
mod transacting;
mod wait;
mod watch;
mod within;

use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;
use std::{fmt, panic::Location};

use futures_util::future::{join, join_all};
use sqlx::{PgConnection, postgres::PgConnectOptions};

use crate::config::{Config, ConfigError};
use crate::diagnosis::Diagnosis;
use crate::error::Error;
use crate::limits::Limits;
use crate::metrics::{Stats, Times};
use crate::server_limits::ServerLimits;

pub use crate::pool::close::Closed;
pub use crate::pool::connection::Connection;
pub use crate::pool::health::{ReplicaState, ReplicaStats};
pub use crate::pool::holder::Held;
pub use crate::pool::lease::{Lease, MaybeLease};

pub(crate) use crate::pool::acquire::{acquire, acquire_anywhere};
pub(crate) use crate::pool::between::Sessions;
pub(crate) use crate::pool::condition::Condition;
pub(crate) use crate::pool::holder::{Origin, on_one_line};
pub(crate) use crate::pool::in_transaction::{InTransaction, Patience};
pub(crate) use crate::pool::permits::Part;
pub(crate) use crate::pool::recycle::{roll_back_to, who_is_lost};
#[cfg(test)]
pub(crate) use crate::pool::state::LOCKS;
pub(crate) use crate::pool::state::{Replica, Shared};
pub(crate) use crate::pool::strain::LEASES;
pub use crate::pool::within::Within;
pub(crate) use crate::pool::within::{Limit, within};

/// A pool of connections to one database. Clones are the same pool.
///
/// `&Pool` works wherever sqlx takes an executor. A statement on it takes a connection and gives it back at its end:
///
/// ```no_run
/// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
/// let names: Vec<String> = sqlx::query_scalar("select name from customer")
///     .fetch_all(pool)
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Pool(
    pub(crate) Arc<Shared>,
    pub(crate) Option<Arc<Limits>>,
    /// Its replicas.
    Option<Arc<[Self]>>,
);

/// The process's one pool, made from `DATABASE_URL` at first use and the same ever after.
///
/// It opens no connection until somebody needs one. Call it inside a tokio runtime that lives as long as the process.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let one: i32 = sqlx::query_scalar("select 1").fetch_one(db::pool()?).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// When `DATABASE_URL` is missing or not valid; the same error at every later call.
pub fn pool() -> Result<&'static Pool, ConfigError> {
    static POOL: OnceLock<Result<Pool, ConfigError>> = OnceLock::new();
    POOL.get_or_init(|| Config::from_env().map(Pool::new))
        .as_ref()
        .map_err(Clone::clone)
}

impl Pool {
    /// A pool that opens its connections when they are needed. For tests and tools; a service has [`pool()`].
    ///
    /// ```no_run
    /// # fn example() -> Result<(), db::ConfigError> {
    /// let config = db::Config::parse("postgres://user@localhost/app?connection_limit=3")?;
    /// let pool = db::Pool::new(config);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn new(config: Config) -> Self {
        let primary = Arc::new(Shared::new(config, None));
        let replica = |config| Self(Arc::new(Shared::of_replica(config, &primary)), None, None);
        let replicas: Arc<[Self]> = primary.config.replicas.iter().map(replica).collect();
        let replicas = (!replicas.is_empty()).then_some(replicas);
        Self(primary, None, replicas)
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
    /// ```no_run
    /// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
    /// let mut lease = pool.acquire().await?;
    /// sqlx::query("select 1").execute(&mut *lease).await?;
    /// sqlx::query("select 2").execute(&mut *lease).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::PoolTimeout`] after `pool_timeout` or at the [deadline](crate::with_deadline), [`Error::Overloaded`] at once
    /// when it would come to that, [`Error::Connect`] within `connect_timeout`, or [`Error::Closed`].
    #[track_caller]
    pub fn acquire(&self) -> impl Future<Output = Result<Lease, Error>> + Send + use<> {
        let (pool, origin) = (self.clone(), Origin::Code(Location::caller()));
        async move {
            let mut lease = Lease(acquire_anywhere(&pool.0, pool.1.as_deref(), origin).await?);
            lease.limit(&pool).await?;
            Ok(lease)
        }
    }

    /// A connection beside the pool, for work that is not a request's.
    pub(crate) async fn open_beside(&self) -> Result<PgConnection, Error> {
        connect::open_for_work(&self.0).await
    }

    /// Whether a connection has a session of its own, as far as can be found out.
    pub(crate) async fn has_sessions(&self) -> Result<bool, Error> {
        proof::sessions(&self.0).await;
        let trusted = proof::is_trusted(&self.0).await;
        trusted.map_err(|error| Error::Connect(Arc::new(error)))?;
        Ok(!self.0.is_pooled())
    }

    /// The same pool with other limits, for what may take longer than a request, or must not: statements, leases and
    /// transactions on what this gives have them.
    ///
    /// A transaction is told with its begin, and costs nothing more. A single statement or a lease costs two round trips
    /// more, because the session has to be told, and afterwards made as it was.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
    /// let limits = db::Limits { statement: Some(Duration::from_secs(60)), ..Default::default() };
    /// let nightly = pool.with(limits);
    /// let mut report = nightly.begin().await?;
    /// let orders: i64 = sqlx::query_scalar("select count(*) from orders").fetch_one(&mut *report).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Behind PgBouncer in transaction mode only transactions can have limits that the server has to know of: a statement
    /// or a lease with some of them is an error.
    #[must_use]
    pub fn with(&self, limits: Limits) -> Self {
        let replicas = self.2.as_deref();
        let replicas = replicas.map(|all| all.iter().map(|pool| pool.with(limits)).collect());
        Self(self.0.clone(), Some(Arc::new(limits)), replicas)
    }

    /// A connection if one is idle, at once. It is not asked for a sign of life first, as [`acquire`](Self::acquire) does with
    /// one that has been idle for long.
    ///
    /// ```no_run
    /// # fn example(pool: &db::Pool) {
    /// if let Some(lease) = pool.try_acquire() {
    ///     // work that may as well be done another time
    /// }
    /// # }
    /// ```
    #[must_use]
    #[track_caller]
    pub fn try_acquire(&self) -> Option<Lease> {
        acquire::try_acquire(&self.0, Location::caller()).map(Lease)
    }

    /// What the pool opens connections with, for a tool that opens one beside it: the same address, credentials, TLS and
    /// session settings. Such a connection is not part of the limit.
    ///
    /// ```no_run
    /// # use sqlx::ConnectOptions;
    /// # async fn example(pool: &db::Pool) -> Result<(), sqlx::Error> {
    /// let options = pool.connect_options().application_name("nightly report");
    /// let connection = options.connect().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn connect_options(&self) -> PgConnectOptions {
        handshake::options(&self.0)
    }

    /// Whether [`close`](Self::close) was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.permits.semaphore.is_closed()
    }

    /// Changes `connection_limit` while the pool runs; 0 counts as 1. What is in use stays; connections over a smaller
    /// limit close when they come back. What [`sqlx_pool`](Self::sqlx_pool) has taken of the limit stays taken.
    /// With `connection_limit=auto` the next look at the other instances changes it again.
    ///
    /// ```
    /// # fn example(pool: &db::Pool) {
    /// pool.resize(20);
    /// assert_eq!(pool.stats().limit, 20);
    /// # }
    /// ```
    pub fn resize(&self, limit: u32) {
        closing::resize(&self.0, limit);
    }

    /// Has every connection opened anew, without disturbing anybody: idle ones close now, those in use when they come back.
    /// For what only new sessions see: a role's changed settings, another server behind the same name, a new certificate.
    ///
    /// They are counted as closed by `failover`. Pools of [`sqlx_pool`](Self::sqlx_pool) keep theirs.
    ///
    /// ```no_run
    /// # fn example(pool: &db::Pool) {
    /// pool.evict(); // after `alter role shop set work_mem = '64MB'`
    /// # }
    /// ```
    pub fn evict(&self) {
        closing::evict(&self.0);
    }

    /// The settings the pool was made with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// What the pool looks like now and has done so far.
    ///
    /// ```
    /// # fn example(pool: &db::Pool) {
    /// let stats = pool.stats();
    /// assert_eq!(stats.open, stats.idle + stats.in_use);
    /// # }
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// Hands the numbers to the `metrics` facade, and gives them back. Call it right before each scrape.
    ///
    /// Histograms go to the recorder that was installed when the pool was made: install yours first. Names are in
    /// `docs/operations.md`; times are in seconds.
    ///
    /// ```
    /// # fn example(pool: &db::Pool, render: impl Fn() -> String) -> String {
    /// pool.publish();
    /// render() // for instance that of metrics-exporter-prometheus
    /// # }
    /// ```
    pub fn publish(&self) -> Stats {
        let (metrics, stats) = (&self.0.metrics, self.stats());
        stats.publish(metrics.pool_name());
        if let Some((limit, idle, in_use)) = part::stats(&self.0) {
            metrics.publish_part(limit, idle, in_use);
        }
        if let Some(server) = self.server() {
            metrics.publish_server(server.others + stats.open, &server);
        }
        if let Some(Replica { health, .. }) = &self.0.replica {
            metrics.publish_replica(health.state() == ReplicaState::Fresh, health.lag());
        }
        for replica in self.2.iter().flat_map(|replicas| replicas.iter()) {
            replica.publish();
        }
        stats
    }

    /// How long callers waited, connections were held and statements ran, since the start.
    ///
    /// ```no_run
    /// # async fn example(pool: &db::Pool) {
    /// let before = pool.times();
    /// tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    /// let minute = pool.times().wait.since(&before.wait);
    /// println!("99 % waited for {:?} at most", minute.quantile(0.99));
    /// # }
    /// ```
    #[must_use]
    pub fn times(&self) -> Times {
        self.0.metrics.times()
    }

    /// Who holds a connection now, longest first.
    ///
    /// ```no_run
    /// # fn example(pool: &db::Pool) {
    /// for holder in pool.holders() {
    ///     println!("{:?} {holder}", holder.held);
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn holders(&self) -> Vec<Held> {
        self.0.holders()
    }

    /// What is the matter with the pool and what to do about it.
    ///
    /// ```no_run
    /// # fn example(pool: &db::Pool) {
    /// println!("{}", pool.diagnosis()); // "The pool is quiet: 2 of 10 connections are open, nobody waits."
    /// # }
    /// ```
    #[must_use]
    pub fn diagnosis(&self) -> Diagnosis {
        self.0.view().diagnosis()
    }

    /// The name of the pool in its metrics: `host:port/database`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.metrics.pool_name()
    }

    /// What the server allows, as [`examine`](Self::examine) last found it; `None` before.
    #[must_use]
    pub fn server(&self) -> Option<ServerLimits> {
        let server = self.0.server.lock();
        server.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes the pool for good. Waiters get [`Error::Closed`] at once, idle connections close, and busy ones may finish.
    /// Shortly before `deadline` (a quarter of it, 500 ms at most) the server is told to end the sessions of those that
    /// have not. Returns within 0.1 s after `deadline`, whatever the server does; with a deadline of zero at once.
    pub async fn close(&self, deadline: Duration) -> Closed {
        let replicas = self.2.iter().flat_map(|replicas| replicas.iter());
        let replicas = join_all(replicas.map(|pool| close::close(&pool.0, deadline)));
        let (closed, of_replicas) = join(close::close(&self.0, deadline), replicas).await;
        of_replicas.into_iter().fold(closed, Closed::and)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("config", self.config())
            .field("stats", &self.stats())
            .finish()
    }
}
