//! The service says whether it is ready, and becomes so by itself.

#![expect(clippy::unwrap_used, reason = "it is a test, its helpers included")]

mod thing;

use std::time::{Duration, Instant};

use local_postgres::{Cluster, Stop};
use server::Settings;
use server::testing::{Response, Server};
use tokio::task::JoinHandle;

fn with(url: &str, parameters: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{parameters}")
}

/// Waits until the answer to GET `path` is as wanted.
async fn until(server: &Server, path: &str, wanted: impl Fn(&Response) -> bool) -> Response {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = server.get(path).await;
        if wanted(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{path}: {answer:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Occupies one connection of the pool until the task is aborted.
async fn occupy(server: &Server) -> JoinHandle<()> {
    let pool = server.pool().clone();
    let (taken, wait) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let _lease = pool.acquire().await.unwrap();
        taken.send(()).unwrap();
        std::future::pending().await
    });
    wait.await.unwrap();
    task
}

#[tokio::test]
async fn the_service_starts_without_its_database_and_is_ready_when_it_comes() {
    let cluster = Cluster::temporary().unwrap();
    cluster.create_database("shop").unwrap();
    cluster.stop(Stop::Fast).unwrap();
    let server =
        Server::start_with(thing::THING, &cluster.url("shop"), Settings::defaults(0)).await;

    assert_eq!(server.get("/livez").await.status, 200);
    let waiting = until(&server, "/readyz", |answer| answer.body.contains("refused")).await;
    assert_eq!(waiting.status, 503);
    assert_eq!(
        waiting.header("content-type"),
        Some("application/problem+json")
    );
    assert!(waiting.header("retry-after").is_some());
    assert_eq!(server.get("/api/count").await.status, 503);

    cluster.start().unwrap();
    let back = Instant::now();
    until(&server, "/readyz", |answer| answer.status == 200).await;
    assert!(
        back.elapsed() < Duration::from_secs(5),
        "{:?}",
        back.elapsed()
    );
    assert_eq!(server.get("/api/count").await.body, "0");

    cluster.stop(Stop::Fast).unwrap();
    until(&server, "/readyz", |answer| answer.status == 503).await;
    assert_eq!(server.get("/livez").await.status, 200);
    cluster.start().unwrap();
    until(&server, "/readyz", |answer| answer.status == 200).await;
    assert_eq!(server.get("/api/count").await.body, "0");
}

#[tokio::test]
async fn a_wrong_password_is_named_and_not_shown() {
    let url = local_postgres::database();
    let (scheme, rest) = url.split_once("://").unwrap();
    let (_, address) = rest.rsplit_once('@').unwrap();
    let url = format!("{scheme}://postgres:canary@{address}");
    let server = Server::start_with(thing::THING, &url, Settings::defaults(0)).await;
    let answer = until(&server, "/readyz", |answer| {
        answer.body.contains("password")
    })
    .await;
    assert_eq!(answer.status, 503);
    assert!(!answer.body.contains("canary"), "{answer:?}");
}

#[tokio::test]
async fn a_full_pool_is_a_503_and_the_service_stays_ready() {
    let url = with(
        &local_postgres::database(),
        "connection_limit=1&pool_timeout=1",
    );
    let server = Server::start(thing::THING, &url).await;
    let held = occupy(&server).await;

    let busy = server.get("/api/count").await;
    assert_eq!(busy.status, 503, "{busy:?}");
    assert_eq!(
        busy.header("content-type"),
        Some("application/problem+json")
    );
    assert!(busy.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    // The probe's answer is a second old at most: wait until it must have been asked anew.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let ready = server.get("/readyz").await;
    assert_eq!(ready.status, 200, "{ready:?}");

    held.abort();
    until(&server, "/api/count", |answer| answer.status == 200).await;
}

/// Puts a new and empty database in the place of this one, as after a restore that went wrong. The old one is renamed,
/// because `drop database` takes PostgreSQL a minute now and then.
fn recreate(url: &str) {
    let (_, name) = url.split('?').next().unwrap().rsplit_once('/').unwrap();
    let cluster = local_postgres::shared();
    let sessions = format!("from pg_stat_activity where datname = '{name}'");
    let old = format!(
        "{name}_{}",
        cluster.sql("postgres", "select txid_current()").unwrap()
    );
    let sql = format!(
        "alter database \"{name}\" allow_connections false;
         select pg_terminate_backend(pid) {sessions};
         alter database \"{name}\" rename to \"{old}\";"
    );
    cluster.sql("postgres", &sql).unwrap();
    cluster.create_database(name).unwrap();
}

#[tokio::test]
async fn a_database_that_was_made_anew_is_migrated_again() {
    let url = local_postgres::database();
    let server = Server::start(thing::THING, &url).await;
    assert_eq!(server.get("/api/count").await.body, "0");
    recreate(&url);
    // Only probes bring it back: as in a cluster, nobody is sent here before it is ready.
    until(&server, "/readyz", |answer| answer.status == 503).await;
    until(&server, "/readyz", |answer| answer.status == 200).await;
    assert_eq!(server.get("/api/count").await.body, "0");
}

#[tokio::test]
async fn without_its_migrations_the_service_is_not_ready_and_says_so() {
    // Behind PgBouncer too, where the service cannot migrate.
    for parameters in ["connection_limit=2", "pgbouncer=true"] {
        let url = local_postgres::database();
        let settings = Settings {
            migrate: false,
            ..Settings::defaults(0)
        };
        let server = Server::start_with(thing::THING, &with(&url, parameters), settings).await;
        let says_so = |answer: &Response| {
            answer.status == 503
                && answer.body.contains("migrations")
                && answer.body.contains("MIGRATE=false")
        };
        let migrator = db::Pool::new(db::Config::parse(&url).unwrap());
        until(&server, "/readyz", says_so).await;
        migrator.migrate(thing::THING.migrator).await.unwrap();
        until(&server, "/readyz", |answer| answer.status == 200).await;
        assert_eq!(server.get("/api/count").await.body, "0");

        recreate(&url);
        until(&server, "/readyz", says_so).await;
        migrator.migrate(thing::THING.migrator).await.unwrap();
        until(&server, "/readyz", |answer| answer.status == 200).await;
        assert_eq!(server.get("/api/count").await.body, "0");
    }
}
