//! SIGTERM under load: every request that was accepted is answered, and nothing is left in the database.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use server::testing::{read_response, request};
use sqlx::{Connection, PgConnection};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::process::Process;

/// Sends requests, each on a new connection, until nobody listens any more. Returns how many were answered.
async fn request_until_refused(address: SocketAddr, asked_to_stop: Arc<AtomicBool>) -> usize {
    let mut answered = 0;
    loop {
        // A handshake that nobody answers any more counts as a connection refused.
        let Ok(Ok(mut stream)) =
            tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(address)).await
        else {
            assert!(
                asked_to_stop.load(Ordering::SeqCst),
                "refused although nobody asked it to stop"
            );
            return answered;
        };
        let request =
            format!("GET /api/customers HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let response = read_response(&mut stream, false).await;
        assert!(
            response.is_ok(),
            "who is connected gets a whole answer: {response:?}"
        );
        let response = response.unwrap();
        assert_eq!(response.status, 200, "{}", response.body);
        answered += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_loses_no_accepted_request_and_leaves_no_session() {
    let url = local_postgres::database();
    let database = url.rsplit('/').next().unwrap();
    let limited = format!("{url}?connection_limit=4&application_name=shutdown-under-load");
    let mut process = Process::start(&limited, &[]);
    process.until("/readyz", 200).await;

    let asked_to_stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..16 {
        clients.spawn(request_until_refused(
            process.address,
            asked_to_stop.clone(),
        ));
    }
    // Into the full run: a good number of answers after the first connections.
    let mut watcher = PgConnection::connect(&local_postgres::shared().url("postgres"))
        .await
        .unwrap();
    let sessions = "select count(*) from pg_stat_activity where datname = $1 or application_name = 'shutdown-under-load'";
    while sqlx::query_scalar::<_, i64>(sessions)
        .bind(database)
        .fetch_one(&mut watcher)
        .await
        .unwrap()
        < 4
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    asked_to_stop.store(true, Ordering::SeqCst);
    process.signal("TERM");

    let mut answered = 0;
    while let Some(count) = clients.join_next().await {
        answered += count.unwrap();
    }
    assert!(answered > 16, "{answered} requests are no load");
    assert_eq!(process.ended().await.code(), Some(0));
    // Each was told goodbye before the end; on a busy machine the server may take a moment to hear it.
    let ended = Instant::now();
    loop {
        let left: i64 = sqlx::query_scalar(sessions)
            .bind(database)
            .fetch_one(&mut watcher)
            .await
            .unwrap();
        if left == 0 {
            break;
        }
        assert!(ended.elapsed() < Duration::from_secs(2), "{left} sessions");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_runs_at_sigterm_is_finished() {
    let url = local_postgres::database();
    let mut process = Process::start(&url, &[]);
    process.until("/readyz", 200).await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("begin; lock table customer")
        .execute(&mut connection)
        .await
        .unwrap();
    let address = process.address;
    let running =
        tokio::spawn(async move { request(address, "GET", "/api/customers", &[], b"").await });
    let waiting = "select count(*) from pg_locks where not granted and database = (select oid from pg_database where datname = current_database())";
    while sqlx::query_scalar::<_, i64>(waiting)
        .fetch_one(&mut connection)
        .await
        .unwrap()
        == 0
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    process.signal("TERM");
    while request(address, "GET", "/livez", &[], b"").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sqlx::raw_sql("commit")
        .execute(&mut connection)
        .await
        .unwrap();
    assert_eq!(running.await.unwrap().unwrap().status, 200);
    assert_eq!(process.ended().await.code(), Some(0));
}
