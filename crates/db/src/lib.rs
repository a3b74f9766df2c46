//! One PostgreSQL pool per process: fast, safe and visible.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = db::pool()?; // from DATABASE_URL, with Prisma's parameters
//! let one: i32 = sqlx::query_scalar("select 1").fetch_one(pool).await?;
//! # Ok(()) }
//! ```
//!
//! sqlx opens the connections and speaks to the server. Who may have one, and in what state, is decided here: a fair
//! gate of `connection_limit` permits, a shelf of idle connections, and a [lease](Lease) that only
//! gives back what is clean.

#![warn(clippy::unwrap_used, clippy::expect_used)]

mod checkout;
mod claim;
mod close;
mod config;
mod connect_error;
mod deadline;
mod dial;
mod doctor;
mod effect;
mod endpoint;
mod environment;
mod error;
mod executor;
mod gate;
mod janitor;
mod lease;
mod limits;
mod migrate;
mod parameters;
mod pool;
mod probe;
mod publish;
mod query;
mod recover;
mod shelf;
mod side;
mod statement;
mod stats;
mod tls;
mod transaction;
mod watch;

pub use close::Closed;
pub use config::Config;
pub use connect_error::ConnectError;
pub use doctor::Report;
pub use error::{Error, PoolTimeout};
pub use lease::Lease;
pub use parameters::{ConfigError, PARAMETERS};
pub use pool::{Pool, pool};
pub use stats::{Reason, Stats};
pub use transaction::{Isolation, Transaction, TransactionOptions};
