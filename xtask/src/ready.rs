//! Asking a service a question, above all whether it is ready.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Whether `/readyz` answers 200 on this machine's `port`; else the reason, in the service's words where it has some.
pub(crate) fn ask(port: u16) -> Result<(), String> {
    get(port, "/readyz").map(drop)
}

/// The body of a 200; else the reason.
pub(crate) fn get(port: u16, path: &str) -> Result<String, String> {
    let answer = exchange(port, path).map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(format!(
            "{} {body}",
            head.lines().next().unwrap_or_default()
        )),
    }
}

fn exchange(port: u16, path: &str) -> io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, LONGEST_WAIT)?;
    stream.set_read_timeout(Some(LONGEST_WAIT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_service_that_is_not_ready_says_why() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let service = std::thread::spawn(move || {
            for answer in [
                "503 Service Unavailable\r\n\r\nno database",
                "200 OK\r\n\r\n",
            ] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).unwrap() > 0);
                stream
                    .write_all(format!("HTTP/1.1 {answer}").as_bytes())
                    .unwrap();
            }
        });
        assert_eq!(
            ask(port).unwrap_err(),
            "HTTP/1.1 503 Service Unavailable no database"
        );
        assert_eq!(ask(port), Ok(()));
        service.join().unwrap();
        assert!(ask(port).unwrap_err().contains("refused"));
    }
}
