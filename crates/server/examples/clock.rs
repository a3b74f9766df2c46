//! The smallest service: one route, no table. `DATABASE_URL=postgres://… cargo run -p server --example clock`

use std::process::ExitCode;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde::Deserialize;
use server::{Json, Query, Result, Service};
use sqlx::migrate::Migrator;

static MIGRATOR: Migrator = Migrator::DEFAULT;

fn main() -> ExitCode {
    server::main(Service {
        name: "clock",
        port: 4000,
        api: "/api/time",
        app,
        migrator: &MIGRATOR,
    })
}

fn app(pool: db::Pool) -> Router {
    Router::new().route("/api/time", get(read)).with_state(pool)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    /// Seconds to wait before the clock is read.
    after: Option<f64>,
}

async fn read(
    State(pool): State<db::Pool>,
    Query(Wait { after }): Query<Wait>,
) -> Result<Json<String>> {
    let time = sqlx::query_scalar("select clock_timestamp()::text from pg_sleep($1)")
        .bind(after.unwrap_or(0.0))
        .fetch_one(&pool)
        .await?;
    Ok(Json(time))
}
