//! What is left when a process that holds a cluster is killed: nothing of a temporary one, the data of a persistent one.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on may say so at once"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use local_postgres::{Cluster, shared};

/// The other process: this test program once more, running only `holder`.
struct Holder {
    process: Child,
    _output: BufReader<ChildStdout>,
    data: PathBuf,
    port: u16,
}

impl Holder {
    /// Starts a process that holds a cluster, a persistent one if it is given a folder.
    fn start(folder: Option<&Path>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["holder", "--exact", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(folder) = folder {
            command.env("HELD_FOLDER", folder);
        }
        let mut process = command.spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut lines = output.by_ref().lines().map(Result::unwrap);
        let line = lines
            .find_map(|line| line.split_once("holding ").map(|(_, rest)| rest.to_owned()))
            .expect("a cluster");
        let (port, data) = line.split_once(' ').unwrap();
        Self {
            process,
            _output: output,
            data: data.into(),
            port: port.parse().unwrap(),
        }
    }

    /// `kill -9`.
    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn answers(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }

    fn server(&self) -> String {
        fs::read_to_string(self.data.join("postmaster.pid"))
            .unwrap()
            .lines()
            .next()
            .unwrap()
            .to_owned()
    }

    /// Kills the watchdogs of the server, and not the server itself: what nothing can prevent.
    fn kill_watchdogs(&self) {
        let server = self.server();
        let listing = Command::new("ps")
            .args(["-A", "-o", "pid=,pgid="])
            .output()
            .unwrap()
            .stdout;
        let listing = String::from_utf8(listing).unwrap();
        let processes: Vec<(&str, &str)> = listing
            .lines()
            .filter_map(|line| line.trim().split_once(' '))
            .collect();
        let group = processes.iter().find(|(pid, _)| *pid == server).unwrap().1;
        let watchdogs = processes
            .iter()
            .filter(|(pid, its_group)| *its_group == group && *pid != server);
        let pids: Vec<&str> = watchdogs.map(|(pid, _)| *pid).collect();
        assert!(!pids.is_empty(), "the server has watchdogs");
        assert!(
            Command::new("kill")
                .arg("-9")
                .args(pids)
                .status()
                .unwrap()
                .success()
        );
    }
}

#[test]
#[ignore = "the process that the other tests kill"]
fn holder() {
    let cluster = match std::env::var_os("HELD_FOLDER") {
        Some(folder) => Cluster::persistent(Path::new(&folder)).unwrap(),
        None => Cluster::temporary().unwrap(),
    };
    println!(
        "\nholding {} {}",
        cluster.port(),
        cluster.data_folder().display()
    );
    // Ends when the test that started it does, however it does.
    let _ = std::io::stdin().read_line(&mut String::new());
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A place for a persistent cluster that goes when the tests do.
fn folder(name: &str) -> PathBuf {
    shared().data_folder().parent().unwrap().join(name)
}

#[test]
fn kill_nine_leaves_no_server_and_no_folder() {
    let mut holder = Holder::start(None);
    assert!(holder.answers());
    holder.kill();
    wait_until("the folder is gone", || {
        !holder.data.parent().unwrap().exists()
    });
    assert!(!holder.answers());
}

#[test]
fn a_persistent_cluster_comes_back_with_its_rows_after_kill_nine() {
    let folder = folder("persistent");
    let mut url = String::new();
    for round in 1..=2 {
        let cluster = Cluster::persistent(&folder).unwrap();
        if round == 1 {
            cluster.sql("postgres", "create table t (n int)").unwrap();
            url = cluster.url("postgres");
        }
        assert_eq!(cluster.url("postgres"), url, "port and password stay");
        drop(cluster);
        let mut holder = Holder::start(Some(&folder));
        holder.kill();
        // No waiting here: the next start has to cope with a server that is about to stop.
        let cluster = Cluster::persistent(&folder).unwrap();
        cluster.sql("postgres", "insert into t values (1)").unwrap();
        assert_eq!(
            cluster.sql("postgres", "select count(*) from t").unwrap(),
            round.to_string()
        );
    }
}

#[test]
fn a_server_that_lost_its_watchdogs_is_stopped_by_the_next_start() {
    let folder = folder("orphan");
    let mut holder = Holder::start(Some(&folder));
    holder.kill_watchdogs();
    holder.kill();
    assert!(holder.answers());
    let orphan = holder.server();
    let cluster = Cluster::persistent(&folder).unwrap();
    assert_ne!(holder.server(), orphan);
    cluster.sql("postgres", "select 1").unwrap();
}

#[test]
fn a_stale_pid_file_that_names_a_living_stranger_is_no_obstacle() {
    let folder = folder("stale");
    drop(Cluster::persistent(&folder).unwrap());
    // The shared cluster's server: alive, of the same user, but with other data.
    let stranger = fs::read_to_string(shared().data_folder().join("postmaster.pid")).unwrap();
    fs::write(folder.join("data/postmaster.pid"), stranger).unwrap();
    let cluster = Cluster::persistent(&folder).unwrap();
    cluster.sql("postgres", "select 1").unwrap();
    shared().sql("postgres", "select 1").unwrap();
}

#[test]
fn two_processes_cannot_share_a_persistent_cluster() {
    let folder = folder("twice");
    let holder = Holder::start(Some(&folder));
    let error = Cluster::persistent(&folder)
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with(&format!(
            "is in use by process {}: stop that one first",
            holder.process.id()
        )),
        "{error}"
    );
    assert!(Cluster::remove(&folder).is_err());
    drop(holder.process.stdin);
    wait_until("the other process has let go", || {
        Cluster::remove(&folder).is_ok()
    });
    assert!(!folder.exists());
}
