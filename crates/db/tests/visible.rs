//! What the pool shows: numbers that agree with each other, and a word in the log where somebody should look.
#![cfg(feature = "metrics")]

mod support;

use std::cell::RefCell;
use std::io::Write;
use std::sync::{Arc, Once};
use std::time::Duration;

use sqlx::Executor;
use support::{pool, settled, until};

thread_local! {
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What this thread logs, which is what its test and its pool do. One subscriber writes for all: `tracing` can leave out a
/// place in the code that one test meets first while another makes a subscriber.
struct Log;

impl Log {
    fn start() -> Self {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            tracing_subscriber::fmt()
                .with_env_filter("info,db::query=debug")
                .with_ansi(false)
                .with_writer(|| Self)
                .init();
        });
        Self
    }

    fn count(&self, text: &str) -> usize {
        LOG.with_borrow(|log| String::from_utf8_lossy(log).matches(text).count())
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.with_borrow_mut(|log| log.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_numbers_agree_with_each_other() {
    let pool = pool("connection_limit=3&pool_timeout=50ms");
    let empty = pool.stats();
    assert_eq!((empty.limit, empty.open, empty.acquired), (3, 0, 0));
    let leases = [
        pool.acquire().await.expect("a lease"),
        pool.acquire().await.expect("a lease"),
        pool.acquire().await.expect("a lease"),
    ];
    pool.acquire().await.expect_err("full");
    let full = pool.stats();
    assert_eq!(
        (
            full.open,
            full.in_use,
            full.idle,
            full.acquired,
            full.timed_out,
            full.opened
        ),
        (3, 3, 0, 3, 1, 3)
    );
    drop(leases);
    let idle = pool.stats();
    assert_eq!(
        (idle.open, idle.in_use, idle.idle, idle.waiting),
        (3, 0, 3, 0)
    );
    settled(&pool).await;
}

#[tokio::test]
async fn a_connection_held_too_long_is_reported_once_and_once_more_when_it_comes_back() {
    let log = Log::start();
    let pool = pool("connection_limit=2&leak_threshold=100ms");
    let lease = pool.acquire().await.expect("a lease");
    until("it is reported", async || log.count("event=\"leak\"") > 0).await;
    assert_eq!(
        log.count("tests/visible.rs:"),
        1,
        "with the place that took it"
    );
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(log.count("longer than leak_threshold"), 1, "once");
    assert_eq!(pool.stats().leaked, 1);
    drop(lease);
    assert_eq!(log.count("came back after"), 1);
    settled(&pool).await;
}

#[tokio::test]
async fn a_task_that_asks_for_a_second_connection_is_warned_of() {
    let log = Log::start();
    let pool = pool("connection_limit=2");
    let task = pool.clone();
    // A task of its own, on this thread, so that its log is seen.
    tokio::spawn(async move {
        let held = task.acquire().await.expect("a lease");
        task.execute("select 1").await.expect("an answer");
        drop(held);
        task.execute("select 1").await.expect("an answer");
    })
    .await
    .expect("no panic");
    assert_eq!((log.count("asks for another"), pool.stats().nested), (1, 1));
}

#[tokio::test]
async fn a_slow_statement_is_logged_without_its_arguments() {
    let log = Log::start();
    let pool = pool("connection_limit=1&slow_statement_threshold=50ms");
    sqlx::query("select pg_sleep(0.08), $1")
        .bind("canary")
        .execute(&pool)
        .await
        .expect("an answer");
    sqlx::query("select $1")
        .bind("canary")
        .execute(&pool)
        .await
        .expect("an answer");
    assert_eq!(log.count("slow statement: select pg_sleep(0.08), $1"), 1);
    assert_eq!(log.count("rows=1 sql="), 1);
    assert_eq!(log.count("canary"), 0);
}

#[tokio::test]
async fn each_statement_is_logged_on_request_without_its_arguments() {
    let log = Log::start();
    let pool = pool("connection_limit=1");
    sqlx::query("select $1, $2")
        .bind("canary")
        .bind(2)
        .execute(&pool)
        .await
        .expect("an answer");
    pool.execute("select 1 / 0")
        .await
        .expect_err("no such number");
    assert_eq!(log.count("DEBUG db::query: select $1, $2 ("), 1);
    assert_eq!(log.count("ms, 1 rows, after a wait of "), 1);
    assert_eq!(log.count("error=\"22012\""), 1);
    assert_eq!(log.count("canary"), 0);
}

#[tokio::test]
async fn what_an_operator_must_know_is_an_event_and_no_flood() {
    let log = Log::start();
    let pool = pool("connection_limit=1&pool_timeout=100ms&queue_limit=20");
    let held = pool.acquire().await.expect("a lease");
    let crowd: Vec<_> = (0..30)
        .map(|each| {
            let pool = pool.clone();
            tokio::spawn(async move {
                loop {
                    pool.acquire().await.expect_err("full");
                    // Not all at one time.
                    tokio::time::sleep(Duration::from_millis(1 + each)).await;
                }
            })
        })
        .collect();
    until("it is told", async || {
        log.count("event=\"pool_full\"") == 1
            && log.count("event=\"pool_timeout\"") > 0
            && log.count("event=\"overload\"") > 0
    })
    .await;
    for task in crowd {
        task.abort();
    }
    drop(held);
    until("it is over", async || {
        log.count("event=\"pool_full_over\"") == 1
    })
    .await;
    assert!(log.count("The pool is full: ") >= 3, "in the same words");
    // Once a second each, and it took some seconds; thirty callers failed hundreds of times.
    let told = log.count("event=\"pool_timeout\"") + log.count("event=\"overload\"");
    assert!(told < 20, "{told} lines");
    assert!(pool.stats().timed_out + pool.stats().shed > 100);
}

#[tokio::test]
async fn the_numbers_reach_the_metrics_facade() {
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let pool = metrics::with_local_recorder(&recorder, || pool("connection_limit=2"));
    let held = pool.acquire().await.expect("a lease");
    pool.execute("select 1").await.expect("an answer");
    let failing = Box::pin(pool.execute("select 1 / 0"));
    Recorded(&recorder, failing)
        .await
        .expect_err("no such number");
    drop(held);
    let work = Arc::new(db::Work::default());
    work.name("GET /things", ("http.route", "/things"));
    // Histograms of a label or of an error are looked up at their first use.
    let labelled = Box::pin(db::with_work(work, pool.execute("select 1")));
    Recorded(&recorder, labelled).await.expect("an answer");
    settled(&pool).await;
    pool.examine().await.expect("a report");
    metrics::with_local_recorder(&recorder, || pool.publish());
    let text = snapshot(&snapshotter, &pool);
    for expected in [
        "db.client.connection.count, [POOL, db.client.connection.state = idle]) Gauge(2.0)",
        "db.client.connection.count, [POOL, db.client.connection.state = used]) Gauge(0.0)",
        "db.client.connection.max, [POOL]) Gauge(2.0)",
        "db.client.connection.leaks, [POOL]) Counter(0)",
        "db.client.database.up, [POOL]) Gauge(1.0)",
        "db.server.sessions, [POOL]) Gauge(",
        "db.server.sessions.max, [POOL]) Gauge(",
        "db.client.operation.duration, [db.system.name = postgresql, db.namespace = postgres]) Histogram([",
        "db.client.operation.duration, [db.system.name = postgresql, db.namespace = postgres, error.type = 22012]) Histogram([",
        "db.client.connection.wait_time, [POOL]) Histogram([",
        "db.client.connection.wait_time, [POOL, http.route = /things]) Histogram([",
        "db.client.connection.create_time, [POOL]) Histogram([",
        "db.client.connection.use_time, [POOL]) Histogram([",
        "db.client.connection.use_time, [POOL, http.route = /things]) Histogram([",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
}

/// Every key and value that was recorded, a line each; its own names are cut short.
fn snapshot(snapshotter: &metrics_util::debugging::Snapshotter, pool: &db::Pool) -> String {
    let seen: Vec<String> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, .., value)| format!("{} {value:?}", key.key()))
        .collect();
    let label = format!("db.client.connection.pool.name = {}", pool.name());
    let text = seen.join("\n").replace(&label, "POOL");
    text.replace(pool.config().database(), "postgres")
}

/// Polls a future with a recorder.
struct Recorded<'a, F>(&'a metrics_util::debugging::DebuggingRecorder, F);

impl<F: Future + Unpin> Future for Recorded<'_, F> {
    type Output = F::Output;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<F::Output> {
        let Self(recorder, future) = &mut *self;
        metrics::with_local_recorder(*recorder, || std::pin::Pin::new(future).poll(context))
    }
}

#[tokio::test]
async fn the_doctor_knows_the_server_and_the_pool() {
    let report = pool("connection_limit=3")
        .examine()
        .await
        .expect("a report");
    let text = report.to_string();
    for part in [
        "this pool takes up to 3 of the",
        "instances × limit",
        "cores × 2 + spindles",
        "ok           TLS: off, on this machine",
        "ok           pooler: none",
        "ok           limit: connection_limit is set, to 3",
        "change       role: postgres is a superuser",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    // Of a role that is no superuser it says what it may do beyond its own tables.
    let url = local_postgres::database();
    let (_, rest) = url.split_once("://postgres:").expect("a password");
    let (password, at) = rest.split_once('@').expect("a host");
    let role = format!("role_of_{}", std::process::id());
    let create = format!("create role {role} login createdb bypassrls password '{password}'");
    let admin = support::pool_at(&url, "connection_limit=1");
    sqlx::query(sqlx::AssertSqlSafe(create))
        .execute(&admin)
        .await
        .expect("a role");
    let of_role = format!("postgres://{role}:{password}@{at}");
    let report = support::pool_at(&of_role, "connection_limit=1")
        .examine()
        .await;
    let text = report.expect("a report").to_string();
    let expected = format!("change       role: {role} has CREATEDB, BYPASSRLS: give the service");
    assert!(text.contains(&expected), "{text}");

    let report = pool("connection_limit=9000&lock_timeout=1min")
        .examine()
        .await
        .expect("a report");
    assert_eq!(report.warnings.len(), 2, "{report}");
}
