//! Asking a service whether it is ready.

use crate::http;

/// Whether `/readyz` answers 200 on this machine's `port`; else the reason, in the service's words where it has some.
pub(crate) fn ask(port: u16) -> Result<(), String> {
    http::body(port, "/readyz").map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
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
