//! Behind a pgpool-II, a real one, which has to be installed: `cargo test -p db --test pgpool -- --ignored`, with
//! `PGPOOL=/path/of/pgpool` for another than that of the `PATH`.

mod support;

use std::time::Duration;

use db::{Error, Pool};
use sqlx::Executor;
use support::pgpool::Pgpool;
use support::{pool_at, settled, until};

async fn port(pool: &Pool) -> Result<String, Error> {
    let row = sqlx::query_scalar("select pg_postmaster_start_time()::text");
    Ok(row.fetch_one(pool).await?)
}

#[tokio::test]
#[ignore = "needs the program pgpool"]
async fn reads_of_another_server_are_refused_and_never_given() {
    for weights in [
        "",
        "backend_weight0 = 9",
        "backend_weight0 = 0",
        "statement_level_load_balance = on",
    ] {
        let pgpool = Pgpool::start_with(weights).await;
        let of_primary = pgpool
            .primary
            .sql("postgres", "select pg_postmaster_start_time()::text");
        let of_primary = of_primary.expect("a time");
        let mut refused = 0;
        // Where each statement's server is chosen by lot, the answers come in many orders.
        let rounds = if weights.contains("statement_level") {
            60
        } else {
            12
        };
        for round in 0..rounds {
            // As a service that begins: the report waits until it is known.
            let pool = pool_at(&pgpool.url(), "connection_limit=6");
            if let Err(error) = pool.examine().await {
                let text = error.to_string();
                assert!(
                    text.contains("load_balance_mode") && text.contains("DATABASE_REPLICA_URLS"),
                    "{text}"
                );
                refused += 1;
                continue;
            }
            // By lot all sessions so far were of the primary: then those that come are looked at.
            let asked = (0..6).map(|_| async {
                let mut lease = pool.acquire().await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
                let row = sqlx::query_scalar("select pg_postmaster_start_time()::text");
                Ok::<String, Error>(row.fetch_one(&mut *lease).await?)
            });
            for answer in futures_util::future::join_all(asked).await {
                match answer {
                    Ok(time) => {
                        assert_eq!(time.trim(), of_primary.trim(), "{weights}, round {round}")
                    }
                    Err(error) => {
                        assert!(error.to_string().contains("load_balance_mode"), "{error}")
                    }
                }
            }
            if let Err(error) = port(&pool).await {
                assert!(error.to_string().contains("load_balance_mode"), "{error}");
                refused += 1;
            }
        }
        println!("{weights:?}: {refused} of {rounds} were refused");
        let by_lot = weights.contains("= 9");
        assert!(
            refused >= if by_lot { 1 } else { rounds - 2 },
            "{weights}: {refused}"
        );
    }
}

#[tokio::test]
#[ignore = "needs the program pgpool"]
async fn without_load_balancing_it_is_used_as_the_server_but_does_not_show_the_fleet() {
    let pgpool = Pgpool::start_with("load_balance_mode = off").await;
    let pool = pool_at(&pgpool.url(), "connection_limit=4&statement_timeout=1600");
    pool.migrate_any(&sqlx::migrate::Migrator::DEFAULT)
        .await
        .expect("migrated");
    let told: String = sqlx::query_scalar("show statement_timeout")
        .fetch_one(&pool)
        .await
        .expect("told");
    assert_eq!(told, "1600ms");
    let gone = pool.execute("select pg_sleep(40)");
    let _ = tokio::time::timeout(Duration::from_millis(100), gone).await;
    settled(&pool).await;
    let running = "select count(*) from pg_stat_activity where query = 'select pg_sleep(40)' and state = 'active'";
    until("it is cancelled", async || {
        pgpool
            .primary
            .sql("postgres", running)
            .is_ok_and(|count| count.trim() == "0")
    })
    .await;
    // Of other databases it keeps sessions when their clients have gone.
    pgpool.primary.create_database("shop").expect("a database");
    until("the standby has it", async || {
        pgpool.standby.sql("shop", "select 1").is_ok()
    })
    .await;
    let url = pgpool.url().trim_end_matches("postgres").to_owned() + "shop";
    let auto = pool_at(&url, "connection_limit=auto");
    auto.execute("select 1").await.expect("an answer");
    until("the limit is its default", async || {
        auto.stats().limit == 10
    })
    .await;
}
