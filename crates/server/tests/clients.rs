//! Clients that are slow, silent, many or wrong cost the others nothing, and hear what is wrong.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "it is a test, its helpers included"
)]

mod thing;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use server::testing::{self, Response, Server};
use server::{Limits, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

const HEAD: &[u8] = b"GET /livez HTTP/1.1\r\nhost: test\r\n\r\n";
const HALF_HEAD: &[u8] = b"GET /livez HTTP/1.1\r\nhost: te";
const HALF_BODY: &[u8] =
    b"POST /api/things HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
const SECOND: Duration = Duration::from_secs(1);

/// What is to come comes within this time, also on a machine that is busy.
const SOON: Duration = Duration::from_secs(15);

async fn start(change: impl FnOnce(&mut Limits)) -> Server {
    start_on(&local_postgres::database(), change).await
}

async fn start_on(url: &str, change: impl FnOnce(&mut Limits)) -> Server {
    let mut settings = Settings::defaults(0);
    change(&mut settings.limits);
    let server = Server::start_with(thing::THING, url, settings).await;
    server.until_ready().await;
    server
}

/// The same service, served by axum's own `serve`.
async fn plain() -> SocketAddr {
    plain_on(&local_postgres::database()).await
}

async fn plain_on(url: &str) -> SocketAddr {
    plain_on_pool(db::Pool::new(db::Config::parse(url).unwrap())).await
}

async fn plain_on_pool(pool: db::Pool) -> SocketAddr {
    pool.migrate(thing::THING.migrator).await.unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = (thing::THING.app)(pool);
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// All that still comes, until the connection ends.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = timeout(SOON, stream.read_to_end(&mut bytes)).await;
    // Whoever does not read may find the connection reset.
    let _ = read.expect("the connection ends");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether the connection is still there after this time, with nothing to read.
async fn stays(stream: &mut TcpStream, time: Duration) -> bool {
    timeout(time, stream.read(&mut [0])).await.is_err()
}

#[track_caller]
fn problem(text: &str, status: u16) {
    let start = format!("HTTP/1.1 {status} ");
    assert!(text.starts_with(&start), "{text}");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    for header in [
        "content-type: application/problem+json",
        "connection: close",
        "date: ",
    ] {
        assert!(head.contains(header), "{header} in {text}");
    }
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["status"], status, "{text}");
}

// axum's own serve arms no deadline: a client keeps a connection for ever by saying nothing
#[tokio::test]
async fn a_head_that_does_not_come_is_a_408() {
    let mut theirs = send(plain().await, HALF_HEAD).await;
    let server = start(|limits| limits.header_timeout = SECOND).await;
    let mut half = send(server.address(), HALF_HEAD).await;
    let mut silent = send(server.address(), b"").await;
    let began = Instant::now();
    problem(&rest(&mut half).await, 408);
    assert!(began.elapsed() > SECOND / 2, "{:?}", began.elapsed());
    assert_eq!(rest(&mut silent).await, "");
    assert!(stays(&mut theirs, SECOND).await);
}

// a handler of axum's own waits for a body without limit
#[tokio::test]
async fn a_body_that_does_not_come_is_a_408() {
    let mut theirs = send(plain().await, HALF_BODY).await;
    let server = start(|limits| limits.body_timeout = SECOND).await;
    let mut half = send(server.address(), HALF_BODY).await;
    let began = Instant::now();
    problem(&rest(&mut half).await, 408);
    assert!(began.elapsed() > SECOND / 2, "{:?}", began.elapsed());
    assert!(stays(&mut theirs, SECOND).await);
}

/// Asks again and again and reads nothing, until the service has had enough.
async fn never_reads(address: SocketAddr, path: &str) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").repeat(100);
    while stream.write_all(request.as_bytes()).await.is_ok() {}
}

// axum's own serve waits for its reader for ever
#[tokio::test]
async fn a_client_that_never_reads_is_cut_off() {
    let server = start(|limits| limits.body_timeout = SECOND).await;
    let ended = timeout(SOON, never_reads(server.address(), "/metrics")).await;
    assert!(ended.is_ok());
    let theirs = plain().await;
    let ended = timeout(3 * SECOND, never_reads(theirs, "/api/large")).await;
    assert!(ended.is_err());
}

// hyper's one deadline, for a head, also ends connections that wait for their next request
#[tokio::test]
async fn an_idle_connection_outlives_the_deadline_for_a_head() {
    let server = start(|limits| {
        limits.header_timeout = SECOND;
        limits.keep_alive_timeout = 4 * SECOND;
    })
    .await;
    let mut stream = send(server.address(), HEAD).await;
    let answer = testing::read_response(&mut stream, false).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(stays(&mut stream, 2 * SECOND).await);
    stream.write_all(HEAD).await.unwrap();
    let answer = testing::read_response(&mut stream, false).await.unwrap();
    assert_eq!(answer.status, 200);
    let began = Instant::now();
    assert_eq!(rest(&mut stream).await, "");
    assert!(began.elapsed() > 2 * SECOND, "{:?}", began.elapsed());

    // The next head has its own deadline again.
    let mut stream = send(server.address(), HEAD).await;
    testing::read_response(&mut stream, false).await.unwrap();
    stream.write_all(HALF_HEAD).await.unwrap();
    problem(&rest(&mut stream).await, 408);
}

#[tokio::test]
async fn connections_that_wait_for_their_client_make_room() {
    let server = start(|limits| limits.max_connections = 4).await;
    let address = server.address();
    let slow: Vec<_> = (0..2)
        .map(|_| {
            let path = "/api/slow?ms=1500";
            tokio::spawn(async move { testing::request(address, "GET", path, &[], b"").await })
        })
        .collect();
    let deadline = Instant::now() + SOON;
    while server.pool().stats().in_use < 2 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut waiting = Vec::new();
    for n in 0..40 {
        waiting.push(send(address, [HALF_HEAD, HALF_BODY, b""][n % 3]).await);
    }
    for _ in 0..9 {
        let answer = timeout(2 * SECOND, server.get("/livez")).await;
        assert_eq!(answer.expect("room").status, 200);
    }
    // The first to come is the first to go, and hears why.
    problem(&rest(&mut waiting[0]).await, 503);
    for answer in slow {
        assert_eq!(answer.await.unwrap().unwrap().status, 200, "it was served");
    }
}

/// Sends each of these on one connection.
async fn one_after_the_other(address: SocketAddr, requests: &[(&str, u16)]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    for (request, status) in requests {
        let body = "x".repeat(5000);
        let head = format!("{request}\r\nhost: test\r\ncontent-length: 5000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        let answer = testing::read_response(&mut stream, false).await;
        let answer = answer.unwrap_or_else(|error| panic!("{request}: {error}"));
        assert_eq!(answer.status, *status, "{request}: {answer:?}");
        assert_eq!(answer.header("connection"), None, "{answer:?}");
    }
}

// hyper closes a connection whose request was answered before its body was read, without saying so
#[tokio::test]
async fn a_body_that_nobody_wants_is_read_away() {
    let server = start(|_| {}).await;
    let requests = [
        ("POST /nowhere HTTP/1.1", 404),
        ("PUT /api/things HTTP/1.1", 405),
        ("POST /api/things HTTP/1.1", 415),
        ("GET /api/things/one HTTP/1.1", 400),
        ("GET /api/count HTTP/1.1", 200),
    ];
    one_after_the_other(server.address(), &requests).await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_a_413_that_arrives() {
    let server = start(|_| {}).await;
    let large = "x".repeat(3_300_000);
    let head = "POST /api/things HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n";
    let known = format!("{head}content-length: {}\r\n\r\n{large}", large.len());
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n325aa0\r\n{large}\r\n0\r\n\r\n");
    for request in [known, chunked] {
        // All of it is written before the answer is read.
        let mut stream = send(server.address(), request.as_bytes()).await;
        problem(&rest(&mut stream).await, 413);
    }
    // Whoever asks first is not told to send it.
    let asks = format!("{head}content-length: 3300000\r\nexpect: 100-continue\r\n\r\n");
    let mut stream = send(server.address(), asks.as_bytes()).await;
    problem(&rest(&mut stream).await, 413);
}

#[tokio::test]
async fn what_is_no_request_is_a_problem_too() {
    let server = start(|_| {}).await;
    let long = format!("GET /{} HTTP/1.1\r\nhost: test\r\n\r\n", "x".repeat(9_000));
    let head = format!(
        "GET / HTTP/1.1\r\nhost: test\r\nx: {}\r\n\r\n",
        "x".repeat(17_000)
    );
    let fields = format!(
        "GET / HTTP/1.1\r\nhost: test\r\n{}\r\n",
        "x: y\r\n".repeat(200)
    );
    for (request, status) in [
        ("nonsense\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: test\r\nbad header\r\n\r\n", 400),
        ("GET /livez HTTP/1.1\r\n\r\n", 400),
        ("GET /livez HTTP/1.1\r\nhost: one\r\nhost: two\r\n\r\n", 400),
        (&long, 414),
        (&head, 431),
        (&fields, 431),
    ] {
        let mut stream = send(server.address(), request.as_bytes()).await;
        problem(&rest(&mut stream).await, status);
    }
    let mut old = send(server.address(), b"GET /livez HTTP/1.0\r\n\r\n").await;
    assert!(rest(&mut old).await.starts_with("HTTP/1.0 200"));
}

#[track_caller]
fn unavailable(answer: &Response) {
    testing::rejected(answer, "it", 503);
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_a_503_and_frees_its_connection() {
    let server = start(|limits| limits.request_timeout = SECOND).await;
    let began = Instant::now();
    let answer = server.get("/api/slow?ms=60000").await;
    unavailable(&answer);
    assert!(answer.body.contains("longer than 1s"), "{answer:?}");
    let took = began.elapsed();
    assert!(took > SECOND && took < 4 * SECOND, "{took:?}");
    let deadline = Instant::now() + SOON;
    while server.pool().stats().in_use > 0 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_requests_deadline_bounds_the_wait_for_the_pool() {
    let url = local_postgres::database();
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}connection_limit=1&pool_timeout=60");
    let server = start_on(&url, |limits| limits.request_timeout = SECOND).await;
    let held = server.pool().acquire().await.unwrap();
    let answer = server.get("/api/count").await;
    unavailable(&answer);
    // The pool's own answer, not that of the deadline.
    assert!(answer.body.contains("busy"), "{answer:?}");
    assert_eq!(server.pool().stats().timed_out, 1);
    drop(held);
    assert_eq!(server.get("/api/count").await.status, 200);
}

/// Sends a request whose handler takes half a second before it writes, and hangs up while it runs.
async fn hang_up(address: SocketAddr, pool: &db::Pool) {
    let request = b"POST /api/late HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n";
    let stream = send(address, request).await;
    let deadline = Instant::now() + SOON;
    while pool.stats().in_use == 0 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stream);
}

async fn count(pool: &db::Pool) -> i64 {
    let count = sqlx::query_scalar("select count(*) from thing");
    count.fetch_one(pool).await.unwrap()
}

// hyper drops a handler whose client hangs up
#[tokio::test]
async fn a_write_is_finished_when_its_client_hangs_up_and_a_read_stops() {
    let url = local_postgres::database();
    let pool = db::Pool::new(db::Config::parse(&url).unwrap());
    hang_up(plain_on_pool(pool.clone()).await, &pool).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(count(&pool).await, 0, "axum's own serve has dropped it");

    let url = local_postgres::database();
    let server = start_on(&url, |_| {}).await;
    hang_up(server.address(), server.pool()).await;
    let deadline = Instant::now() + SOON;
    while count(server.pool()).await == 0 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The shutdown waits for it too.
    hang_up(server.address(), server.pool()).await;
    let pool = db::Pool::new(db::Config::parse(&url).unwrap());
    server.stop().await;
    assert_eq!(count(&pool).await, 2);

    let server = start(|_| {}).await;
    let held = send(
        server.address(),
        b"GET /api/hold HTTP/1.1\r\nhost: test\r\n\r\n",
    )
    .await;
    let in_use = async |wanted| {
        let deadline = Instant::now() + SOON;
        while server.pool().stats().in_use != wanted {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    in_use(1).await;
    drop(held);
    in_use(0).await;
}

/// Asks for what takes 400 ms in the database, again and again, as 20 clients at once.
async fn slow_clients(address: SocketAddr) -> tokio::task::JoinSet<()> {
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..20 {
        clients.spawn(async move {
            loop {
                let path = "/api/slow?ms=400";
                let _ = testing::request(address, "GET", path, &[], b"").await;
            }
        });
    }
    clients
}

/// The longest of so many requests, one after the other.
async fn longest(of: u32, address: SocketAddr) -> Duration {
    let mut longest = Duration::ZERO;
    for _ in 0..of {
        let began = Instant::now();
        let answer = testing::request(address, "GET", "/api/count", &[], b"").await;
        assert_eq!(answer.unwrap().status, 200);
        longest = longest.max(began.elapsed());
    }
    longest
}

// a pool with one queue lets everybody wait for the slowest
#[tokio::test]
async fn a_slow_route_leaves_connections_to_the_others() {
    let limit = "connection_limit=4";
    let url = local_postgres::database();
    let url = format!("{url}{}{limit}", if url.contains('?') { '&' } else { '?' });
    let plain = plain_on(&url).await;
    let clients = slow_clients(plain).await;
    tokio::time::sleep(SECOND).await;
    let theirs = longest(2, plain).await;
    drop(clients);

    let server = start_on(&url, |_| {}).await;
    let _clients = slow_clients(server.address()).await;
    // The pool knows a slow route when it has seen it.
    tokio::time::sleep(SECOND).await;
    let ours = longest(20, server.address()).await;
    assert!(ours < theirs / 3, "{ours:?}, without it {theirs:?}");
    assert!(server.pool().stats().in_use <= 3);
}
