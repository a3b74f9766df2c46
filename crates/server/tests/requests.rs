//! What every request has: an id, a trace, its times, and a line in the log.

#![expect(clippy::unwrap_used, reason = "it is a test, its helpers included")]

mod thing;

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::Once;
use std::time::{Duration, Instant};

use server::Settings;
use server::testing::{Server, log_format, read_response};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

thread_local! {
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What this thread logs, which is what its test and its service do. One subscriber writes for all: `tracing` can leave out a
/// place in the code that one test meets first while another makes a subscriber.
struct Log;

impl Log {
    fn start() -> Self {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            tracing_subscriber::fmt()
                .with_env_filter("info,db::query=debug")
                .with_ansi(false)
                .event_format(log_format())
                .with_writer(|| Self)
                .init();
        });
        Self
    }

    /// The lines that have this text.
    fn lines(&self, text: &str) -> Vec<String> {
        LOG.with_borrow(|log| {
            let log = String::from_utf8_lossy(log);
            let lines = log.lines().filter(|line| line.contains(text));
            lines.map(str::to_owned).collect()
        })
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| Write::write(log, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn start() -> Server {
    Server::start(thing::THING, &local_postgres::database()).await
}

#[tokio::test]
async fn an_id_comes_back_and_stands_in_every_line_of_its_request() {
    let log = Log::start();
    let server = start().await;
    let given = [("x-request-id", "given-1")];
    let answer = server.request("GET", "/api/count", &given, "").await;
    assert_eq!(answer.header("x-request-id"), Some("given-1"));
    let lines = log.lines("given-1");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("db::query"), "the statement: {lines:?}");
    assert!(
        lines[1].contains("server::request: GET /api/count 200 in "),
        "{lines:?}"
    );

    let failed = server
        .request(
            "GET",
            "/api/raise/XX000",
            &[("x-request-id", "given-2")],
            "",
        )
        .await;
    assert_eq!(failed.status, 500);
    let lines = log.lines("given-2");
    assert!(
        lines.iter().any(|line| line.contains("ERROR")),
        "the cause: {lines:?}"
    );

    for invalid in ["with space", "\"quoted\"", &"x".repeat(129)] {
        let answer = server
            .request("GET", "/nowhere", &[("x-request-id", invalid)], "")
            .await;
        let id = answer.header("x-request-id").unwrap();
        assert_eq!(
            (id.len(), id.matches('-').count()),
            (36, 4),
            "an own one: {id}"
        );
        assert!(!answer.head.contains(invalid));
    }
    let (one, other) = (
        server.get("/api/count").await,
        server.get("/api/count").await,
    );
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
    assert!(server.get("/livez").await.header("x-request-id").is_some());
}

#[tokio::test]
async fn what_is_refused_before_it_is_a_request_has_an_id_too() {
    let server = start().await;
    let mut client = TcpStream::connect(server.address()).await.unwrap();
    client.write_all(b"canary\r\n\r\n").await.unwrap();
    let answer = read_response(&mut client, false).await.unwrap();
    assert_eq!(answer.status, 400);
    assert_eq!(answer.header("x-request-id").unwrap().len(), 36);
}

/// The headers that tell requests apart, as the handler of a request with these sees them.
async fn seen_by_a_handler(server: &Server, sent: &[(&str, &str)]) -> Vec<(String, String)> {
    let answer = server.request("GET", "/api/headers", sent, "").await;
    let seen: Vec<(String, String)> = serde_json::from_str(&answer.body).unwrap();
    let signed = answer.header("x-request-id").unwrap().to_owned();
    assert!(
        seen.contains(&("x-request-id".to_owned(), signed.clone())),
        "{signed}: {seen:?}"
    );
    let names = ["x-request-id", "traceparent", "tracestate"];
    let told = seen.into_iter();
    told.filter(|(name, _)| names.contains(&name.as_str()))
        .collect()
}

#[tokio::test]
async fn a_handler_finds_one_id_and_one_trace_to_pass_on() {
    let server = start().await;
    let ids = [("x-request-id", "one"), ("x-request-id", "an other")];
    let seen = seen_by_a_handler(&server, &ids).await;
    assert_eq!(seen, [("x-request-id".to_owned(), "one".to_owned())]);

    let start = "00-4bf92f3577b34da6a3ce929d0e0e4736-";
    let parent = format!("{start}00f067aa0ba902b7-ff");
    let state = ("tracestate", "vendor=1");
    let seen = seen_by_a_handler(&server, &[("traceparent", &parent), state]).await;
    let onward = seen.iter().find(|(name, _)| name == "traceparent");
    let onward = &onward.unwrap().1;
    // Of the flags, those that are defined.
    assert!(
        onward.starts_with(start) && onward.ends_with("-03"),
        "{onward}"
    );
    assert_ne!(onward[..52], parent[..52], "a parent of its own");
    assert_eq!(seen.len(), 3, "the state as well: {seen:?}");

    // Which of two it is nobody knows; and a state belongs to its trace.
    let two = [("traceparent", parent.as_str()), ("traceparent", &parent)];
    for invalid in [
        &[two[0], two[1], state][..],
        &[("traceparent", "canary"), state],
        &[state],
    ] {
        let seen = seen_by_a_handler(&server, invalid).await;
        assert_eq!(seen.len(), 1, "{invalid:?}: {seen:?}");
    }
}

#[tokio::test]
async fn a_request_whose_client_went_away_has_its_line() {
    let log = Log::start();
    let server = start().await;
    let mut client = TcpStream::connect(server.address()).await.unwrap();
    let head = b"GET /api/slow?ms=60000 HTTP/1.1\r\nhost: test\r\nx-request-id: gone\r\n\r\n";
    client.write_all(head).await.unwrap();
    until(|| server.pool().stats().in_use == 1).await;
    drop(client);
    until(|| !log.lines("GET /api/slow cancelled in ").is_empty()).await;
    let lines = log.lines("GET /api/slow");
    assert!(lines[0].contains("gone"), "{lines:?}");
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn no_request_is_lost_from_the_log() {
    let log = Log::start();
    let server = start().await;
    let mut sent = 0;
    // Then a second has just ended.
    while log.lines("summed_up").is_empty() {
        server.get("/api/plain?ms=1").await;
        sent += 1;
    }
    for _ in 0..100 {
        server.get("/api/plain?ms=1").await;
        sent += 1;
    }
    server.stop().await;
    let summed = log.lines("event=\"summed_up\"");
    let number = |line: &String, name: &str| -> usize {
        let rest = line.split(&format!(" {name}=")).nth(1).unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    let together: usize = summed.iter().map(|line| number(line, "requests")).sum();
    let single = log.lines("GET /api/plain 200 in ").len();
    assert_eq!(single + together, sent, "{summed:?}");
    for line in &summed {
        assert_eq!(number(line, "ok"), number(line, "requests"), "{line}");
    }
}

#[tokio::test]
async fn a_trace_stands_in_the_log() {
    let log = Log::start();
    let server = start().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    server
        .request("GET", "/api/count", &[("traceparent", &parent)], "")
        .await;
    let lines = log.lines("GET /api/count 200");
    assert!(lines[0].contains(trace), "{lines:?}");
}

#[tokio::test]
async fn above_fifty_a_second_requests_share_a_line_and_probes_have_none() {
    let log = Log::start();
    let server = start().await;
    for path in [
        "/livez",
        "/readyz",
        "/metrics",
        "/metrics/json",
        "/pool",
        "/",
    ] {
        server.get(path).await;
    }
    assert_eq!(log.lines("server::request").len(), 0, "quiet");
    let (sent, mut rounds) = (200, 0);
    loop {
        rounds += 1;
        let requests = (0..sent).map(|_| server.get("/api/plain?ms=1"));
        for request in requests {
            assert_eq!(request.await.status, 200);
        }
        let summed = log.lines("event=\"summed_up\"");
        if let Some(line) = summed.first() {
            assert!(line.contains("more requests in this second"), "{line}");
            assert!(line.contains("failed=0"), "{line}");
            assert!(line.contains("route=\"/api/plain\""), "{line}");
            break;
        }
        assert!(rounds < 100);
    }
    let single = log.lines("GET /api/plain 200 in ").len();
    assert!(
        single >= 50 && single < rounds * sent,
        "{single} of {}",
        rounds * sent
    );
}

#[tokio::test]
async fn answers_say_how_long_they_took_and_for_what() {
    let database = local_postgres::database();
    for (shown, setting) in [(true, None), (false, Some(false))] {
        let settings = Settings {
            server_timing: setting,
            ..Settings::defaults(0)
        };
        let server = Server::start_with(thing::THING, &database, settings).await;
        server.until_ready().await;
        let answer = server.get("/api/slow?ms=50").await;
        let Some(times) = answer.header("server-timing") else {
            assert!(!shown);
            continue;
        };
        assert!(shown, "{times}");
        let read = |name: &str| -> f64 {
            let part = times
                .split(", ")
                .find_map(|part| part.strip_prefix(&format!("{name};dur=")));
            part.unwrap().parse().unwrap()
        };
        let (pool, database, total) = (read("pool"), read("db"), read("total"));
        assert!(database >= 50.0 && total >= pool + database, "{times}");
        assert_eq!(server.get("/livez").await.header("server-timing"), None);
    }
}
