//! A client that sees everything: one request at a time, nothing tried twice.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take; one that takes longer counts as none.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: bool,
    pub(crate) body: Vec<u8>,
    closes: bool,
}

/// Why there is no answer.
pub(crate) enum NoAnswer {
    /// The service cannot have read it.
    NotSent(io::Error),
    /// Nobody knows what became of it.
    Unknown(io::Error),
}

/// Keeps its connection for the next request where the answer allows it.
pub(crate) struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(crate) fn new(port: u16) -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            connection: None,
        }
    }

    pub(crate) fn send(&mut self, request: &[u8]) -> Result<Answer, NoAnswer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(self.address).map_err(NoAnswer::NotSent)?,
        };
        let answer = ask(&mut connection, request).map_err(NoAnswer::Unknown)?;
        if !answer.closes {
            self.connection = Some(connection);
        }
        Ok(answer)
    }
}

impl NoAnswer {
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::NotSent(error) => format!("no connection: {error}"),
            Self::Unknown(error) => format!("no answer: {error}"),
        }
    }
}

/// A request for `path`; with `close` its connection is for it alone.
pub(crate) fn get(path: &str, close: bool) -> Vec<u8> {
    let connection = connection(close);
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{connection}\r\n").into_bytes()
}

pub(crate) fn post(path: &str, json: &str, close: bool) -> Vec<u8> {
    let (connection, length) = (connection(close), json.len());
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\n{connection}content-type: application/json\r\n\
         content-length: {length}\r\n\r\n{json}"
    )
    .into_bytes()
}

fn connection(close: bool) -> &'static str {
    if close { "connection: close\r\n" } else { "" }
}

fn connect(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&address, LONGEST_WAIT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LONGEST_WAIT))?;
    stream.set_write_timeout(Some(LONGEST_WAIT))?;
    Ok(BufReader::new(stream))
}

fn ask(connection: &mut BufReader<TcpStream>, request: &[u8]) -> io::Result<Answer> {
    connection.get_mut().write_all(request)?;
    read(connection)
}

/// Reads one answer. Its body has a `content-length`, as the services' and the balancer's have, or ends with the
/// connection.
fn read(connection: &mut impl BufRead) -> io::Result<Answer> {
    let status = line(connection)?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    let mut answer = Answer {
        status: status.ok_or_else(|| io::Error::other("this is not HTTP"))?,
        retry_after: false,
        body: Vec::new(),
        closes: false,
    };
    let mut length = None;
    loop {
        let line = line(connection)?.to_ascii_lowercase();
        match line.split_once(": ") {
            None => break,
            Some(("content-length", value)) => length = value.parse().ok(),
            Some(("connection", value)) => answer.closes = value == "close",
            Some(("retry-after", _)) => answer.retry_after = true,
            Some(("transfer-encoding", _)) => return Err(io::Error::other("a body in chunks")),
            Some(_) => {}
        }
    }
    read_body(connection, length, &mut answer)?;
    Ok(answer)
}

fn read_body(
    connection: &mut impl BufRead,
    length: Option<usize>,
    answer: &mut Answer,
) -> io::Result<()> {
    match length {
        Some(length) => {
            answer.body = vec![0; length];
            connection.read_exact(&mut answer.body)
        }
        None if answer.status == 204 => Ok(()),
        None => {
            answer.closes = true;
            connection.read_to_end(&mut answer.body).map(drop)
        }
    }
}

fn line(connection: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if connection.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_where_they_say() {
        let text = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 4\r\n\r\nfull\
                    HTTP/1.1 204 No Content\r\n\r\n\
                    HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nthe rest";
        let mut text = text.as_bytes();
        let mut next = || {
            let answer = read(&mut text).unwrap();
            let body = String::from_utf8(answer.body).unwrap();
            (answer.status, answer.retry_after, answer.closes, body)
        };
        assert_eq!(next(), (503, true, false, "full".to_owned()));
        assert_eq!(next(), (204, false, false, String::new()));
        assert_eq!(next(), (200, false, true, "the rest".to_owned()));
        assert!(read(&mut "".as_bytes()).is_err());
        assert!(read(&mut "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".as_bytes()).is_err());
    }
}
