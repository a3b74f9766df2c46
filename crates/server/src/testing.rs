//! For tests: a whole service on a free port, and a client that shows what is on the wire.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::{Service, Settings, Stopped, install_metrics, serve};

/// What a test waits for comes within this time or never.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running service. It ends with the test's runtime, or in good order by [`Server::stop`].
pub struct Server {
    address: SocketAddr,
    pool: db::Pool,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Stopped>,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The head: status line and header lines.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Server {
    /// Starts the service on this database and waits until it is ready.
    ///
    /// # Panics
    /// If it is not ready within 30 seconds.
    pub async fn start(service: Service, database_url: &str) -> Self {
        let server = Self::start_with(service, database_url, Settings::defaults(0)).await;
        server.until_ready().await;
        server
    }

    /// Starts the service with these settings (`HOST` and `PORT` do not count) and does not wait.
    ///
    /// # Panics
    /// If the URL is none, or no port is free.
    #[expect(clippy::expect_used, reason = "it is for tests")]
    pub async fn start_with(service: Service, database_url: &str, settings: Settings) -> Self {
        install_metrics();
        let pool = db::Pool::new(db::Config::parse(database_url).expect("a database URL"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn({
            let pool = pool.clone();
            async move {
                let shutdown = async {
                    // A server that was dropped without `stop` serves on until the runtime ends.
                    if stopped.await.is_err() {
                        std::future::pending::<()>().await;
                    }
                };
                serve(service, listener, pool, &settings, shutdown).await
            }
        });
        Self {
            address,
            pool,
            stop,
            task,
        }
    }

    /// Waits until `/readyz` says 200.
    ///
    /// # Panics
    /// If it does not within 30 seconds.
    pub async fn until_ready(&self) {
        let started = Instant::now();
        // Growing: many servers that start at once would starve under their own tests' questions.
        let mut pause = Duration::from_millis(5);
        loop {
            let answer = self.get("/readyz").await;
            if answer.status == 200 {
                return;
            }
            assert!(started.elapsed() < DEADLINE, "not ready: {}", answer.body);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }

    /// Where the service listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The service's pool.
    pub fn pool(&self) -> &db::Pool {
        &self.pool
    }

    /// Asks the service to stop, as SIGTERM does, and waits until it has.
    ///
    /// # Panics
    /// If it had ended before.
    #[expect(clippy::expect_used, reason = "it is for tests")]
    pub async fn stop(self) -> Stopped {
        let _ = self.stop.send(());
        self.task.await.expect("the service does not panic")
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], "").await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Response {
        self.request("DELETE", path, &[], "").await
    }

    /// POST with a JSON body.
    pub async fn post(&self, path: &str, body: Value) -> Response {
        self.request(
            "POST",
            path,
            &[("content-type", "application/json")],
            body.to_string(),
        )
        .await
    }

    /// PATCH with a JSON body.
    pub async fn patch(&self, path: &str, body: Value) -> Response {
        self.request(
            "PATCH",
            path,
            &[("content-type", "application/json")],
            body.to_string(),
        )
        .await
    }

    /// Any request, on a connection of its own, sent as it is given.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Response {
        match request(self.address, method, path, headers, body.as_ref()).await {
            Ok(response) => response,
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }
}

impl Response {
    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[expect(clippy::expect_used, reason = "it is for tests")]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect(&self.body)
    }

    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Sends one request on a connection of its own and reads the answer to its end.
///
/// # Errors
/// If there is no whole answer.
pub async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Response> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(&[head.as_bytes(), b"\r\n", body].concat())
            .await?;
        read_response(&mut stream, method == "HEAD").await
    };
    tokio::time::timeout(DEADLINE, exchange).await?
}

/// Reads one answer: its head, and as much body as the head announces.
///
/// # Errors
/// If the connection ends before the answer does.
pub async fn read_response(stream: &mut TcpStream, without_body: bool) -> io::Result<Response> {
    let mut bytes = Vec::new();
    loop {
        if let Some(response) = parse(&bytes, without_body) {
            return Ok(response);
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the answer is not whole",
            ));
        }
    }
}

fn parse(bytes: &[u8], without_body: bool) -> Option<Response> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut response = Response {
        status,
        head,
        body: String::new(),
    };
    let length = response
        .header("content-length")
        .and_then(|length| length.parse().ok());
    let length = if without_body { 0 } else { length.unwrap_or(0) };
    let body = bytes[end + 4..].get(..length)?;
    response.body = String::from_utf8_lossy(body).into_owned();
    Some(response)
}
