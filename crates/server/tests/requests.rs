//! What every request has: an id, a trace, its times, and a line in the log.

#![expect(clippy::unwrap_used, reason = "it is a test, its helpers included")]

mod thing;

use std::io::Write;
use std::sync::{Arc, Mutex};

use server::Settings;
use server::testing::Server;

/// What this thread logs while the guard lives.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn start(filter: &str) -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// The lines that have this text.
    fn lines(&self, text: &str) -> Vec<String> {
        let log = self.0.lock().unwrap();
        let log = String::from_utf8_lossy(&log);
        let lines = log.lines().filter(|line| line.contains(text));
        lines.map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn start() -> Server {
    Server::start(thing::THING, &local_postgres::database()).await
}

#[tokio::test]
async fn an_id_comes_back_and_stands_in_every_line_of_its_request() {
    let (log, _guard) = Log::start("info,db::query=debug");
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
async fn a_trace_stands_in_the_log() {
    let (log, _guard) = Log::start("info");
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
    let (log, _guard) = Log::start("info");
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
