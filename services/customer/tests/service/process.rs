//! The service as a process: the real binary with nothing of this test's environment.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use server::testing::{Response, request};

const DEADLINE: Duration = Duration::from_secs(30);

/// The binary, to be run where no `.env` is.
pub(crate) fn command(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_customer"));
    command
        .env_clear()
        .envs(settings.iter().copied())
        .current_dir("/");
    command
}

/// Runs a subcommand to its end.
pub(crate) fn run(subcommand: &str, settings: &[(&str, &str)]) -> Output {
    command(settings).arg(subcommand).output().unwrap()
}

/// A running service; killed if a test leaves it.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    log: PathBuf,
}

impl Process {
    /// Starts `serve` on a free port.
    pub(crate) fn start(database_url: &str, settings: &[(&str, &str)]) -> Self {
        // Free a moment ago: the kernel gives such ports out in turn, so nobody else has it by now.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let port = address.port().to_string();
        let log = std::env::temp_dir().join(format!("customer-{}-{port}", std::process::id()));
        let child = command(&[("DATABASE_URL", database_url), ("PORT", &port)])
            .envs(settings.iter().copied())
            .stdout(File::create(&log).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            address,
            log,
        }
    }

    /// The lines it has logged so far, once there is one with all these words, and only those with them.
    pub(crate) async fn logged(&self, words: &[&str]) -> Vec<String> {
        let started = Instant::now();
        loop {
            let log = std::fs::read_to_string(&self.log).unwrap();
            let lines = log.lines().map(str::to_owned);
            let lines: Vec<_> = lines
                .filter(|line| words.iter().all(|word| line.contains(word)))
                .collect();
            if !lines.is_empty() {
                return lines;
            }
            assert!(started.elapsed() < DEADLINE, "{words:?}: {log}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The answer to a GET, once there is one with this status.
    pub(crate) async fn until(&mut self, path: &str, status: u16) -> Response {
        let started = Instant::now();
        loop {
            let answer = request(self.address, "GET", path, &[], b"").await;
            if let Ok(answer) = &answer
                && answer.status == status
            {
                return answer.clone();
            }
            assert_eq!(self.child.try_wait().unwrap(), None, "it ended");
            assert!(
                started.elapsed() < DEADLINE,
                "{path} is not {status}: {answer:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// How it ended; it must within the deadline.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < DEADLINE, "it does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.log);
    }
}
