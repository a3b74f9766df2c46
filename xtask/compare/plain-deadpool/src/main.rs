//! `GET /api/customers`, the newest twenty, and `GET /api/customers/{id}` with axum, tokio-postgres and deadpool.

use axum::{Json, Router, extract::Path, extract::State, http::StatusCode, routing::get};
use deadpool_postgres::{Manager, Pool, tokio_postgres::NoTls, tokio_postgres::Row};
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Answer<T> = Result<Json<T>, StatusCode>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let manager = Manager::new(std::env::var("DATABASE_URL")?.parse()?, NoTls);
    let pool = Pool::builder(manager).max_size(20).build()?;
    let app = Router::new()
        .route("/api/customers", get(list))
        .route("/api/customers/{id}", get(read))
        .with_state(pool);
    let address = ("127.0.0.1", std::env::var("PORT")?.parse()?);
    let listener = tokio::net::TcpListener::bind(address).await?;
    Ok(axum::serve(listener, app).await?)
}

async fn list(State(pool): State<Pool>) -> Answer<Page> {
    let sql = "select id, name, email, phone, created_at, updated_at from customer order by id desc limit 21";
    let client = pool.get().await.map_err(internal)?;
    let statement = client.prepare_cached(sql).await.map_err(internal)?;
    let rows = client.query(&statement, &[]).await.map_err(internal)?;
    let last = rows.get(19).filter(|_| rows.len() > 20);
    let next_cursor = last.map(|last| customer(last).id.simple().to_string());
    let data = rows.iter().take(20).map(customer).collect();
    Ok(Json(Page { data, next_cursor }))
}

async fn read(State(pool): State<Pool>, Path(id): Path<Uuid>) -> Answer<Customer> {
    let sql = "select id, name, email, phone, created_at, updated_at from customer where id = $1";
    let client = pool.get().await.map_err(internal)?;
    let statement = client.prepare_cached(sql).await.map_err(internal)?;
    let row = client.query_opt(&statement, &[&id]).await;
    let customer = row.map_err(internal)?.as_ref().map(customer);
    customer.map(Json).ok_or(StatusCode::NOT_FOUND)
}

fn customer(row: &Row) -> Customer {
    Customer {
        id: row.get(0),
        name: row.get(1),
        email: row.get(2),
        phone: row.get(3),
        created_at: row.get(4),
        updated_at: row.get(5),
    }
}

fn internal(error: impl std::error::Error) -> StatusCode {
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
