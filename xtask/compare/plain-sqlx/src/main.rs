//! `GET /api/customers`, the newest twenty, and `GET /api/customers/{id}` with axum and sqlx's own pool.

use axum::{Json, Router, extract::Path, extract::State, http::StatusCode, routing::get};
use serde::Serialize;
use sqlx::{PgPool, postgres::PgPoolOptions, query_as};
use time::OffsetDateTime;
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Answer<T> = Result<Json<T>, StatusCode>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = PgPoolOptions::new().max_connections(20);
    #[expect(clippy::disallowed_methods, reason = "this pool is what is compared")]
    let pool = options.connect(&std::env::var("DATABASE_URL")?).await?;
    let app = Router::new()
        .route("/api/customers", get(list))
        .route("/api/customers/{id}", get(read))
        .with_state(pool);
    let address = ("127.0.0.1", std::env::var("PORT")?.parse()?);
    let listener = tokio::net::TcpListener::bind(address).await?;
    Ok(axum::serve(listener, app).await?)
}

async fn list(State(pool): State<PgPool>) -> Answer<Page> {
    let query = query_as!(
        Customer,
        "select id, name, email, phone, created_at, updated_at from customer order by id desc limit 21",
    );
    let mut data = query.fetch_all(&pool).await.map_err(internal)?;
    let more = data.len() > 20;
    data.truncate(20);
    let last = data.last().filter(|_| more);
    let next_cursor = last.map(|last| last.id.simple().to_string());
    Ok(Json(Page { data, next_cursor }))
}

async fn read(State(pool): State<PgPool>, Path(id): Path<Uuid>) -> Answer<Customer> {
    let query = query_as!(
        Customer,
        "select id, name, email, phone, created_at, updated_at from customer where id = $1",
        id,
    );
    let customer = query.fetch_optional(&pool).await.map_err(internal)?;
    customer.map(Json).ok_or(StatusCode::NOT_FOUND)
}

fn internal(error: sqlx::Error) -> StatusCode {
    eprintln!("{error}");
    StatusCode::INTERNAL_SERVER_ERROR
}

#[derive(Serialize)]
struct Page {
    data: Vec<Customer>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct Customer {
    id: Uuid,
    name: String,
    email: String,
    phone: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}
