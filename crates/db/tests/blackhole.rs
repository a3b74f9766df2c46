//! Silence: a backend that is stopped and a network that swallows everything. Every call ends, no permit is lost.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use db::Error;
use futures_util::future::join_all;
use local_postgres::Cluster;
use sqlx::Executor;
use support::proxy::Proxy;
use support::{plain, pool_at, settled, until};
use tokio::time::timeout;

fn signal(name: &str, pid: i32) {
    let done = Command::new("kill")
        .args([name, &pid.to_string()])
        .status()
        .expect("kill");
    assert!(done.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_backend_costs_no_permit() {
    let server = Cluster::temporary().expect("a server");
    let url = server.url("postgres");

    let theirs = plain(&url, 1).await;
    let mut connection = theirs.acquire().await.expect("a connection");
    let victim: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut *connection)
        .await
        .expect("a pid");
    signal("-STOP", victim);
    timeout(Duration::from_millis(100), connection.execute("select 1"))
        .await
        .expect_err("no answer");
    drop(connection);
    timeout(Duration::from_secs(2), theirs.acquire())
        .await
        .map(drop)
        .expect_err("sqlx's own pool has lost its only permit");
    signal("-CONT", victim);

    let ours = pool_at(&url, "connection_limit=3&socket_timeout=300ms");
    let leases: Vec<_> = join_all((0..3).map(|_| ours.acquire())).await;
    drop(leases);
    let victim: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&ours)
        .await
        .expect("a pid");
    signal("-STOP", victim);
    let started = Instant::now();
    let results = join_all((0..6).map(|_| ours.execute("select 1"))).await;
    assert!(
        started.elapsed() < Duration::from_millis(600),
        "every call ends within its deadline: {:?}",
        started.elapsed()
    );
    let failed: Vec<_> = results
        .into_iter()
        .filter_map(Result::err)
        .map(Error::from)
        .collect();
    assert!(
        failed.len() == 1 && matches!(failed[0], Error::StatementTimeout(_)),
        "{failed:?}"
    );
    let healed = Instant::now();
    settled(&ours).await;
    assert!(
        healed.elapsed() < Duration::from_secs(1),
        "{:?}",
        healed.elapsed()
    );
    signal("-CONT", victim);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_swallows_everything_costs_no_permit() {
    let (server, url) = (local_postgres::shared(), local_postgres::database());
    let proxy = Proxy::start(server.port(), Duration::ZERO).await;
    let pool = pool_at(
        &proxy.url(&url, server.port()),
        "connection_limit=10&socket_timeout=300ms&connect_timeout=1s&pool_timeout=1",
    );
    let leases: Vec<_> = join_all((0..10).map(|_| pool.acquire())).await;
    drop(leases);
    proxy.swallow(true);
    let calls = (0..40).map(|_| async {
        let started = Instant::now();
        let result = pool.execute("select 1").await;
        (result.is_err(), started.elapsed())
    });
    for (failed, after) in join_all(calls).await {
        assert!(
            failed && after < Duration::from_millis(2500),
            "failed: {failed} after {after:?}"
        );
    }
    proxy.swallow(false);
    let back = Instant::now();
    until("it works again", async || {
        pool.execute("select 1").await.is_ok()
    })
    .await;
    assert!(
        back.elapsed() < Duration::from_secs(1),
        "{:?}",
        back.elapsed()
    );
    settled(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_are_replaced() {
    let (server, url) = (local_postgres::shared(), local_postgres::database());
    let proxy = Proxy::start(server.port(), Duration::ZERO).await;
    let pool = pool_at(&proxy.url(&url, server.port()), "connection_limit=10");
    let mut failures = 0;
    for _ in 0..5 {
        let leases: Vec<_> = join_all((0..10).map(|_| pool.acquire())).await;
        drop(leases);
        proxy.cut();
        tokio::time::sleep(Duration::from_millis(10)).await;
        let results = join_all((0..20).map(|_| pool.execute("select 1"))).await;
        failures += results.iter().filter(|result| result.is_err()).count();
        settled(&pool).await;
    }
    println!("{failures} of 100 statements met a cut connection");
    assert!(
        failures <= 50,
        "those that were on their way, not everybody: {failures}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_in_silence_takes_a_second_and_names_its_own_limit() {
    let (server, url) = (local_postgres::shared(), local_postgres::database());
    let proxy = Proxy::start(server.port(), Duration::ZERO).await;
    let pool = pool_at(&proxy.url(&url, server.port()), "connection_limit=1");
    let empty = pool_at(&proxy.url(&url, server.port()), "connection_limit=1");
    let held = pool.acquire().await.expect("a lease");
    proxy.swallow(true);
    for (what, pool) in [("full", &pool), ("empty", &empty)] {
        let started = Instant::now();
        let error = pool.check().await.expect_err("no answer");
        let took = started.elapsed();
        assert!(took < Duration::from_millis(1500), "{what}: {took:?}");
        assert!(matches!(error, Error::NoAnswer(_)), "{what}: {error:?}");
        assert!(!error.to_string().contains("socket_timeout"), "{error}");
    }
    proxy.swallow(false);
    drop(held);
    until("it is ready again", async || pool.check().await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_in_silence_returns_within_its_deadline() {
    let (server, url) = (local_postgres::shared(), local_postgres::database());
    for deadline in [0, 200, 1000] {
        let proxy = Proxy::start(server.port(), Duration::ZERO).await;
        let pool = pool_at(&proxy.url(&url, server.port()), "connection_limit=3");
        let leases: Vec<_> = join_all((0..3).map(|_| pool.acquire())).await;
        // The full pool opens its control connection for this: closing has to end with it and without.
        pool.check().await.expect("an answer");
        drop(leases);
        proxy.swallow(true);
        let statements: Vec<_> = (0..2)
            .map(|_| {
                tokio::spawn({
                    let pool = pool.clone();
                    async move { pool.execute("select 1").await.map(drop) }
                })
            })
            .collect();
        until("they run", async || pool.stats().in_use == 2).await;
        let deadline = Duration::from_millis(deadline);
        let started = Instant::now();
        let closed = pool.close(deadline).await;
        let took = started.elapsed();
        assert!(
            took < deadline + Duration::from_millis(100),
            "{took:?} of {deadline:?}"
        );
        assert_eq!((closed.idle, closed.cut), (1, 2), "{closed:?}");
        statements.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
