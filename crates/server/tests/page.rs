//! `/`, the live page and its events.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "it is a test, its helpers included"
)]

mod thing;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use server::Settings;
use server::testing::Server;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const BROWSER: [(&str, &str); 1] = [("accept", "text/html,*/*;q=0.8")];

/// A visitor who follows the events.
struct Visitor(BufReader<TcpStream>);

impl Visitor {
    async fn come(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /pool/events HTTP/1.1\r\nhost: test\r\n\r\n")
            .await
            .unwrap();
        Self(BufReader::new(stream))
    }

    /// The text of the next event, or nothing at the end of the stream.
    async fn event(&mut self) -> Option<Value> {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.0.read_line(&mut line);
            let read = tokio::time::timeout(Duration::from_secs(20), read).await;
            if read.expect("an event each second").unwrap_or(0) == 0 {
                return None;
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }
}

/// The newest value of a column in the first event.
fn column(first: &Value, name: &str) -> Vec<f64> {
    let columns = first["columns"].as_array().unwrap();
    let at = columns.iter().position(|column| column == name).unwrap();
    let samples = first["samples"].as_array().unwrap();
    samples
        .iter()
        .map(|sample| sample[at].as_f64().unwrap_or(0.0))
        .collect()
}

#[tokio::test]
async fn the_start_page_leads_everywhere() {
    let server = Server::start(thing::THING, &local_postgres::database()).await;
    let page = server.request("GET", "/", &BROWSER, "").await;
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(page.header("vary"), Some("accept"));
    let json = server.get("/").await.json();
    assert_eq!(json["service"], "thing");
    for path in [
        "/api/count",
        "/pool",
        "/metrics",
        "/metrics/json",
        "/readyz",
        "/livez",
    ] {
        assert!(page.body.contains(&format!("href=\"{path}\"")), "{path}");
        assert!(json["links"][path].is_string(), "{path}");
        assert_eq!(
            server.request("GET", path, &BROWSER, "").await.status,
            200,
            "{path}"
        );
    }
    assert_eq!(server.request("POST", "/", &[], "").await.status, 404);
}

#[tokio::test]
async fn the_page_is_whole_and_lets_nothing_else_in() {
    let server = Server::start(thing::THING, &local_postgres::database()).await;
    let page = server.get("/pool").await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'"));
    assert!(page.body.contains("<title>thing: pool</title>"));
    assert!(
        !page.body.contains("<script>") && !page.body.contains("http"),
        "nothing inline, nothing from elsewhere"
    );
    for part in page
        .body
        .split(['"'])
        .filter(|part| part.starts_with("/pool/"))
    {
        let file = server.get(part).await;
        assert_eq!(file.status, 200, "{part}");
        assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
        let tag = file.header("etag").unwrap();
        let again = [("if-none-match", tag)];
        let again = server.request("GET", part, &again, "").await;
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{part}");
        let other = [("if-none-match", "\"another\"")];
        let other = server.request("GET", part, &other, "").await;
        assert_eq!((other.status, other.body), (200, file.body), "{part}");
    }
}

#[tokio::test]
async fn it_can_be_turned_off() {
    let settings = Settings {
        pool_page: false,
        ..Settings::defaults(0)
    };
    let server = Server::start_with(thing::THING, &local_postgres::database(), settings).await;
    server.until_ready().await;
    for path in ["/pool", "/pool/events", "/pool/page.js"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
    assert!(server.get("/").await.json()["links"]["/pool"].is_null());
    assert!(server.get("/metrics/json").await.json()["pool"]["sentence"].is_string());
}

#[tokio::test]
async fn a_late_visitor_and_a_second_one_see_the_burst() {
    let server = Server::start(thing::THING, &local_postgres::database()).await;
    let mut early = Visitor::come(server.address()).await;
    let first = early.event().await.unwrap();
    assert_eq!(first["service"], "thing");
    assert_eq!(
        first["settings"].as_array().unwrap().len(),
        db::PARAMETERS.len()
    );
    for _ in 0..30 {
        assert_eq!(server.get("/api/count").await.status, 200);
    }
    // What it saw second by second is what those see who come afterwards.
    let mut seen = Vec::new();
    while seen
        .iter()
        .map(|sample: &Value| sample[5].as_f64().unwrap())
        .sum::<f64>()
        < 30.0
    {
        seen.push(early.event().await.unwrap()["sample"].clone());
    }
    let (mut late, mut later) = (
        Visitor::come(server.address()).await,
        Visitor::come(server.address()).await,
    );
    for late in [late.event().await.unwrap(), later.event().await.unwrap()] {
        assert!(column(&late, "requests").iter().sum::<f64>() >= 30.0);
        assert!(column(&late, "acquired").iter().sum::<f64>() >= 30.0);
        let samples = late["samples"].as_array().unwrap();
        assert!(seen.iter().all(|sample| samples.contains(sample)));
    }
}

#[tokio::test]
async fn holders_are_shown_by_route_and_nothing_is_given_away() {
    let url = local_postgres::database();
    let password = url.split(['@', ':']).nth(2).unwrap().to_owned();
    assert!(password.len() > 8, "a password that would be noticed");
    let server = Server::start(thing::THING, &url).await;
    let secret = |text: &str| text.contains("canary") || text.contains(&password);
    let created = server
        .post("/api/things", json!({ "name": "canary-customer" }))
        .await;
    assert_eq!(created.status, 201, "{}", created.body);
    let address = server.address();
    let slow = tokio::spawn(async move {
        server::testing::request(address, "GET", "/api/slow?ms=8000", &[], b"").await
    });
    let mut visitor = Visitor::come(server.address()).await;
    // The check for readiness holds a connection too, for a moment and without a route.
    let holder = loop {
        let event = visitor.event().await.unwrap();
        assert!(!secret(&event.to_string()), "{event}");
        let mut held = event["holders"].as_array().into_iter().flatten();
        if let Some(holder) = held.find(|held| held["work"] == "GET /api/slow") {
            break holder.clone();
        }
    };
    assert_eq!(holder["statement"], "select pg_sleep($1)");
    for path in ["/pool", "/metrics", "/metrics/json", "/", "/readyz"] {
        let answer = server.get(path).await;
        assert!(!secret(&answer.body), "{path}: {}", answer.body);
    }
    let pool = &server.get("/metrics/json").await.json()["pool"];
    assert_eq!(pool["longest_holder"]["work"], "GET /api/slow");
    slow.abort();
}

#[tokio::test]
async fn an_open_page_does_not_hold_up_the_end() {
    let server = Server::start(thing::THING, &local_postgres::database()).await;
    let mut visitors = [
        Visitor::come(server.address()).await,
        Visitor::come(server.address()).await,
    ];
    for visitor in &mut visitors {
        assert!(visitor.event().await.unwrap()["samples"].is_array());
    }
    let began = Instant::now();
    let stopping = tokio::spawn(server.stop());
    for visitor in &mut visitors {
        while visitor.event().await.is_some() {}
    }
    let stopped = stopping.await.unwrap();
    // A drain that waits for them takes ten seconds.
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(stopped.aborted, 0);
}

#[tokio::test]
async fn the_stream_outlives_the_deadlines_of_requests() {
    let mut settings = Settings::defaults(0);
    settings.limits.request_timeout = Duration::from_secs(1);
    settings.limits.body_timeout = Duration::from_secs(1);
    // Events come every second, on a busy machine a little later.
    settings.limits.keep_alive_timeout = Duration::from_secs(3);
    let server = Server::start_with(thing::THING, &local_postgres::database(), settings).await;
    server.until_ready().await;
    let mut visitor = Visitor::come(server.address()).await;
    for _ in 0..5 {
        visitor.event().await.expect("it goes on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_the_object_for_people_says_what_the_gauges_say() {
    let server = Server::start(thing::THING, &local_postgres::database()).await;
    let address = server.address();
    let load: Vec<_> = (0..20)
        .map(|_| {
            tokio::spawn(async move {
                loop {
                    let _ = server::testing::request(address, "GET", "/api/count", &[], b"").await;
                }
            })
        })
        .collect();
    let mut waited = false;
    for _ in 0..50 {
        let json = server.get("/metrics/json").await.json();
        let pool = &json["pool"];
        let name = pool["name"].as_str().unwrap();
        let gauge = |key: &str, state: Option<&str>| {
            let gauges = json["gauges"].as_array().unwrap().iter();
            let mut of_pool = gauges.filter(|gauge| {
                let labels = &gauge["labels"];
                gauge["key"] == key
                    && labels["db_client_connection_pool_name"] == name
                    && state.is_none_or(|state| labels["db_client_connection_state"] == state)
            });
            of_pool.next().unwrap()["value"].clone()
        };
        assert_eq!(
            pool["in_use"],
            gauge("db_client_connection_count", Some("used"))
        );
        assert_eq!(
            pool["idle"],
            gauge("db_client_connection_count", Some("idle"))
        );
        assert_eq!(
            pool["waiting"],
            gauge("db_client_connection_pending_requests", None)
        );
        assert_eq!(pool["limit"], gauge("db_client_connection_max", None));
        waited |= pool["waiting"].as_u64() > Some(0);
    }
    assert!(waited, "the pool was under load");
    for task in load {
        task.abort();
    }
}
