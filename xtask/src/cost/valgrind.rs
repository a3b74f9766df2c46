//! A service under callgrind, and what each phase of its life takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::callgrind::Profile;
use super::requests::{Clients, Request};
use crate::output::Result;
use crate::survive::stage::{Instance, Stage};

const MISSING: &str = "\
the programs `valgrind` and `vgdb`, which count instructions, are not installed.
Debian, Ubuntu: apt install valgrind; Fedora: dnf install valgrind; Alpine: apk add valgrind; Arch: pacman -S valgrind.";

/// Under valgrind fifty requests a second are a third of all, and each would have a line in the log; of the thousands in
/// a second that a service answers otherwise hardly any has.
const NO_LINES: &str = "info,server::request=warn";

/// As many wherever it is counted; valgrind runs one at a time.
const WORKERS: &str = "2";

/// Fills the caches, opens all connections and prepares the statements.
const WARM_UP: u32 = 300;
/// The least of these phases counts: what the machine does meanwhile adds wake-ups, and takes nothing away.
const PHASES: u32 = 4;
/// Of each phase. Nothing opens or closes in it, so it has nothing but requests, and what the service does by itself.
const REQUESTS: u32 = 500;

/// What a service does by itself is measured for so long.
const IDLE: Duration = Duration::from_secs(3);

/// The installed one's; an error says which package has it.
pub(crate) fn version() -> Result<String> {
    let output = Command::new("valgrind")
        .arg("--version")
        .output()
        .map_err(|_| MISSING)?;
    Command::new("vgdb")
        .arg("--help")
        .output()
        .map_err(|_| MISSING)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A service that runs under callgrind.
pub(crate) struct Service {
    name: &'static str,
    folder: PathBuf,
    port: u16,
    clients: Clients,
    dumps: u32,
    /// What it does in a second without a request.
    idle: Profile,
}

impl Service {
    /// Starts a package's program and waits for an answer to `path`.
    pub(crate) fn start(
        stage: &mut Stage,
        package: &'static str,
        pool: &str,
        path: &str,
    ) -> Result<Self> {
        let folder = stage
            .write(package, "")?
            .with_file_name(format!("{package}.counts"));
        fs::create_dir(&folder)?;
        let mut instance = Instance::new(package, package)?;
        pool.clone_into(&mut instance.pool);
        instance.under = vec![
            "valgrind".to_owned(),
            "--tool=callgrind".to_owned(),
            format!("--callgrind-out-file={}", folder.join("counts").display()),
            format!("--vgdb-prefix={}", folder.join("vgdb").display()),
        ];
        let variables = [("RUST_LOG", NO_LINES), ("TOKIO_WORKER_THREADS", WORKERS)];
        let variables = variables.map(|(name, value)| (name, value.to_owned()));
        instance.variables.extend(variables);
        stage.start(&instance)?;
        let port = instance.port;
        stage.wait_until(&format!("{package} does not answer under valgrind"), || {
            crate::http::body(port, path).map(drop)
        })?;
        Ok(Self {
            name: package,
            folder,
            port,
            clients: Clients::new(port),
            dumps: 0,
            idle: Profile::default(),
        })
    }

    /// What a second without requests takes, once everything is open.
    pub(crate) fn measure_idle(
        &mut self,
        stage: &mut Stage,
        request: &Request,
        status: u16,
    ) -> Result<()> {
        self.clients.send(request, status, WARM_UP)?;
        stage.pause(Duration::from_secs(1))?;
        self.dump()?;
        let began = Instant::now();
        stage.pause(IDLE)?;
        self.idle = self.dump()?.divided(began.elapsed().as_secs_f64());
        Ok(())
    }

    /// What one request takes.
    pub(crate) fn measure(&mut self, request: &Request, status: u16) -> Result<Profile> {
        self.clients.send(request, status, WARM_UP)?;
        self.dump()?;
        let mut least: Option<Profile> = None;
        for _ in 0..PHASES {
            let began = Instant::now();
            self.clients.send(request, status, REQUESTS)?;
            let phase = self
                .dump()?
                .without(&self.idle, began.elapsed().as_secs_f64());
            if least
                .as_ref()
                .is_none_or(|least| phase.instructions() < least.instructions())
            {
                least = Some(phase);
            }
        }
        Ok(least.unwrap_or_default().divided(f64::from(REQUESTS)))
    }

    /// What was counted since the last time.
    fn dump(&mut self) -> Result<Profile> {
        self.dumps += 1;
        let prefix = format!("--vgdb-prefix={}", self.folder.join("vgdb").display());
        // Its pipes have the variable's value in their names, and the service has this one.
        let output = Command::new("vgdb")
            .args([&prefix, "dump"])
            .env("HOST", "127.0.0.1")
            .output()?;
        let file = self.folder.join(format!("counts.{}", self.dumps));
        match fs::read_to_string(&file) {
            Ok(text) => Ok(Profile::read(&text)),
            Err(_) => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                Err(format!(
                    "valgrind has written no counts of {} on port {}: {said}",
                    self.name, self.port
                )
                .into())
            }
        }
    }
}

/// A folder's programs, copied so that another build does not change them.
pub(crate) fn copy(programs: &Path, packages: &[&str], to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for package in packages {
        fs::copy(programs.join(package), to.join(package))?;
    }
    Ok(())
}
