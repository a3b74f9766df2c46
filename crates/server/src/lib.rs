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
//!     server::main(server::Service { name: "clock", port: 4000, api: "/api/time", app, migrator: &MIGRATOR })
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

#![warn(clippy::too_many_lines)]

mod cli;
mod doctor;
mod error;
mod health;
mod http;
mod live_page;
mod log_format;
mod metrics;
mod serve;
mod settings;
mod signal;
mod startup;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod traces;

pub use cli::main;
pub use error::problem::FieldError;
pub use error::{Error, Result, ResultExt};
pub use http::accept::Stopped;
pub use http::extract::{Json, Path, Query, present};
pub use http::page::{Cursor, Key, Limit, Page};
pub use http::rfc3339;
pub use metrics::install_metrics;
pub use serve::{Service, serve};
pub use settings::{Environment, Limits, SettingError, Settings};
