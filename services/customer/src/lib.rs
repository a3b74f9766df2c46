//! The customer service: who makes reservations.

#![warn(clippy::too_many_lines)]

mod customer;

use axum::Router;
use server::Service;
use sqlx::migrate::Migrator;

/// The migrations of the one database that all services share.
pub static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// What [`server::main`] runs.
pub const SERVICE: Service = Service {
    name: "customer",
    port: 4004,
    api: "/api/customers",
    app,
    migrator: &MIGRATOR,
};

/// The service's own routes over `pool`.
pub fn app(pool: db::Pool) -> Router {
    customer::routes().with_state(pool)
}
