//! One request to a service on this machine.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// An answer, as it came.
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn is_ok(&self) -> bool {
        self.head.split(' ').nth(1) == Some("200")
    }

    /// The status line.
    pub(crate) fn status(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// Where the next page is, after the `Link` header.
    pub(crate) fn next(&self) -> Option<&str> {
        let link = self
            .head
            .lines()
            .find_map(|line| line.strip_prefix("link: <"))?;
        link.strip_suffix(">; rel=\"next\"")
    }
}

/// Sends `GET path` and reads the answer to its end.
pub(crate) fn get(port: u16, path: &str) -> io::Result<Answer> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, LONGEST_WAIT)?;
    stream.set_read_timeout(Some(LONGEST_WAIT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok(Answer {
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

/// The body of a 200; else the reason, in the service's words where it has some.
pub(crate) fn body(port: u16, path: &str) -> Result<String, String> {
    let answer = get(port, path).map_err(|error| error.to_string())?;
    match answer.is_ok() {
        true => Ok(answer.body),
        false => Err(format!("{} {}", answer.status(), answer.body)),
    }
}
