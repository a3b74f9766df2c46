//! Shutdown loses no request, and ends in time.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "it is a test, its helpers included"
)]

mod thing;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use server::testing::{self, Response, Server};
use server::{Settings, Stopped};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HEAD: &[u8] = b"GET /api/count HTTP/1.1\r\nhost: test\r\n\r\n";

async fn start(seconds: u64) -> Server {
    let settings = Settings {
        shutdown_timeout: Duration::from_secs(seconds),
        ..Settings::defaults(0)
    };
    let server = Server::start_with(thing::THING, &local_postgres::database(), settings).await;
    server.until_ready().await;
    server
}

/// Like `ab`: a connection for each request, until connections are refused. Returns the number of answers.
async fn short_connections(address: SocketAddr) -> usize {
    let mut answers = 0;
    loop {
        let mut stream = match TcpStream::connect(address).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return answers,
            Err(error) => panic!("{error}"),
        };
        stream
            .write_all(HEAD)
            .await
            .expect("a connection that was made takes a request");
        let answer = testing::read_response(&mut stream, false)
            .await
            .expect("a request that was sent is answered");
        assert_eq!(answer.status, 200, "{answer:?}");
        answers += 1;
    }
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
async fn no_accepted_request_is_lost() {
    for round in 0..5 {
        let server = start(10).await;
        let address = server.address();
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..16 {
            clients.spawn(short_connections(address));
            clients.spawn(kept_connection(address));
        }
        tokio::time::sleep(Duration::from_millis(50 + 10 * round)).await;
        let stopped = server.stop().await;
        assert_eq!(stopped.aborted, 0);
        let answers: usize = clients.join_all().await.into_iter().sum();
        assert!(answers >= 32, "{answers}");
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
async fn a_request_that_takes_too_long_is_cut_off_in_time() {
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
        took >= Duration::from_secs(1) && took < Duration::from_secs(3),
        "{took:?}"
    );
    assert!(request.await.unwrap().is_err());
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
    name.execute(&mut lease).await.unwrap();
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
