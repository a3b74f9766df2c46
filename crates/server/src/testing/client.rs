//! A client that shows what is on the wire.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a test waits for comes within this time or never.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

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

/// Asserts that the request was rejected: with this status, and with a problem (RFC 9457) that says why.
///
/// # Panics
/// If it is not; the message names the `request`.
pub fn rejected(answer: &Response, request: &str, status: u16) {
    assert_eq!(answer.status, status, "{request}: {}", answer.body);
    let kind = answer.header("content-type");
    assert_eq!(kind, Some("application/problem+json"), "{request}");
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{request}: {problem}");
    assert!(problem["title"].is_string(), "{request}: {problem}");
    if status == 422 {
        let errors = problem["errors"].as_array();
        let named = |error: &Value| error["field"].is_string() && error["detail"].is_string();
        assert!(
            errors.is_some_and(|errors| !errors.is_empty() && errors.iter().all(named)),
            "{request}: {problem}"
        );
    }
}
