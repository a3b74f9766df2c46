//! The smallest service: one table, two routes, and an end without a lost request.
//!
//! ```console
//! $ DATABASE_URL=postgres://… cargo run -p db --example smallest
//! $ curl -d 'Ada' localhost:3000/customers; curl localhost:3000/customers
//! ```

use std::time::Duration;

use axum::http::StatusCode;
use axum::{Json, Router, routing::get};
use db::Pool;

/// An error of the pool or the database, as a client sees it: 503 for what passes by itself, else 500.
fn failed(error: db::Error) -> (StatusCode, String) {
    tracing::error!("{error}");
    match error.is_unavailable() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "try again soon".to_owned()),
        false => (StatusCode::INTERNAL_SERVER_ERROR, "our fault".to_owned()),
    }
}

async fn list(pool: &Pool) -> Result<Json<Vec<String>>, db::Error> {
    let names = sqlx::query_scalar("select name from customer order by name limit 100");
    Ok(Json(names.fetch_all(pool).await?))
}

async fn add(pool: &Pool, name: String) -> Result<StatusCode, db::Error> {
    let add = sqlx::query("insert into customer (name) values ($1)").bind(name);
    add.execute(pool).await?;
    Ok(StatusCode::CREATED)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = db::pool()?;
    sqlx::raw_sql("create table if not exists customer (name text not null)")
        .execute(pool)
        .await?;
    let route = get(|| async { list(pool).await.map_err(failed) })
        .post(|name| async { add(pool, name).await.map_err(failed) });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    let end = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, Router::new().route("/customers", route))
        .with_graceful_shutdown(end)
        .await?;
    pool.close(Duration::from_secs(10)).await;
    Ok(())
}
