//! The three services that are compared, over one database.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use local_postgres::Cluster;

use super::ab::{self, Report};
use super::cpu;
use super::table::Sample;
use crate::output::Result;
use crate::process::{Event, Process, Processes, free_port};
use crate::{http, release};

/// What the tables call the services; the first is ours.
pub(crate) const NAMES: [&str; 3] = ["ours", "plain sqlx", "deadpool"];
/// In the same order. A package's program has its name.
const PACKAGES: [&str; 3] = ["customer", "plain-sqlx", "plain-deadpool"];

/// deadpool apart: it asks for other features of what the other two depend on. With it nothing of theirs would be what it
/// is when they are released, nor be compiled already.
pub(crate) const BUILDS: [&[&str]; 2] = [&["customer", "plain-sqlx"], &["plain-deadpool"]];

/// Of each pool; the programs in xtask/compare have the same number.
pub(crate) const CONNECTIONS: u32 = 20;

const AB: &str = "ab";
const CUSTOMERS: &str = include_str!("../../compare/customers.sql");

/// How long a service may take to answer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A service that runs.
struct Service {
    port: u16,
    /// The process whose child it is.
    parent: u32,
}

/// The services, and everything that can happen while they run.
pub(crate) struct Services<'a> {
    cluster: &'a Cluster,
    database: &'a str,
    programs: PathBuf,
    /// Where they run, with no `.env` in it, and where `ab` writes; it goes with the cluster.
    folder: PathBuf,
    processes: Processes,
    running: Vec<Service>,
}

impl<'a> Services<'a> {
    pub(crate) fn new(cluster: &'a Cluster, database: &'a str, programs: PathBuf) -> Result<Self> {
        let folder = cluster.data_folder().with_file_name("compare");
        fs::create_dir(&folder)?;
        let processes = Processes::new();
        processes.report_signals()?;
        Ok(Self {
            cluster,
            database,
            programs,
            folder,
            processes,
            running: Vec::new(),
        })
    }

    /// Starts all of them, ours first, which migrates, and gives the id of a customer.
    pub(crate) fn start(&mut self) -> Result<String> {
        let url = self.cluster.url(self.database);
        let [ours, others @ ..] = PACKAGES;
        self.start_one(ours, &format!("{url}?connection_limit={CONNECTIONS}"))?;
        self.wait_for_answer(0, "/readyz")?;
        self.cluster.sql(self.database, CUSTOMERS)?;
        for (index, package) in others.into_iter().enumerate() {
            self.start_one(package, &url)?;
            self.wait_for_answer(index + 1, "/api/customers")?;
        }
        let sql = "select id from customer order by id limit 1 offset 5000";
        Ok(self.cluster.sql(self.database, sql)?)
    }

    fn start_one(&mut self, package: &str, url: &str) -> Result<()> {
        let port = free_port()?;
        let process = Process::new(package, &self.programs.join(package), &[], url);
        let process = process.port(port).folder(&self.folder);
        let parent = self
            .processes
            .start(process.no_variables(&release::IN_THE_WAY))?;
        self.running.push(Service { port, parent });
        Ok(())
    }

    fn wait_for_answer(&mut self, index: usize, path: &str) -> Result<()> {
        let deadline = Instant::now() + LONGEST_WAIT;
        loop {
            let Err(reason) = http::body(self.running[index].port, path) else {
                return Ok(());
            };
            if Instant::now() > deadline {
                let (name, seconds) = (PACKAGES[index], LONGEST_WAIT.as_secs());
                return self.fail(&format!(
                    "{name} does not answer {path} after {seconds} s: {reason}"
                ));
            }
            self.next(Some(Duration::from_millis(10)))?;
        }
    }

    /// An error unless all give the same answer, byte for byte.
    pub(crate) fn check_answers(&mut self, path: &str) -> Result<()> {
        let answers = self
            .running
            .iter()
            .map(|service| http::body(service.port, path));
        let answers = answers.collect::<std::result::Result<Vec<_>, _>>();
        let answers = answers.map_err(|reason| format!("GET {path}: {reason}"))?;
        for (package, answer) in PACKAGES.iter().zip(&answers) {
            if *answer != answers[0] {
                let ours = &answers[0];
                return self.fail(&format!(
                    "{package} and {} answer GET {path} differently and cannot be compared:\n{answer}\n{ours}",
                    PACKAGES[0]
                ));
            }
        }
        Ok(())
    }

    /// One load of one service.
    pub(crate) fn load(&mut self, index: usize, path: &str, requests: u32) -> Result<Sample> {
        let parents = [self.running[index].parent, self.postmaster()?];
        let before = parents.map(cpu::used);
        let report = self.run_ab(index, path, requests)?;
        let after = parents.map(cpu::used);
        let time = |index: usize| {
            let time = after[index]?.saturating_sub(before[index]?);
            Some(time.as_secs_f64() * 1e6 / f64::from(requests))
        };
        Ok(Sample {
            rate: report.rate,
            p50_ms: report.p50,
            p99_ms: report.p99,
            service_us: time(0),
            postgres_us: time(1),
        })
    }

    fn run_ab(&mut self, index: usize, path: &str, requests: u32) -> Result<Report> {
        let [printed, percentiles] = ["printed", "percentiles"].map(|name| self.folder.join(name));
        let url = format!("http://127.0.0.1:{}{path}", self.running[index].port);
        let arguments = ab::arguments(requests, &percentiles, &url);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let process = Process::new(AB, Path::new(AB), &arguments, "");
        let process = process.output(File::create(&printed)?);
        self.processes.start(process)?;
        let status = loop {
            if let Some(status) = self.next(None)? {
                break status;
            }
        };
        let name = PACKAGES[index];
        if !status.success() {
            return self.fail(&format!("ab has failed at {name} ({status}): see above"));
        }
        let (printed, percentiles) = (
            fs::read_to_string(printed)?,
            fs::read_to_string(percentiles)?,
        );
        match Report::read(&printed, &percentiles, requests) {
            Ok(report) => Ok(report),
            Err(error) => self.fail(&format!("{name}, GET {path}: {error}")),
        }
    }

    /// Waits for what happens next; `ab`'s end is given, everything else that may happen is an error.
    fn next(&mut self, timeout: Option<Duration>) -> Result<Option<ExitStatus>> {
        match self.processes.next(timeout) {
            None => Ok(None),
            Some(Event::Ended { name, status }) if name == AB => Ok(Some(status)),
            Some(Event::Ended { name, status }) => self.fail(&format!(
                "{name} has ended by itself ({status}): see above. Everything is stopped."
            )),
            Some(Event::Signal) => Err("stopped before the end, so there are no tables".into()),
        }
    }

    /// PostgreSQL's first process.
    fn postmaster(&self) -> Result<u32> {
        let file = self.cluster.data_folder().join("postmaster.pid");
        let text = fs::read_to_string(&file)?;
        let pid = text.lines().next().and_then(|line| line.parse().ok());
        pid.ok_or_else(|| format!("{} has no process id", file.display()).into())
    }

    /// Shows what the programs have printed, for the error refers to it.
    fn fail<T>(&mut self, error: &str) -> Result<T> {
        self.processes.show_output();
        Err(error.into())
    }

    pub(crate) fn stop(&mut self) {
        self.processes.stop();
    }
}
