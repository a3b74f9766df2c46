//! Where the harm is done: a private PostgreSQL, and the programs that run beside it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use local_postgres::Cluster;

use crate::output::Result;
use crate::process::{Event, Process, Processes, free_port};
use crate::release;

pub(crate) const DATABASE: &str = "survive";

/// How long a program may take to start or to end.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// One of the services, which may run or not.
#[derive(Clone)]
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) package: &'static str,
    pub(crate) port: u16,
    /// The pool's settings, as in a URL.
    pub(crate) pool: String,
    pub(crate) variables: Vec<(&'static str, String)>,
    /// The program that starts it, with that program's arguments; empty if there is none.
    pub(crate) under: Vec<String>,
    /// A file for what it prints.
    pub(crate) log: Option<PathBuf>,
}

impl Instance {
    pub(crate) fn new(package: &'static str, name: &str) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            package,
            port: free_port()?,
            pool: String::new(),
            variables: Vec::new(),
            under: Vec::new(),
            log: None,
        })
    }
}

pub(crate) struct Stage {
    // Dropped in this order: what uses the database ends first.
    processes: Processes,
    cluster: Cluster,
    programs: PathBuf,
    /// Where the programs run, with no `.env` in it; it goes with the cluster.
    folder: PathBuf,
}

impl Stage {
    pub(crate) fn new(programs: &Path, cluster: Cluster) -> Result<Self> {
        cluster.create_database(DATABASE)?;
        let folder = cluster.data_folder().with_file_name("survive");
        fs::create_dir(&folder)?;
        let processes = Processes::new();
        processes.report_signals()?;
        Ok(Self {
            processes,
            cluster,
            programs: programs.to_owned(),
            folder,
        })
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The answer of the database to `sql`.
    pub(crate) fn sql(&self, sql: &str) -> Result<String> {
        Ok(self.cluster.sql(DATABASE, sql)?)
    }

    /// A file for a program that is to be started.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Starts a service, and gives the id of its parent.
    pub(crate) fn start(&mut self, instance: &Instance) -> Result<u32> {
        let url = format!("{}?{}", self.cluster.url(DATABASE), instance.pool);
        let program = self.programs.join(instance.package);
        let mut command: Vec<_> = instance.under.iter().map(String::as_str).collect();
        let program = program.to_string_lossy();
        command.push(&program);
        let first = Path::new(command.remove(0));
        let mut process = Process::new(&instance.name, first, &command, &url)
            .port(instance.port)
            .folder(&self.folder)
            .no_variables(&release::IN_THE_WAY);
        for (name, value) in &instance.variables {
            process = process.variable(name, value);
        }
        if let Some(log) = &instance.log {
            process = process.output(File::create(log)?);
        }
        self.processes.start(process)
    }

    /// Starts a service and waits until it is ready.
    pub(crate) fn start_ready(&mut self, instance: &Instance) -> Result<u32> {
        let parent = self.start(instance)?;
        self.wait_until(&format!("{} is not ready", instance.name), || {
            crate::ready::ask(instance.port)
        })?;
        Ok(parent)
    }

    /// Starts a program that is no service.
    pub(crate) fn start_other(&mut self, program: &str, arguments: &[&str]) -> Result<()> {
        let process = Process::new(program, Path::new(program), arguments, "");
        self.processes.start(process.folder(&self.folder)).map(drop)
    }

    /// Sends a program a signal and waits until it has ended.
    pub(crate) fn end(&mut self, program: &str, signal: &str) -> Result<ExitStatus> {
        self.processes.signal(program, signal)?;
        match self.processes.next(Some(LONGEST_WAIT)) {
            Some(Event::Ended { name, status }) if name == program => Ok(status),
            Some(event) => self.unexpected(event),
            None => self.fail(&format!("{program} runs on after SIG{signal}")),
        }
    }

    /// Lets time pass; a program that ends meanwhile is an error.
    pub(crate) fn pause(&mut self, time: Duration) -> Result<()> {
        match self.processes.next(Some(time)) {
            Some(event) => self.unexpected(event),
            None => Ok(()),
        }
    }

    /// Waits until `ask` gives no reason to wait on, and gives how long that took.
    pub(crate) fn wait_until(
        &mut self,
        what: &str,
        mut ask: impl FnMut() -> std::result::Result<(), String>,
    ) -> Result<Duration> {
        let began = Instant::now();
        while let Err(reason) = ask() {
            if began.elapsed() > LONGEST_WAIT {
                let seconds = LONGEST_WAIT.as_secs();
                return self.fail(&format!("{what} after {seconds} s: {reason}"));
            }
            self.pause(Duration::from_millis(5))?;
        }
        Ok(began.elapsed())
    }

    /// Forgets what the programs have printed so far: an hour's is too much to keep.
    pub(crate) fn discard_output(&mut self) {
        self.processes.discard_output();
    }

    pub(crate) fn stop(&mut self) {
        self.processes.stop();
    }

    fn unexpected<T>(&mut self, event: Event) -> Result<T> {
        match event {
            Event::Signal => Err("stopped before the end".into()),
            Event::Ended { name, status } => {
                self.fail(&format!("{name} has ended by itself ({status}): see above"))
            }
        }
    }

    /// Shows what the programs have printed, for the error refers to it.
    fn fail<T>(&mut self, error: &str) -> Result<T> {
        self.processes.show_output();
        Err(error.into())
    }
}
