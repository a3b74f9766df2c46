//! A pool with replicas, and what it says of them.

use db::{Config, Pool, ReplicaState};
use sqlx::Row;

use super::until;

pub(crate) const TABLE: &str = "create table client (id int primary key, value bigint not null); \
                                insert into client select n, 0 from generate_series(0, 99) as n";

/// A pool of a primary and of standbys at these URLs, each with these parameters.
pub(crate) fn pool_of(primary: &str, standbys: &[String], parameters: &str) -> Pool {
    let with = |url: &str, parameters: &str| {
        let separator = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{separator}connection_limit=8{parameters}");
        Config::parse(&url).expect("a valid URL")
    };
    let mut config = with(primary, "");
    let parameters = format!("&{parameters}");
    let standby = |url: &String| with(url, parameters.trim_end_matches('&'));
    config.replicas = standbys.iter().map(standby).collect();
    Pool::new(config)
}

pub(crate) fn states(pool: &Pool) -> Vec<ReplicaState> {
    let all = pool.replicas().into_iter();
    all.map(|replica| replica.state).collect()
}

pub(crate) async fn fresh(pool: &Pool) {
    until("all replicas are fresh", async || {
        let _ = pool.read();
        states(pool)
            .iter()
            .all(|state| *state == ReplicaState::Fresh)
    })
    .await;
}

/// The port of the server that answers this, which has to give one row.
pub(crate) async fn port_of(pool: &Pool, from: &'static str) -> Result<i32, sqlx::Error> {
    let sql = format!("select inet_server_port() as port {from}");
    let sql = sqlx::AssertSqlSafe(sql);
    sqlx::query(sql).fetch_one(pool.read()).await?.try_get(0)
}
