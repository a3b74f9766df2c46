//! SIGTERM and SIGINT, as an orchestrator and a person send them.

#![expect(clippy::unwrap_used, reason = "it is a test, its helpers included")]

mod clock;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
#[cfg(target_os = "linux")]
use std::os::unix::{fs::MetadataExt, process::CommandExt};
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
        Self::start_with(|command| command.envs(settings.iter().copied()))
    }

    fn start_with(prepare: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let folder = Folder::new();
        let address = free_address();
        let (url, port) = (local_postgres::database(), address.port().to_string());
        let mut command = folder.clock(&[], &[("DATABASE_URL", &url), ("PORT", &port)]);
        let process = prepare(&mut command)
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
        while !self
            .metrics()
            .contains("http_server_active_requests{http_request_method=\"GET\"} 2")
        {
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

/// The listener takes no filter from a user without rights on some systems; that is nothing to warn of.
#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_of_a_user_without_rights_warns_of_nothing() {
    // What root starts gives up root's rights; anybody else has none.
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut clock = Clock::start_with(|command| match root {
        true => command.uid(65534).gid(65534),
        false => command,
    });
    clock.signal("-INT");
    let (code, log) = clock.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("WARN"), "{log}");
}
