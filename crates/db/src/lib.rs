//! One PostgreSQL pool per process: fast, safe and visible.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = db::pool()?; // from DATABASE_URL, with Prisma's parameters
//! let one: i32 = sqlx::query_scalar("select 1").fetch_one(pool).await?;
//! # Ok(()) }
//! ```
//!
//! Ways of use:
//!
//! - a statement on [`&Pool`](Pool): one connection for one statement;
//! - [`Pool::acquire`]: a [`Lease`] for several statements in a row;
//! - [`Pool::begin`] and [`Pool::transaction`]: all or nothing, with savepoints by [`Transaction::begin`];
//! - [`with_deadline`]: none of these waits for a connection beyond the moment when nobody needs the answer any more;
//! - [`Pool::stats`], [`Pool::publish`], [`Pool::check`] and [`Pool::examine`]: what the pool does, and whether it can;
//! - [`Pool::migrate`], [`Pool::resize`] and [`Pool::close`]: its beginning, its size and its end.
//!
//! sqlx opens the connections and speaks to the server. Who may have one, and in what state, is decided here:
//! `connection_limit` permits in the order of the callers, the state of the connections, and a [lease](Lease) that gives
//! back only what is clean.

#![warn(clippy::too_many_lines, clippy::unwrap_used, clippy::expect_used)]

mod begin;
mod beside;
mod caller;
mod certificate;
mod config;
mod connect_error;
mod control;
mod diagnosis;
mod doctor;
mod duration;
mod error;
mod facade;
mod fleet;
mod histogram;
mod limits;
mod listener;
mod metrics;
mod migrate;
mod only_reads;
mod pool;
mod queue_error;
mod rights;
mod said;
mod seen;
mod server_limits;
mod session_effect;
mod share;
mod spans;
mod sql_text;
mod sqlstate;
mod statement;
#[cfg(feature = "testing")]
pub mod testing;
mod transaction;
mod usage;
mod work;

pub use begin::Acquire;
pub use caller::{
    Caller, as_caller, caller, carry, with_caller, with_deadline, with_seen, with_usage, with_work,
};
pub use config::hooks::Credentials;
pub use config::settings::Setting;
pub use config::{Config, ConfigError, PARAMETERS, TargetSessionAttrs};
pub use connect_error::ConnectError;
pub use diagnosis::{Diagnosis, PoolState};
pub use doctor::Report;
pub use doctor::checks::{Check, Verdict};
pub use error::Error;
pub use histogram::{Histogram, HistogramSnapshot};
pub use limits::Limits;
pub use listener::{Heard, Listener};
pub use metrics::{CloseReason, Stats, Times};
pub use migrate::Schema;
pub use pool::{
    Closed, Connection, Held, Lease, MaybeLease, Pool, ReplicaState, ReplicaStats, Within, pool,
};
pub use queue_error::{PoolTimeout, QueueLimit};
pub use said::said;
pub use seen::Seen;
pub use server_limits::ServerLimits;
pub use transaction::{Isolation, Transaction, TransactionOptions};
pub use usage::Usage;
pub use work::Work;

/// The README's examples are compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
