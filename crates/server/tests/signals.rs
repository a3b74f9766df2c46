//! SIGTERM and SIGINT, as an orchestrator and a person send them.

#![expect(clippy::unwrap_used, reason = "it is a test, its helpers included")]

mod clock;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use clock::{Folder, free_address};

const DEADLINE: Duration = Duration::from_secs(20);

/// A running service; killed if the test fails.
struct Clock {
    process: Child,
    address: SocketAddr,
    folder: Folder,
}

impl Clock {
    fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_by("exec \"$0\"", settings)
    }

    /// Starts it by this line of a shell, in which `$0` is the program.
    fn start_by(line: &str, settings: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        let address = free_address();
        let (url, port) = (local_postgres::database(), address.port().to_string());
        let program = folder.clock(&[], &[]);
        let process = Command::new("sh")
            .args(["-c", line])
            .arg(program.get_program())
            .env_clear()
            .envs([("DATABASE_URL", &url), ("PORT", &port)])
            .envs(settings.iter().copied())
            .current_dir(&folder.0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let clock = Self {
            process,
            address,
            folder,
        };
        let deadline = Instant::now() + DEADLINE;
        while !clock.healthcheck().status.success() {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(10));
        }
        clock
    }

    fn healthcheck(&self) -> Output {
        let port = self.address.port().to_string();
        self.folder
            .clock(&["healthcheck"], &[("PORT", &port)])
            .output()
            .unwrap()
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([name, &self.process.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// The exit code and the log.
    fn wait(&mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it has not ended");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut log = String::new();
        self.process
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        (status.code(), log)
    }

    /// Sends a request whose answer takes a minute, and waits until it runs.
    fn slow_request(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(
            stream,
            "GET /api/time?after=60 HTTP/1.1\r\nhost: test\r\n\r\n"
        )
        .unwrap();
        let deadline = Instant::now() + DEADLINE;
        let two = "http_server_active_requests{http_request_method=\"GET\",url_scheme=\"http\"} 2";
        while !self.metrics().contains(two) {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(10));
        }
        stream
    }

    fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn either_signal_ends_it_with_0() {
    for signal in ["-TERM", "-INT"] {
        let mut clock = Clock::start(&[]);
        clock.signal(signal);
        let (code, log) = clock.wait();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("clock stopped: "), "{log}");
        assert_eq!(clock.healthcheck().status.code(), Some(1));
    }
}

#[test]
fn the_deadline_ends_it_with_0_and_the_second_signal_at_once() {
    let mut clock = Clock::start(&[("SHUTDOWN_TIMEOUT", "1")]);
    let _slow = clock.slow_request();
    clock.signal("-TERM");
    let (code, log) = clock.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("1 aborted"), "{log}");

    let mut clock = Clock::start(&[("SHUTDOWN_TIMEOUT", "60")]);
    let _slow = clock.slow_request();
    clock.signal("-TERM");
    while TcpStream::connect(clock.address).is_ok() {}
    let second = Instant::now();
    clock.signal("-TERM");
    assert_eq!(clock.wait().0, Some(143));
    assert!(
        second.elapsed() < Duration::from_secs(2),
        "{:?}",
        second.elapsed()
    );
}

#[test]
fn production_logs_are_json() {
    let mut clock = Clock::start(&[("APP_ENV", "production"), ("RUST_LOG", "debug")]);
    clock.metrics();
    clock.signal("-TERM");
    let (_, log) = clock.wait();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(
            line["level"].is_string() && line["message"].is_string(),
            "{line}"
        );
    }
    assert!(log.contains("\"path\":\"/metrics\""), "{log}");
}

/// As many connections as `ab -c 900` opens at once, while the service accepts none.
#[cfg(target_os = "linux")]
#[test]
fn connections_that_come_all_at_once_wait_for_the_service() {
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let most: usize = most.trim().parse().unwrap();
    let clock = Clock::start(&[]);
    clock.signal("-STOP");
    let wait = Duration::from_millis(500);
    let waiting: Vec<_> = (0..most.min(900))
        .map_while(|_| TcpStream::connect_timeout(&clock.address, wait).ok())
        .collect();
    assert_eq!(waiting.len(), most.min(900));
}

/// With so few files, 200 clients who do not go on would take all that there are.
#[cfg(target_os = "linux")]
#[test]
fn slow_clients_leave_a_service_with_few_files_alive() {
    let clock = Clock::start_by("ulimit -n 128 && exec \"$0\"", &[]);
    let half = "POST /api/time HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n{";
    let slow: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(clock.address).unwrap();
            stream.write_all(half.as_bytes()).unwrap();
            stream
        })
        .collect();
    for _ in 0..9 {
        let mut stream = TcpStream::connect(clock.address).unwrap();
        let wait = Duration::from_secs(3);
        stream.set_read_timeout(Some(wait)).unwrap();
        write!(stream, "GET /livez HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    }
    drop(slow);
}
