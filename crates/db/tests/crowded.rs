//! Instances that follow each other where there is little room, and what they take for a session of others.

mod support;

use std::time::{Duration, Instant};

use db::Pool;
use futures_util::future::join_all;
use local_postgres::Cluster;
use sqlx::{Connection, Executor, PgConnection};
use support::{pool_at, until};

fn url(server: &Cluster, role: &str) -> String {
    let port = server.port();
    format!("postgres://{role}:{role}@127.0.0.1:{port}/postgres")
}

/// A server with these settings, and with the roles `app` and `other`.
fn server(settings: &[(&str, &str)]) -> Cluster {
    let server = Cluster::temporary_with(settings).expect("a server");
    let sql = "create role app login password 'app'; create role other login password 'other'";
    server.sql("postgres", sql).expect("two roles");
    server
}

fn count(server: &Cluster, sessions: &str) -> u32 {
    let sql = format!("select count(*) from pg_stat_activity where {sessions}");
    let count = server.sql("postgres", &sql).expect("sessions");
    count.parse().expect("a number")
}

async fn session(server: &Cluster, role: &str) -> PgConnection {
    let session = PgConnection::connect(&url(server, role)).await;
    session.expect("a session")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_beside_sessions_of_another_role_is_no_session() {
    let server = server(&[
        ("max_connections", "40"),
        ("max_worker_processes", "20"),
        ("max_parallel_workers", "20"),
        ("max_parallel_workers_per_gather", "7"),
        ("min_parallel_table_scan_size", "0"),
        ("parallel_setup_cost", "0"),
        ("parallel_tuple_cost", "0"),
    ]);
    let sql = "create table big as select n from generate_series(1, 200000) as n; \
               alter table big set (parallel_workers = 7); grant select on big to app; \
               create function slow(n int) returns int language plpgsql parallel safe \
               as $$ begin perform pg_sleep(0.001); return n; end $$";
    server.sql("postgres", sql).expect("a large table");
    let (first, second) = (session(&server, "app").await, session(&server, "app").await);
    let pool = pool_at(&url(&server, "other"), "connection_limit=auto");
    drop(pool.acquire().await.expect("a connection"));
    // Four fifths of 37, without the two sessions and the one that looks.
    let share = 29 - 2 - 1;
    until("it has its share", async || pool.stats().limit == share).await;
    let report = |mut session: PgConnection| {
        tokio::spawn(async move {
            session
                .execute("select sum(slow(n)) from big")
                .await
                .map(drop)
        })
    };
    let reports = [report(first), report(second)];
    until("both have their workers", async || {
        count(&server, "backend_type = 'parallel worker'") == 14
    })
    .await;
    // Longer than three looks.
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        assert_eq!(pool.stats().limit, share);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(count(&server, "backend_type = 'parallel worker'"), 14);
    for report in reports {
        report.abort();
    }
}

#[tokio::test]
async fn sessions_of_another_role_that_work_count() {
    let server = server(&[("max_connections", "40"), ("max_worker_processes", "8")]);
    let sessions = join_all((0..20).map(|_| session(&server, "app"))).await;
    let work = |mut session: PgConnection| {
        tokio::spawn(async move { session.execute("select pg_sleep(60)").await.map(drop) })
    };
    let works: Vec<_> = sessions.into_iter().map(work).collect();
    let pool = pool_at(&url(&server, "other"), "connection_limit=auto");
    drop(pool.acquire().await.expect("a connection"));
    pool.examine().await.expect("a report");
    let seen = pool.server().expect("limits").others;
    let version = "select current_setting('server_version_num')::int >= 170000";
    let least = match server.sql("postgres", version).expect("a version").as_str() {
        "t" => 20,
        // As many as there can be workers may be taken for such.
        _ => 12,
    };
    assert!((least..=20).contains(&seen), "{seen} of 20");
    for work in works {
        work.abort();
    }
}

/// All of these requests, each of which has to be answered.
async fn answers(pools: &[Pool], requests: usize) {
    for pool in pools {
        let asked = join_all((0..requests).map(|_| pool.execute("select 1"))).await;
        let failed: Vec<_> = asked.into_iter().filter_map(Result::err).collect();
        assert!(
            failed.is_empty(),
            "{} of {requests}: {}",
            failed.len(),
            failed[0]
        );
    }
}

#[tokio::test]
async fn no_instance_has_only_a_control_connection_where_there_is_one_place_for_each() {
    let server = server(&[]);
    let sql = "alter role app connection limit 3";
    server.sql("postgres", sql).expect("a limit");
    let auto = || pool_at(&url(&server, "app"), "connection_limit=auto");
    let pools = [auto(), auto(), auto()];
    for (place, pool) in pools.iter().enumerate() {
        until("this one works too", async || {
            pool.execute("select 1").await.is_ok()
        })
        .await;
        answers(&pools[..=place], 20).await;
    }
    let until = Instant::now() + Duration::from_secs(7);
    while Instant::now() < until {
        answers(&pools, 20).await;
        for pool in &pools {
            assert_eq!((pool.stats().open, pool.stats().up), (1, 1));
            pool.check().await.expect("ready");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_control_connection_makes_room_for_the_only_one_that_works() {
    let server = server(&[]);
    let sql = "alter role app connection limit 2";
    server.sql("postgres", sql).expect("a limit");
    let parameters = "connection_limit=auto&max_idle_connection_lifetime=1";
    let pool = pool_at(&url(&server, "app"), parameters);
    pool.execute("select 1").await.expect("an answer");
    until("only the control connection is left", async || {
        count(&server, "application_name ~ ' #.* auto '") == 1 && pool.stats().open == 0
    })
    .await;
    let _other = session(&server, "app").await;
    answers(&[pool], 20).await;
}
