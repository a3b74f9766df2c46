//! What sqlx's tests ask for: a connection, a pool, where the server is.

use std::sync::OnceLock;

use db::{Config, Lease, Pool};
use sqlx::PgPool;

pub(crate) fn setup_if_needed() {}

/// A database with the tables of these tests.
pub(crate) fn url() -> String {
    static URL: OnceLock<String> = OnceLock::new();
    let make = || {
        let cluster = local_postgres::shared();
        cluster.create_database("suite").expect("created");
        let setup = include_str!(concat!(env!("OUT_DIR"), "/setup.sql"));
        cluster
            .sql("suite", setup)
            .expect("PostgreSQL's contrib modules are installed");
        cluster.url("suite")
    };
    URL.get_or_init(make).clone()
}

pub(crate) async fn new<T>() -> Result<Lease, db::Error> {
    pool::<T>().await?.acquire().await
}

pub(crate) async fn pool<T>() -> Result<Pool, db::Error> {
    Ok(Pool::new(
        Config::parse(&format!("{}?connection_limit=3&statement_timeout=0", url()))
            .expect("a valid URL"),
    ))
}

pub(crate) async fn part() -> Result<PgPool, db::Error> {
    pool::<()>().await?.sqlx_pool(1).await
}
