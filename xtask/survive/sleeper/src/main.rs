//! `GET /api/sleep?ms=20`: a statement that takes so long. The pool's connections are then what limits the requests, not
//! the processor.

use std::process::ExitCode;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use serde::Deserialize;
use server::{Query, Result, Service};
use sqlx::migrate::Migrator;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

static MIGRATOR: Migrator = Migrator::DEFAULT;

fn main() -> ExitCode {
    server::main(Service {
        name: "sleeper",
        port: 4000,
        api: "/api/sleep",
        app,
        migrator: &MIGRATOR,
    })
}

fn app(pool: db::Pool) -> Router {
    Router::new()
        .route("/api/sleep", get(sleep))
        .with_state(pool)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    ms: f64,
}

async fn sleep(
    State(pool): State<db::Pool>,
    Query(Wait { ms }): Query<Wait>,
) -> Result<StatusCode> {
    sqlx::query("select from pg_sleep($1)")
        .bind(ms / 1000.0)
        .execute(&pool)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
