//! The folder in which something is put together, the programs that do it, and how far they are.

use std::fs::{self, File};
use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::pins::Pin;
use crate::Error;
use crate::say::say_without_end;

/// A client for which nothing arrives for so long is given up.
const STALL: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// Characters of the progress bar.
const WIDTH: u64 = 30;

/// Nothing in it counts before it is moved to its place.
pub(crate) struct Part {
    folder: PathBuf,
    /// About what it will hold.
    megabytes: u64,
}

impl Part {
    pub(crate) fn create(folder: PathBuf, megabytes: u64) -> Result<Self, Error> {
        fs::create_dir(&folder).map_err(|error| {
            Error::because(format_args!("cannot create {}", folder.display()), error)
        })?;
        Ok(Self { folder, megabytes })
    }

    /// Something in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Runs a program in it to its end, and gives what it prints.
    pub(crate) fn run(&self, command: &mut Command) -> Result<String, Error> {
        let program = command.get_program().to_string_lossy().into_owned();
        let fail = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::new("is not here"),
            _ => Error::because("cannot be run", error),
        };
        let (output, errors) = (self.path("output"), self.path("errors"));
        let mut child = command
            .current_dir(&self.folder)
            .env("TMPDIR", &self.folder)
            .stdin(Stdio::null())
            .stdout(File::create(&output).map_err(fail)?)
            .stderr(File::create(&errors).map_err(fail)?)
            .spawn()
            .map_err(fail)?;
        if self.wait(&mut child).map_err(fail)?.success() {
            return Ok(fs::read_to_string(&output).unwrap_or_default());
        }
        let said = fs::read_to_string(&errors).unwrap_or_default();
        Err(Error::because(
            format_args!("{program} failed"),
            last(&said),
        ))
    }

    fn wait(&self, child: &mut Child) -> std::io::Result<ExitStatus> {
        let (mut bar, mut size, mut grown) = (Bar::new(self.megabytes), 0, Instant::now());
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            let now = size_of(&self.folder);
            if now != size {
                (size, grown) = (now, Instant::now());
                bar.show(size);
            }
            if grown.elapsed() > STALL {
                child.kill()?;
                let _ = writeln!(
                    File::options().append(true).open(self.path("errors"))?,
                    "nothing has arrived for {} s",
                    STALL.as_secs()
                );
                return child.wait();
            }
            std::thread::sleep(POLL);
        }
    }

    /// The one file with this ending in `folder`, if it is what the pin says.
    pub(crate) fn checked(&self, folder: &Path, ending: &str, pin: &Pin) -> Result<PathBuf, Error> {
        let mut files = fs::read_dir(folder).into_iter().flatten().flatten();
        let file = files
            .find(|entry| entry.path().extension().is_some_and(|it| it == ending))
            .ok_or_else(|| Error::new(format!("has brought no file of {}", pin.package)))?
            .path();
        let found =
            sha256(&file).map_err(|error| Error::because("cannot read the package", error))?;
        if found == pin.sha256 {
            return Ok(file);
        }
        Err(Error::new(format!(
            "has brought another {} than the one this project names: its SHA-256 is {found}, not {}. Nothing of it is kept",
            pin.package, pin.sha256
        )))
    }
}

pub(crate) fn sha256(file: &Path) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    hash.update(fs::read(file)?);
    let digest = hash.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The last lines of what a program has said, as one.
fn last(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

/// The bytes in a folder.
fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// How much is there already, on a terminal.
struct Bar {
    megabytes: u64,
    shown: bool,
}

impl Bar {
    fn new(megabytes: u64) -> Self {
        Self {
            megabytes,
            shown: false,
        }
    }

    fn show(&mut self, bytes: u64) {
        if stderr().is_terminal() {
            self.shown = true;
            let percent = (bytes / 10_000 / self.megabytes.max(1)).min(99);
            let filled = percent * WIDTH / 100;
            let bar: String = (0..WIDTH)
                .map(|at| if at < filled { '#' } else { '.' })
                .collect();
            say_without_end(format_args!("\r  [{bar}] {percent:2} %"));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.shown {
            say_without_end(format_args!("\r{:1$}\r", "", WIDTH as usize + 12));
        }
    }
}
