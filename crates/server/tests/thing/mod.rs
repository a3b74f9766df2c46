//! A service for the tests: one table, and a route for each thing that can go wrong.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use server::{Error, Json, Path, Query, Result, ResultExt, Service};

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("tests/migrations");

pub(crate) const THING: Service = Service {
    name: "thing",
    port: 4999,
    api: "/api/count",
    app,
    migrator: &MIGRATOR,
};

fn app(pool: db::Pool) -> Router {
    Router::new()
        .route("/api/things", post(create))
        .route("/api/things/{id}", get(read))
        .route("/api/count", get(count))
        .route("/api/slow", get(slow))
        .route("/api/hold", get(hold))
        .route("/api/late", post(late))
        .route("/api/large", get(async || "x".repeat(10_000)))
        .route("/api/raise/{code}", get(raise))
        .route("/api/panic", get(panic))
        .route("/api/plain", get(plain).post(text))
        .route("/api/headers", get(headers))
        .with_state(pool)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewThing {
    name: Option<String>,
    email: Option<String>,
    amount: Option<i32>,
}

#[derive(Debug, Serialize, sqlx::FromRow)]
struct Thing {
    id: i32,
    name: String,
}

async fn create(
    State(pool): State<db::Pool>,
    Json(new): Json<NewThing>,
) -> Result<(StatusCode, Json<Thing>)> {
    let thing = sqlx::query_as(
        "insert into thing (name, email, amount) values ($1, $2, $3) returning id, name",
    )
    .bind(new.name)
    .bind(new.email)
    .bind(new.amount)
    .fetch_one(&pool)
    .await
    .on_constraint(|name| match name {
        "thing_name_length" => Some(Error::field("name", "must be 1 to 20 characters")),
        "thing_email_unique" => Some(Error::conflict("Another thing has this email.")),
        _ => None,
    })?;
    Ok((StatusCode::CREATED, Json(thing)))
}

async fn read(State(pool): State<db::Pool>, Path(id): Path<i32>) -> Result<Json<Thing>> {
    let thing = sqlx::query_as("select id, name from thing where id = $1")
        .bind(id)
        .fetch_optional(&pool)
        .await?;
    thing.map(Json).ok_or(Error::NotFound)
}

async fn count(State(pool): State<db::Pool>) -> Result<Json<i64>> {
    Ok(Json(
        sqlx::query_scalar("select count(*) from thing")
            .fetch_one(&pool)
            .await?,
    ))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Milliseconds {
    ms: u64,
}

/// Works for a while, in the database.
async fn slow(
    State(pool): State<db::Pool>,
    Query(Milliseconds { ms }): Query<Milliseconds>,
) -> Result<Json<u64>> {
    let seconds = Duration::from_millis(ms).as_secs_f64();
    sqlx::query("select pg_sleep($1)")
        .bind(seconds)
        .execute(&pool)
        .await?;
    Ok(Json(ms))
}

/// Holds a connection until the client goes away.
async fn hold(State(pool): State<db::Pool>) -> Result<()> {
    let _lease = pool.acquire().await?;
    std::future::pending().await
}

/// Writes, after half a second in which its client may go away.
async fn late(State(pool): State<db::Pool>) -> Result<()> {
    let mut transaction = pool.begin().await?;
    sqlx::query("select pg_sleep(0.5)")
        .execute(&mut *transaction)
        .await?;
    sqlx::query("insert into thing (name) values ('late')")
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(())
}

async fn raise(State(pool): State<db::Pool>, Path(code): Path<String>) -> Result<()> {
    let sql = format!(
        "do $$ begin raise exception 'canary' using errcode = '{code}', constraint = 'rule'; end $$"
    );
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&pool).await?;
    Ok(())
}

async fn panic() {
    panic!("canary");
}

/// The headers as a handler sees them: one pair for each.
async fn headers(headers: HeaderMap) -> Json<Vec<(String, String)>> {
    let pairs = headers.iter().map(|(name, value)| {
        let value = value.to_str().unwrap_or("not text");
        (name.to_string(), value.to_owned())
    });
    Json(pairs.collect())
}

/// Uses axum's own extractor, which answers in plain text.
async fn plain(axum::extract::Query(_): axum::extract::Query<Milliseconds>) {}

/// Uses axum's own extractor, which answers in plain text.
async fn text(_: String) {}
