//! Instances as processes of their own, under load, and a watch on what the server has of them.

use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use local_postgres::Cluster;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Callers of each instance: more than it can have connections.
const CALLERS: usize = 60;

/// What an instance says of itself ten times a second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Said {
    pub(crate) limit: u32,
    pub(crate) done: u64,
    pub(crate) failed: u64,
}

/// One instance: this test program again, running its ignored test `instance`.
pub(crate) struct Instance {
    process: Child,
    said: Arc<Mutex<Said>>,
}

impl Instance {
    pub(crate) fn start(url: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "--ignored", "--nocapture", "instance"])
            .env("DATABASE_URL", url)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("started");
        let said = Arc::new(Mutex::default());
        let lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        tokio::spawn(listen(lines, said.clone()));
        Self { process, said }
    }

    pub(crate) fn said(&self) -> Said {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn kill(&mut self) {
        self.process.kill().await.expect("killed");
    }

    /// As an orchestrator does it: SIGTERM, and the end of the process.
    pub(crate) async fn stop(&mut self) {
        let id = self.process.id().expect("it runs").to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status().await;
        assert!(told.expect("kill").success());
        let ended = self.process.wait().await.expect("ended");
        assert!(ended.success(), "{ended}");
    }
}

async fn listen(mut lines: Lines<BufReader<ChildStdout>>, said: Arc<Mutex<Said>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(words) = line.strip_prefix("said ") {
            let numbers: Vec<u64> = words.split(' ').flat_map(str::parse).collect();
            let now = Said {
                limit: numbers[0] as u32,
                done: numbers[1],
                failed: numbers[2],
            };
            *said.lock().unwrap_or_else(PoisonError::into_inner) = now;
        } else if line.starts_with("failed") {
            println!("{line}");
        }
    }
}

/// What the process of an instance does, until it is told to stop.
pub(crate) async fn run() {
    let pool = db::pool().expect("a URL");
    let (done, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let stopped = std::sync::atomic::AtomicBool::new(false);
    let callers = (0..CALLERS).map(async |_| {
        while !stopped.load(Relaxed) {
            match sqlx::query("select pg_sleep(0.04)").execute(pool).await {
                Ok(_) => done.fetch_add(1, Relaxed),
                Err(error) => {
                    println!("failed: {error}");
                    failed.fetch_add(1, Relaxed)
                }
            };
        }
    });
    let tell = async {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .expect("a handler");
        loop {
            let (limit, done, failed) =
                (pool.stats().limit, done.load(Relaxed), failed.load(Relaxed));
            println!("said {limit} {done} {failed}");
            let pause = tokio::time::sleep(Duration::from_millis(100));
            tokio::select! {
                () = pause => {}
                _ = term.recv() => break,
            }
        }
        stopped.store(true, Relaxed);
    };
    join(join_all(callers), tell).await;
    let closed = pool.close(Duration::from_secs(5)).await;
    println!("said 0 {} {}", done.load(Relaxed), failed.load(Relaxed));
    assert_eq!(closed.cut, 0);
}

/// Counts the sessions of the server, fifty times a second.
pub(crate) struct Watch {
    began: Instant,
    counts: Arc<Mutex<Vec<(Duration, u32)>>>,
}

impl Watch {
    pub(crate) async fn start(server: &Cluster) -> Self {
        use sqlx::{ConnectOptions, postgres::PgConnectOptions};
        let options: PgConnectOptions = server.url("postgres").parse().expect("a URL");
        let mut connection = options.connect().await.expect("a session");
        let (began, counts) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
        let kept = counts.clone();
        tokio::spawn(async move {
            let sql = "select count(*) from pg_stat_activity where backend_type = 'client backend'";
            // Until the server stops.
            while let Ok(count) = sqlx::query_scalar::<_, i64>(sql)
                .fetch_one(&mut connection)
                .await
            {
                let now = (began.elapsed(), count as u32);
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(now);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self { began, counts }
    }

    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// How many sessions there are.
    pub(crate) fn last(&self) -> u32 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.last().map_or(0, |(_, count)| *count)
    }

    /// The most sessions since then, and the longest time for which there were more than `budget`.
    pub(crate) fn most(&self, since: Duration, budget: u32) -> (u32, Duration) {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut most, mut longest, mut over_since) = (0, Duration::ZERO, None);
        for &(at, count) in counts.iter().filter(|(at, _)| *at >= since) {
            most = most.max(count);
            match count > budget {
                true => longest = longest.max(at - *over_since.get_or_insert(at)),
                false => over_since = None,
            }
        }
        (most, longest)
    }
}
