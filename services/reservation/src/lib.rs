//! The reservation service: what is booked, by whom and when.

#![warn(clippy::too_many_lines)]

mod list;
mod queue;
mod reservation;
mod state;
mod timestamp;

use axum::Router;
use axum::routing::get;
use server::Service;
use sqlx::migrate::Migrator;

use crate::state::App;

/// The migrations of the one database that all services share.
pub static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// What [`server::main`] runs.
pub const SERVICE: Service = Service {
    name: "reservation",
    port: 4005,
    api: "/api/reservations",
    app,
    migrator: &MIGRATOR,
};

/// The service's own routes over `pool`.
pub fn app(pool: db::Pool) -> Router {
    reservation::routes()
        .route("/api/reservations", get(list::list))
        .with_state(App::new(pool))
}
