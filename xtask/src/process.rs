//! The programs that a command runs, and everything that can happen while they do.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::output::{Result, say};
use crate::{libpq, workspace};

/// How long the services may take to stop; their own limit is shorter.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The shell that is a program's parent. It passes on the signals whose names it reads. When the pipe ends, because our
/// process has, it kills the program: nothing is left running even after our `kill -9`.
const PARENT: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
program=$!
{ while read -r signal; do kill -s "$signal" "$program"; done; kill -s KILL "$program"; } <&3 3<&- >/dev/null 2>&1 &
reader=$!
wait "$program"
status=$?
kill "$reader" 2>/dev/null
exit "$status"
"#;

/// A port that is free now; hardly anybody takes it before the program that is given it.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// A program that is to be started.
pub(crate) struct Process {
    name: String,
    command: Command,
}

impl Process {
    pub(crate) fn new(name: &str, program: &Path, arguments: &[&str], database_url: &str) -> Self {
        let mut command = Command::new("sh");
        command
            .args(["-c", PARENT, "cargo-xtask-parent"])
            .arg(program)
            .args(arguments);
        // libpq's variables are for another server than the private one.
        libpq::keep_from(&mut command);
        command
            .env("DATABASE_URL", database_url)
            .env("HOST", "127.0.0.1")
            .current_dir(workspace::root());
        // Ctrl-C in a terminal goes to the whole foreground group; we pass it on in the right order.
        command.process_group(0);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self {
            name: name.to_owned(),
            command,
        }
    }

    pub(crate) fn port(mut self, port: u16) -> Self {
        self.command.env("PORT", port.to_string());
        self
    }

    /// Passes libpq's variables on, for a database that is not our own.
    pub(crate) fn libpq(mut self) -> Self {
        self.command.envs(libpq::variables());
        self
    }

    /// A variable of its environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Where it runs, if not in the workspace's root.
    pub(crate) fn folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Keeps these variables of our own environment from it.
    pub(crate) fn no_variables(mut self, names: &[&str]) -> Self {
        for name in names {
            self.command.env_remove(name);
        }
        self
    }

    /// A file for what it prints; errors still go where they go otherwise.
    pub(crate) fn output(mut self, file: File) -> Self {
        self.command.stdout(file);
        self
    }
}

/// What [`Processes::next`] reports. Lines of output are kept or shown without a report.
pub(crate) enum Event {
    Ended {
        name: String,
        status: ExitStatus,
    },
    /// Ctrl-C and its like.
    Signal,
}

enum Happening {
    Line(String),
    Event(Event),
}

/// The programs that run, with their output and the signals that we get.
pub(crate) struct Processes {
    happenings: Receiver<Happening>,
    sender: Sender<Happening>,
    /// By name, the pipe to its parent.
    running: HashMap<String, ChildStdin>,
    /// Output that waits to be shown; none once it is shown as it comes.
    held: Option<Vec<String>>,
}

impl Processes {
    pub(crate) fn new() -> Self {
        let (sender, happenings) = channel();
        Self {
            happenings,
            sender,
            running: HashMap::new(),
            held: Some(Vec::new()),
        }
    }

    /// From now on Ctrl-C, SIGTERM and SIGHUP are events. The second one ends us at once, and the programs' parents kill
    /// them.
    pub(crate) fn report_signals(&self) -> Result<()> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let reports = self.sender.clone();
        thread::spawn(move || {
            for (count, signal) in signals.forever().enumerate() {
                if count > 0 {
                    std::process::exit(128 + signal);
                }
                let _ = reports.send(Happening::Event(Event::Signal));
            }
        });
        Ok(())
    }

    /// Gives the id of its parent, which has no other work.
    pub(crate) fn start(&mut self, process: Process) -> Result<u32> {
        let Process { name, mut command } = process;
        let mut child = command.spawn()?;
        if let Some(pipe) = child.stdin.take() {
            self.running.insert(name.clone(), pipe);
        }
        let readers = [
            child
                .stdout
                .take()
                .map(|output| self.forward(&name, output)),
            child
                .stderr
                .take()
                .map(|output| self.forward(&name, output)),
        ];
        let parent = child.id();
        let reports = self.sender.clone();
        thread::spawn(move || {
            // The end is reported after the last line.
            for reader in readers.into_iter().flatten() {
                let _ = reader.join();
            }
            let status = child.wait().unwrap_or(ExitStatus::from_raw(1 << 8));
            let _ = reports.send(Happening::Event(Event::Ended { name, status }));
        });
        Ok(parent)
    }

    /// Sends each line with the program's name before it.
    fn forward(&self, name: &str, output: impl Read + Send + 'static) -> thread::JoinHandle<()> {
        let prefix = format!("{name:<11} | ");
        let sender = self.sender.clone();
        thread::spawn(move || {
            let lines = BufReader::new(output).split(b'\n');
            for line in lines.map_while(io::Result::ok) {
                let line = format!("{prefix}{}", String::from_utf8_lossy(&line));
                let _ = sender.send(Happening::Line(line));
            }
        })
    }

    /// The next event; `None` when `timeout` is over before one comes.
    pub(crate) fn next(&mut self, timeout: Option<Duration>) -> Option<Event> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            match self.receive(deadline)? {
                Happening::Line(line) => match &mut self.held {
                    Some(held) => held.push(line),
                    None => say(&line),
                },
                Happening::Event(event) => {
                    if let Event::Ended { name, .. } = &event {
                        self.running.remove(name);
                    }
                    return Some(event);
                }
            }
        }
    }

    fn receive(&self, deadline: Option<Instant>) -> Option<Happening> {
        match deadline {
            None => self.happenings.recv().ok(),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                self.happenings.recv_timeout(left).ok()
            }
        }
    }

    /// Shows what was held back, and from now on every line as it comes.
    pub(crate) fn show_output(&mut self) {
        for line in self.held.take().unwrap_or_default() {
            say(&line);
        }
    }

    /// Forgets what was held back.
    pub(crate) fn discard_output(&mut self) {
        self.held = Some(Vec::new());
    }

    /// Sends the signal of this name (`TERM`, `KILL`) to a program that runs.
    pub(crate) fn signal(&mut self, program: &str, signal: &str) -> Result<()> {
        let Some(pipe) = self.running.get_mut(program) else {
            return Err(format!("{program} does not run").into());
        };
        Ok(writeln!(pipe, "{signal}")?)
    }

    /// Sends SIGTERM to all that run and waits for them; those that do not end in time are killed.
    pub(crate) fn stop(&mut self) {
        for pipe in self.running.values_mut() {
            let _ = writeln!(pipe, "TERM");
        }
        let deadline = Instant::now() + LONGEST_WAIT;
        while !self.running.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.next(Some(left)).is_none() {
                break;
            }
        }
        self.running.clear();
    }
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
