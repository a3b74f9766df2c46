//! A running server and the process that watches over it.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Error;
use crate::account::Account;
use crate::folder::Folder;
use crate::programs::Programs;

/// How long a start, with its crash recovery, and a stop may take.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// The server's parent. It passes on the signals whose names it reads, and sends the last one when the pipe ends: when we
/// close it, or when we die. It exits when the server does.
const WATCHDOG: &str = r#"
log=$1 last=$2; shift 2
exec 3<&0
"$@" </dev/null >>"$log" 2>&1 3<&- &
server=$!
{ while read -r signal; do kill -s "$signal" "$server"; done; kill -s "$last" "$server"; } <&3 3<&- &
reader=$!
wait "$server"
status=$?
kill "$reader"
exit "$status"
"#;

/// How a server is asked to stop; the names are those of `pg_ctl stop --mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Waits until every client has left of its own accord, however long that takes.
    Smart,
    /// Ends every session, rolls back, writes a checkpoint.
    Fast,
    /// Ends at once, as in a crash; the next start recovers from the log.
    Immediate,
}

impl Stop {
    fn signal(self) -> &'static str {
        match self {
            Self::Smart => "TERM",
            Self::Fast => "INT",
            Self::Immediate => "QUIT",
        }
    }
}

/// Where and as whom a server runs.
pub(crate) struct Place {
    pub(crate) account: Account,
    pub(crate) programs: Programs,
    pub(crate) data: std::path::PathBuf,
    pub(crate) log: std::path::PathBuf,
    /// How it stops when its process dies.
    pub(crate) last: Stop,
}

/// Why a server did not start.
pub(crate) enum Failure {
    /// Something else listens there.
    PortTaken,
    /// Processes of an earlier server still use the data; they are on their way out.
    DataInUse,
    Other(Error),
}

impl Failure {
    pub(crate) fn explain(self, port: u16) -> Error {
        match self {
            Self::PortTaken => Error::new(format!(
                "PostgreSQL did not start: something else listens on port {port}"
            )),
            Self::DataInUse => {
                Error::new("PostgreSQL did not start: an earlier server still uses its data")
            }
            Self::Other(error) => error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// A server that answers.
pub(crate) struct Server {
    watchdog: Child,
}

impl Server {
    /// Starts the server and waits until it accepts connections.
    pub(crate) fn start(place: &Place, sockets: &Folder, port: u16) -> Result<Self, Failure> {
        let log_start = fs::metadata(&place.log).map_or(0, |metadata| metadata.len());
        let pid_file = place.data.join("postmaster.pid");
        let stale = fs::read_to_string(&pid_file).unwrap_or_default();
        let mut server = Self {
            watchdog: watch(place, sockets, port)?,
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = fs::read_to_string(&pid_file).unwrap_or_default();
            if state != stale
                && state
                    .lines()
                    .nth(7)
                    .is_some_and(|line| line.trim() == "ready")
            {
                return Ok(server);
            }
            let gone = server.has_ended()?;
            if gone || Instant::now() > deadline {
                let log = log_since(&place.log, log_start);
                return Err(failure(&log, gone));
            }
            sleep(POLL);
        }
    }

    /// The same for a port that has to be this one, and data that has to become free: waits for both.
    pub(crate) fn start_patiently(
        place: &Place,
        sockets: &Folder,
        port: u16,
    ) -> Result<Self, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Self::start(place, sockets, port) {
                Err(Failure::PortTaken | Failure::DataInUse) if Instant::now() < deadline => {
                    sleep(POLL)
                }
                started => return started.map_err(|failure| failure.explain(port)),
            }
        }
    }

    /// Asks the server to stop and waits until it has.
    pub(crate) fn stop(&mut self, mode: Stop) -> Result<(), Error> {
        if let Some(pipe) = &mut self.watchdog.stdin {
            // Fails only if the server is gone already.
            let _ = writeln!(pipe, "{}", mode.signal());
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended()? {
            if mode != Stop::Smart && Instant::now() > deadline {
                return Err(Error::new(format!(
                    "PostgreSQL did not stop within {} s of {}",
                    PATIENCE.as_secs(),
                    mode.signal()
                )));
            }
            sleep(POLL);
        }
        Ok(())
    }

    /// Whether the server is there; one that was just killed may take a moment to be known as gone.
    pub(crate) fn answers(&mut self, port: u16) -> Result<bool, Error> {
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended()? {
            if says_something(port) {
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Err(Error::new("PostgreSQL neither answers nor ends"));
            }
            sleep(POLL);
        }
        Ok(false)
    }

    fn has_ended(&mut self) -> Result<bool, Error> {
        let status = self
            .watchdog
            .try_wait()
            .map_err(|error| Error::because("cannot wait for PostgreSQL", error))?;
        Ok(status.is_some())
    }
}

/// Asks whether TLS is spoken, which the server answers either way. That somebody listens says less: a process that is about to
/// end does.
fn says_something(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47])?;
        stream.read_exact(&mut [0])
    };
    ask().is_ok()
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended().unwrap_or(true) && Instant::now() < deadline {
            sleep(POLL);
        }
    }
}

fn watch(place: &Place, sockets: &Folder, port: u16) -> Result<Child, Error> {
    let mut command = place.account.command("sh");
    command
        .args(["-c", WATCHDOG, "local-postgres-watchdog"])
        .arg(&place.log)
        .arg(place.last.signal());
    command
        .arg(place.programs.path("postgres"))
        .arg("-D")
        .arg(&place.data)
        .args(["-p", &port.to_string()]);
    command.arg("-k").arg(sockets.path());
    command
        .current_dir(&place.data)
        .stdin(Stdio::piped())
        .stdout(sockets.claim()?)
        .stderr(Stdio::null());
    // Ctrl-C in a terminal goes to the whole foreground group; the server has to outlive its clients.
    command.process_group(0);
    command
        .spawn()
        .map_err(|error| Error::because("cannot run sh", error))
}

fn log_since(log: &Path, start: u64) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = fs::File::open(log) {
        let _ = file
            .seek(SeekFrom::Start(start))
            .and_then(|_| file.read_to_end(&mut text));
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn failure(log: &str, gone: bool) -> Failure {
    if log.contains("Address already in use") {
        return Failure::PortTaken;
    }
    if log.contains("is still in use") || log.contains("\"postmaster.pid\" already exists") {
        return Failure::DataInUse;
    }
    let what = if gone {
        "PostgreSQL did not start"
    } else {
        "PostgreSQL is not ready after 60 s"
    };
    Failure::Other(Error::because(what, log.trim_end()))
}
