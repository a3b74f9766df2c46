//! A process that was stopped and goes on: the time in between is nobody's work, and nobody is turned away for it.

mod support;

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use sqlx::{Connection, Executor, PgConnection};
use support::{pool_at, settled, until};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const ROUNDS: usize = 3;
const PAUSE: Duration = Duration::from_secs(4);
const SETTINGS: &str =
    "connection_limit=10&socket_timeout=2&pool_timeout=3&leak_threshold=2s&application_name=paused";

/// This test as a process of its own, that runs nothing but `works`.
fn spawn(url: &str) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "--ignored", "--nocapture", "works"])
        .env("PAUSED_URL", url)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a process")
}

async fn says(lines: &mut Lines<BufReader<ChildStdout>>, what: &str) -> String {
    let said = async {
        while let Some(line) = lines.next_line().await.expect("a line") {
            if line.contains(what) {
                return line;
            }
        }
        panic!("it has ended before it said {what:?}")
    };
    let said = tokio::time::timeout(Duration::from_secs(30), said).await;
    said.unwrap_or_else(|_| panic!("not within 30 s: {what}"))
}

fn signal(name: &str, process: &Child) {
    let pid = process.id().expect("it runs").to_string();
    let sent = std::process::Command::new("kill")
        .args([name, &pid])
        .status();
    assert!(sent.expect("kill").success());
}

#[tokio::test]
async fn after_a_pause_of_the_process_nobody_is_turned_away_by_what_it_measured() {
    let url = local_postgres::database();
    let mut admin = PgConnection::connect(&url).await.expect("a connection");
    admin
        .execute("create table customer (id int)")
        .await
        .expect("made");
    let mut locker = PgConnection::connect(&url).await.expect("a connection");
    let mut process = spawn(&url);
    let mut lines = BufReader::new(process.stdout.take().expect("its output")).lines();
    for _ in 0..ROUNDS {
        says(&mut lines, "ready").await;
        locker.execute("begin").await.expect("begun");
        let lock = "lock table customer in access exclusive mode";
        locker.execute(lock).await.expect("locked");
        signal("-USR1", &process);
        says(&mut lines, "asked").await;
        until("ten wait for the lock", async || {
            waiting(&mut admin).await == 10
        })
        .await;
        signal("-STOP", &process);
        locker.execute("commit").await.expect("unlocked");
        until("they are answered", async || waiting(&mut admin).await == 0).await;
        tokio::time::sleep(PAUSE).await;
        signal("-CONT", &process);
        let result = says(&mut lines, "result").await;
        assert_eq!(
            result,
            "result: 0 of 40 and 0 of 50 failed, 0 shed, 0 timed out, 0 leaked"
        );
    }
    says(&mut lines, "over").await;
    assert!(process.wait().await.expect("its end").success());
}

async fn waiting(admin: &mut PgConnection) -> i64 {
    let sql = "select count(*) from pg_stat_activity where application_name like 'paused%' and wait_event_type = 'Lock'";
    sqlx::query_scalar(sql)
        .fetch_one(admin)
        .await
        .expect("a count")
}

/// How many of these reads fail, all at once.
async fn reads(pool: &db::Pool, count: usize) -> usize {
    let reads = join_all((0..count).map(|_| pool.execute("select count(*) from customer"))).await;
    for error in reads.iter().filter_map(|read| read.as_ref().err()) {
        eprintln!("{error}");
    }
    reads.iter().filter(|read| read.is_err()).count()
}

fn say(what: &str) {
    println!("{what}");
    std::io::stdout().flush().expect("written");
}

#[tokio::test]
#[ignore = "the other test runs it, as a process of its own"]
async fn works() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(url) = std::env::var("PAUSED_URL") else {
        return;
    };
    let pool = pool_at(&url, SETTINGS);
    let mut asked = signal(SignalKind::user_defined1()).expect("a signal");
    for _ in 0..ROUNDS {
        assert_eq!(reads(&pool, 10).await, 0);
        settled(&pool).await;
        say("\nready");
        asked.recv().await;
        let running = tokio::spawn({
            let pool = pool.clone();
            async move { reads(&pool, 40).await }
        });
        until("they run and wait", async || pool.stats().waiting == 30).await;
        say("asked");
        let running = running.await.expect("no panic");
        let at_once = reads(&pool, 50).await;
        let stats = pool.stats();
        say(&format!(
            "result: {running} of 40 and {at_once} of 50 failed, {} shed, {} timed out, {} leaked",
            stats.shed, stats.timed_out, stats.leaked
        ));
    }
    say("over");
}
