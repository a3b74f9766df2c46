//! “Ready” in the log means that the pool itself has answered, not only the session that migrates.

#![expect(clippy::unwrap_used, reason = "it is a test, its helpers included")]

mod thing;

use std::io::{self, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use local_postgres::Cluster;
use server::Settings;
use server::testing::Server;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Keeps what is logged.
struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log() -> String {
    String::from_utf8_lossy(&LOG.lock().unwrap()).into_owned()
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done().await {
        assert!(Instant::now() < deadline, "{what}: {}", log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_service_whose_pool_cannot_connect_is_not_ready_although_it_has_migrated() {
    let log_to = tracing_subscriber::fmt().with_ansi(false);
    log_to.with_writer(|| Log).init();
    let cluster = Cluster::temporary().unwrap();
    cluster
        .sql(
            "postgres",
            "create role app login password 'app'; create database shop owner app",
        )
        .unwrap();
    // The database has no room for another session as soon as it is migrated.
    let close = "create function close() returns event_trigger language plpgsql security definer as \
                 $$ begin execute 'alter database shop connection limit 0'; end $$; \
                 create event trigger migrated on ddl_command_end execute function close()";
    cluster.sql("shop", close).unwrap();
    let url = format!("postgres://app:app@127.0.0.1:{}/shop", cluster.port());
    let server = Server::start_with(thing::THING, &url, Settings::defaults(0)).await;
    until("it says why it is not ready", async || {
        log().contains("is not ready yet: Too many connections at")
    })
    .await;
    assert!(!log().contains("is ready after"), "{}", log());
    assert_eq!(server.get("/readyz").await.status, 503);
    let open = "alter database shop connection limit -1";
    cluster.sql("postgres", open).unwrap();
    until("it is ready", async || {
        log().contains("is ready after") && server.get("/readyz").await.status == 200
    })
    .await;
    assert_eq!(server.get("/api/count").await.body, "0");
}
