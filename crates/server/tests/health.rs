//! The service says whether it is ready, and becomes so by itself.

#![expect(clippy::unwrap_used, reason = "it is a test, its helpers included")]

mod thing;

use std::time::{Duration, Instant};

use local_postgres::{Cluster, Stop};
use server::Settings;
use server::testing::{Response, Server, read_response, rejected};
use sqlx::SqlStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
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

/// Whether `/readyz` said this, as a person or a program reads it.
fn is_in_state(answer: &Response, status: u16, state: &str) -> bool {
    let body = answer.json();
    assert!(body["detail"].is_string(), "{body}");
    if answer.status == 503 {
        rejected(answer, "/readyz", 503);
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    } else {
        assert_eq!(body["status"], "ready");
    }
    answer.status == status && body["state"] == state
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
    assert!(is_in_state(&waiting, 503, "database_down"), "{waiting:?}");
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
    let down = until(&server, "/readyz", |answer| answer.status == 503).await;
    assert!(is_in_state(&down, 503, "database_down"), "{down:?}");
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
    assert!(is_in_state(&ready, 200, "ready"), "{ready:?}");

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
            is_in_state(answer, 503, "schema_older")
                && answer.body.contains("the first is 1 (thing)")
                && answer.body.contains("MIGRATE=false: run `thing migrate`")
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

/// What a newer version of the service would migrate with; `text` is that of its second migration.
fn newer(text: &'static str) -> Migrator {
    let mut all = thing::THING.migrator.migrations.to_vec();
    let text = SqlStr::from_static(text);
    all.push(Migration::new(
        2,
        "later".into(),
        MigrationType::Simple,
        text,
        false,
    ));
    Migrator::with_migrations(all)
}

#[tokio::test]
async fn a_newer_schema_is_no_reason_to_be_sent_nothing() {
    let url = local_postgres::database();
    let old = Server::start(thing::THING, &url).await;
    assert!(is_in_state(&old.get("/readyz").await, 200, "ready"));
    let migrator = db::Pool::new(db::Config::parse(&url).unwrap());
    migrator.migrate(&newer("select 1")).await.unwrap();

    let says_so = |answer: &Response| {
        is_in_state(answer, 200, "schema_newer") && answer.body.contains("up to 2")
    };
    until(&old, "/readyz", says_so).await;
    for migrate in [true, false] {
        let settings = Settings {
            migrate,
            ..Settings::defaults(0)
        };
        let restarted = Server::start_with(thing::THING, &url, settings).await;
        until(&restarted, "/readyz", says_so).await;
        assert_eq!(restarted.get("/api/count").await.body, "0");
    }
}

#[tokio::test]
async fn who_starts_with_a_migration_that_was_changed_is_told_so() {
    let url = local_postgres::database();
    let server = Server::start(thing::THING, &url).await;
    sqlx::query("update _sqlx_migrations set checksum = 'other'")
        .execute(server.pool())
        .await
        .unwrap();
    for migrate in [true, false] {
        let settings = Settings {
            migrate,
            ..Settings::defaults(0)
        };
        let started = Server::start_with(thing::THING, &url, settings).await;
        until(&started, "/readyz", |answer| {
            is_in_state(answer, 503, "starting") && answer.body.contains("has been modified")
        })
        .await;
    }
    // The probe's answer is a second old at most: wait until it must have been asked anew.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let running = server.get("/readyz").await;
    assert!(
        is_in_state(&running, 200, "ready"),
        "it goes on: {running:?}"
    );
}

#[tokio::test]
async fn a_service_that_migrates_is_starting() {
    let url = local_postgres::database();
    let slow = newer("select pg_sleep(60)");
    let service = server::Service {
        migrator: Box::leak(Box::new(slow)),
        ..thing::THING
    };
    let server = Server::start_with(service, &url, Settings::defaults(0)).await;
    let answer = server.get("/readyz").await;
    assert!(is_in_state(&answer, 503, "starting"), "{answer:?}");
    assert!(answer.body.contains("migrates"), "{answer:?}");
}

#[tokio::test]
async fn a_service_that_ends_is_draining() {
    let server = Server::start(thing::THING, &local_postgres::database()).await;
    let mut kept = TcpStream::connect(server.address()).await.unwrap();
    let mut ask = async || {
        let request = b"GET /readyz HTTP/1.1\r\nhost: test\r\n\r\n";
        kept.write_all(request).await.unwrap();
        read_response(&mut kept, false).await.unwrap()
    };
    assert!(is_in_state(&ask().await, 200, "ready"));
    let stopping = tokio::spawn(server.stop());
    let last = loop {
        let answer = ask().await;
        if answer.header("connection") == Some("close") {
            break answer;
        }
    };
    assert!(is_in_state(&last, 503, "draining"), "{last:?}");
    stopping.await.unwrap();
}
