//! What every service does: listen, drain, health, errors, metrics, telemetry. It knows HTTP and nothing of tables.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use axum::{Router, extract::State, routing::get};
//! use server::{Json, Result};
//!
//! static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate::Migrator::DEFAULT;
//!
//! fn main() -> ExitCode {
//!     server::main(server::Service { name: "clock", port: 4000, app, migrator: &MIGRATOR })
//! }
//!
//! fn app(pool: db::Pool) -> Router {
//!     Router::new().route("/api/time", get(read)).with_state(pool)
//! }
//!
//! async fn read(State(pool): State<db::Pool>) -> Result<Json<String>> {
//!     Ok(Json(sqlx::query_scalar("select now()::text").fetch_one(&pool).await?))
//! }
//! ```

mod backlog;
mod command;
mod connections;
mod database;
mod error;
mod exposition;
mod extract;
mod health;
mod healthcheck;
mod metrics;
mod observe;
mod page;
mod problem;
mod serve;
mod settings;
mod signal;
mod startup;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;

pub use command::main;
pub use connections::Stopped;
pub use error::{Error, FieldError, Result, ResultExt};
pub use extract::{Json, Path, Query, present};
pub use metrics::install_metrics;
pub use page::{Cursor, Limit, Page};
pub use serve::serve;
pub use settings::{Environment, SettingError, Settings};

/// What makes a service this one and no other.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// Its name in logs and messages.
    pub name: &'static str,
    /// The port it listens on unless `PORT` says otherwise.
    pub port: u16,
    /// Its routes. What every service has (health, metrics, errors) is added around them.
    pub app: fn(db::Pool) -> axum::Router,
    /// The migrations its database needs.
    pub migrator: &'static sqlx::migrate::Migrator,
}
