//! Shutdown loses no request, and ends in time.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "it is a test, its helpers included"
)]

mod thing;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use server::testing::{self, Response, Server};
use server::{Settings, Stopped};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const HEAD: &[u8] = b"GET /api/count HTTP/1.1\r\nhost: test\r\n\r\n";

async fn start(seconds: u64) -> Server {
    start_with(Settings {
        shutdown_timeout: Duration::from_secs(seconds),
        ..Settings::defaults(0)
    })
    .await
}

async fn start_with(settings: Settings) -> Server {
    let server = Server::start_with(thing::THING, &local_postgres::database(), settings).await;
    server.until_ready().await;
    server
}

/// Like a client behind a balancer: a connection for each request, until it hears that the service goes. Returns the
/// number of answers, and the longest that one took.
async fn short_connections(address: SocketAddr, told: Arc<AtomicBool>) -> (usize, Duration) {
    let (mut answers, mut longest) = (0, Duration::ZERO);
    while !told.load(Relaxed) {
        let began = Instant::now();
        let answer = testing::request(address, "GET", "/api/count", &[], b"").await;
        let answer = answer.expect("until it closes, the service answers whoever comes");
        assert_eq!(answer.status, 200, "{answer:?}");
        longest = longest.max(began.elapsed());
        answers += 1;
    }
    (answers, longest)
}

/// Like `ab -k`: one request after the other on one connection, until the service says that it was the last.
async fn kept_connection(address: SocketAddr) -> usize {
    let mut answers = 0;
    let mut stream = TcpStream::connect(address).await.unwrap();
    loop {
        stream.write_all(HEAD).await.unwrap();
        let answer = testing::read_response(&mut stream, false)
            .await
            .expect("a request that was sent is answered");
        assert_eq!(answer.status, 200, "{answer:?}");
        answers += 1;
        if answer.header("connection") == Some("close") {
            return answers;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_or_stalls_while_the_service_says_that_it_goes() {
    for round in 0..3 {
        let settings = Settings {
            shutdown_delay: Some(Duration::from_secs(1)),
            ..Settings::defaults(0)
        };
        let server = start_with(settings).await;
        let address = server.address();
        let told = Arc::new(AtomicBool::new(false));
        let (mut short, mut kept) = (JoinSet::new(), JoinSet::new());
        for _ in 0..8 {
            short.spawn(short_connections(address, told.clone()));
            kept.spawn(kept_connection(address));
        }
        tokio::time::sleep(Duration::from_millis(50 + 10 * round)).await;
        let signal = Instant::now();
        let stopping = tokio::spawn(server.stop());
        // A probe that comes on a connection of its own sees it, and at once.
        let answer = loop {
            let answer = testing::request(address, "GET", "/readyz", &[], b"").await;
            let answer = answer.expect("the service serves on");
            if answer.status == 503 {
                break answer;
            }
            assert!(signal.elapsed() < Duration::from_secs(1), "{answer:?}");
        };
        assert!(answer.body.contains("shutting down"), "{answer:?}");
        told.store(true, Relaxed);
        for (answers, longest) in short.join_all().await {
            assert!(answers >= 1);
            // What came after the signal once waited for a second, until its handshake was tried again.
            assert!(longest < Duration::from_millis(900), "{longest:?}");
        }
        assert_eq!(stopping.await.unwrap().aborted, 0);
        assert!(signal.elapsed() >= Duration::from_secs(1));
        assert!(kept.join_all().await.into_iter().all(|answers| answers > 1));
        let late = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::ConnectionRefused);
    }
}

#[tokio::test]
async fn a_running_request_is_finished() {
    let server = start(10).await;
    let address = server.address();
    let request = tokio::spawn(async move {
        testing::request(address, "GET", "/api/slow?ms=1000", &[], b"").await
    });
    in_use(&server, 1).await;
    let asked = Instant::now();
    let stopped = server.stop().await;
    assert_eq!(
        stopped,
        Stopped {
            drained: 1,
            aborted: 0
        }
    );
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(request.await.unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn a_request_that_takes_too_long_hears_so_and_the_end_comes_in_time() {
    let server = start(1).await;
    let pool = server.pool().clone();
    let address = server.address();
    let request = tokio::spawn(async move {
        testing::request(address, "GET", "/api/slow?ms=60000", &[], b"").await
    });
    in_use(&server, 1).await;
    let asked = Instant::now();
    let stopped = server.stop().await;
    assert_eq!(
        stopped,
        Stopped {
            drained: 0,
            aborted: 1
        }
    );
    let took = asked.elapsed();
    assert!(
        took >= Duration::from_millis(700) && took < Duration::from_secs(2),
        "{took:?}"
    );
    let answer = request
        .await
        .unwrap()
        .expect("an answer, not the end of the connection");
    testing::rejected(&answer, "it", 503);
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    assert!(matches!(pool.acquire().await, Err(db::Error::Closed)));
}

#[tokio::test]
async fn idle_and_silent_connections_do_not_hold_up_the_end() {
    let server = start(10).await;
    let mut idle = TcpStream::connect(server.address()).await.unwrap();
    idle.write_all(HEAD).await.unwrap();
    testing::read_response(&mut idle, false).await.unwrap();
    let mut silent = TcpStream::connect(server.address()).await.unwrap();
    let mut slow = TcpStream::connect(server.address()).await.unwrap();
    slow.write_all(&HEAD[..10]).await.unwrap();
    let asked = Instant::now();
    let stopped = server.stop().await;
    assert_eq!(stopped.aborted, 0);
    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "{:?}",
        asked.elapsed()
    );
    for stream in [&mut idle, &mut silent] {
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_request_after_the_signal_is_answered_on_a_connection_made_before() {
    let server = start(10).await;
    let mut kept = TcpStream::connect(server.address()).await.unwrap();
    let mut silent = TcpStream::connect(server.address()).await.unwrap();
    readiness(&mut kept).await.unwrap();
    let asked = Instant::now();
    let stopping = tokio::spawn(server.stop());

    let last = loop {
        let answer = readiness(&mut kept).await.unwrap();
        if answer.header("connection") == Some("close") {
            break answer;
        }
    };
    assert_eq!(last.status, 503, "{last:?}");
    assert!(last.body.contains("shutting down"), "{last:?}");

    match readiness(&mut silent).await {
        Ok(answer) => assert_eq!(answer.header("connection"), Some("close"), "{answer:?}"),
        // A machine that stood still for so long has used up the grace.
        Err(error) => assert!(asked.elapsed() > Duration::from_millis(400), "{error}"),
    }
    assert_eq!(stopping.await.unwrap().aborted, 0);
}

async fn readiness(stream: &mut TcpStream) -> io::Result<Response> {
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nhost: test\r\n\r\n")
        .await?;
    testing::read_response(stream, false).await
}

#[tokio::test]
async fn no_session_is_left_in_the_database() {
    let server = start(10).await;
    let sessions =
        "select count(*) from pg_stat_activity where application_name = 'no-session-is-left'";
    let name = sqlx::query("set application_name = 'no-session-is-left'");
    let mut lease = server.pool().acquire().await.unwrap();
    name.execute(&mut *lease).await.unwrap();
    drop(lease);
    server.stop().await;
    let cluster = local_postgres::shared();
    let deadline = Instant::now() + Duration::from_secs(10);
    while cluster.sql("postgres", sessions).unwrap().trim() != "0" {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until so many connections of the pool are in use.
async fn in_use(server: &Server, wanted: u32) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.pool().stats().in_use != wanted {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
