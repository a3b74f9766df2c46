//! Opening connections: the true cause of a failure, at once, and a pool that heals by itself.

mod support;

use std::time::{Duration, Instant};

use db::{Config, Error, Pool};
use futures_util::future::join_all;
use local_postgres::{Cluster, Stop};
use sqlx::Executor;
use support::proxy::Proxy;
use support::{connect_error, failure, plain_with, pool_at, settled, until};

/// sqlx's own pool of three that live for two seconds.
#[expect(clippy::disallowed_methods, reason = "the comparison is the point")]
async fn plain_aged(url: &str) -> sqlx::PgPool {
    let options = sqlx::postgres::PgPoolOptions::new()
        .min_connections(3)
        .max_connections(3);
    options
        .max_lifetime(Duration::from_secs(2))
        .connect(url)
        .await
        .expect("a connection")
}

// 1.3, peers 2: sqlx's own pool says "pool timed out" for a port where nobody listens
#[tokio::test]
async fn each_cause_is_named() {
    let url = local_postgres::database();
    let database = url.rsplit('/').next().expect("a database").to_owned();
    let refused = "postgres://u:p@127.0.0.1:1/x";
    let theirs = plain_with(refused, 1, Duration::from_millis(300))
        .acquire()
        .await
        .expect_err("no connection");
    assert!(matches!(theirs, sqlx::Error::PoolTimedOut), "{theirs}");
    let text = failure(refused, "").await;
    assert!(
        text.contains("Can't reach database server at `127.0.0.1:1`") && text.contains("refused"),
        "{text}"
    );

    let wrong =
        url.replacen("postgres:", "postgres:x", 2)
            .replacen("postgres:x//", "postgres://", 1);
    let text = failure(&wrong, "").await;
    assert!(
        text.contains("Authentication failed") && text.contains("`postgres`"),
        "{text}"
    );

    let text = failure(&url.replace(&database, "nowhere"), "").await;
    assert!(text.contains("Database `nowhere` does not exist"), "{text}");

    let text = failure(&url, "sslmode=require").await;
    assert!(text.contains("TLS"), "{text}");

    let text = failure("postgres://u:p@localhost/x?host=/nowhere", "").await;
    assert!(
        text.contains("Can't reach database server at `/nowhere`"),
        "{text}"
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_named_as_such_within_connect_timeout() {
    let server = local_postgres::shared();
    let proxy = Proxy::start(server.port(), Duration::ZERO).await;
    proxy.swallow(true);
    let pool = pool_at(
        &proxy.url(&local_postgres::database(), server.port()),
        "connect_timeout=300ms",
    );
    let started = Instant::now();
    let error = connect_error(pool.acquire().await.expect_err("no connection"));
    assert!(
        error.contains("no answer within connect_timeout"),
        "{error}"
    );
    assert!(
        started.elapsed() < Duration::from_millis(600),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_heals_when_the_database_comes() {
    let server = Cluster::temporary().expect("a server");
    let url = server.url("postgres");
    server.stop(Stop::Fast).expect("a stop");
    let theirs = plain_with(&url, 1, Duration::from_secs(30));
    let theirs = tokio::spawn(async move { theirs.acquire().await.map(|_| Instant::now()) });
    let down = Instant::now();
    let pool = pool_at(&url, "connection_limit=4");
    pool.acquire().await.expect_err("nobody listens");
    let started = Instant::now();
    for _ in 0..1000 {
        pool.acquire().await.expect_err("nobody listens");
    }
    assert!(
        started.elapsed() < Duration::from_millis(500),
        "everyone else fails fast: {:?}",
        started.elapsed()
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    let failed = pool.stats().connect_failed;
    assert!(
        failed < 30,
        "one task with growing pauses, not {failed} attempts"
    );
    let text = pool.check().await.expect_err("not ready").to_string();
    assert!(text.contains("Can't reach database server"), "{text}");
    // sqlx's own pool tries after 10, 30, 70 … 1270, 2550 and 5110 ms.
    tokio::time::sleep(Duration::from_millis(2600).saturating_sub(down.elapsed())).await;
    server.start().expect("a start");
    let up = Instant::now();
    until("it heals", async || pool.execute("select 1").await.is_ok()).await;
    assert!(up.elapsed() < Duration::from_secs(1), "{:?}", up.elapsed());
    settled(&pool).await;
    let theirs = theirs.await.expect("no panic").expect("a connection");
    assert!(
        theirs > up + Duration::from_secs(1),
        "sqlx's own pool came back after {:?}",
        theirs - up
    );
}

#[tokio::test]
async fn a_server_without_room_does_not_stop_a_pool_that_has_connections() {
    let server = Cluster::temporary_with(&[
        ("max_connections", "8"),
        ("superuser_reserved_connections", "0"),
    ])
    .expect("a server");
    let url = server.url("postgres");
    let theirs = plain_with(&url, 6, Duration::from_secs(2));
    let hogs: Vec<_> = join_all((0..6).map(|_| theirs.acquire())).await;
    // Whoever has decided to connect never looks at the idle connections again.
    let stubborn = plain_with(&url, 8, Duration::from_millis(300));
    let results = join_all((0..200).map(|_| stubborn.execute("select pg_sleep(0.001)"))).await;
    assert!(
        results.iter().any(Result::is_err),
        "sqlx's own pool fails callers although it has connections"
    );
    stubborn.close().await;

    let pool = pool_at(&url, "connection_limit=8&queue_limit=1000");
    let results = join_all((0..200).map(|_| pool.execute("select pg_sleep(0.001)"))).await;
    let failed = results.into_iter().filter(Result::is_err).count();
    assert_eq!(failed, 0, "two connections serve everybody");
    drop(hogs);
}

#[tokio::test]
async fn a_full_pool_does_not_starve_the_check() {
    let pool = pool_at(&local_postgres::database(), "connection_limit=1");
    let held = pool.acquire().await.expect("a lease");
    for _ in 0..3 {
        tokio::time::timeout(Duration::from_secs(1), pool.check())
            .await
            .expect("in time")
            .expect("ready");
    }
    drop(held);
    pool.check().await.expect("ready");
    settled(&pool).await;
}

#[tokio::test]
async fn connections_are_opened_ahead_and_go_when_idle() {
    let pool = pool_at(
        &local_postgres::database(),
        "connection_limit=6&min_connections=3&max_idle_connection_lifetime=1",
    );
    drop(pool.acquire().await.expect("a lease"));
    until("three are open", async || pool.stats().open == 3).await;
    drop(join_all((0..6).map(|_| pool.acquire())).await);
    assert_eq!(pool.stats().open, 6);
    until("idle ones go, down to the minimum", async || {
        pool.stats().open == 3
    })
    .await;
    settled(&pool).await;
}

#[tokio::test]
async fn old_connections_are_replaced_one_by_one_in_the_background() {
    let pool = pool_at(
        &local_postgres::database(),
        "connection_limit=4&min_connections=3&max_connection_lifetime=2",
    );
    drop(pool.acquire().await.expect("a lease"));
    until("three are open", async || pool.stats().open == 3).await;
    let started = Instant::now();
    let mut least = 3;
    until("all were replaced", async || {
        let stats = pool.stats();
        least = least.min(stats.open);
        stats.closed[db::CloseReason::Lifetime as usize] >= 3
    })
    .await;
    assert!(
        started.elapsed() > Duration::from_millis(1500),
        "not before their time"
    );
    assert_eq!(least, 3, "the new one comes before the old one goes");

    let url = local_postgres::database();
    let _theirs = plain_aged(&url).await;
    let (watcher, started) = (plain_with(&url, 1, Duration::from_secs(5)), Instant::now());
    let spread = "select coalesce(extract(epoch from max(backend_start) - min(backend_start)), 0)::float8,
                         coalesce(extract(epoch from now() - min(backend_start)), 99)::float8
                    from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    let mut ages = (9.0, 9.0);
    until("sqlx's own pool has replaced them all", async || {
        ages = sqlx::query_as::<_, (f64, f64)>(spread)
            .fetch_one(&watcher)
            .await
            .expect("ages");
        ages.1 + 1.5 < started.elapsed().as_secs_f64()
    })
    .await;
    assert!(
        ages.0 < 0.5,
        "sqlx's own pool replaces them together: {} s apart",
        ages.0
    );
    settled(&pool).await;
}

/// Re-runs this very test as a process of its own with `variable` set: the environment of this one is shared.
fn with_environment(test: &str, variable: &str, value: &str) {
    let exe = std::env::current_exe().expect("this program");
    let output = std::process::Command::new(exe)
        .args(["--exact", test, "--nocapture"])
        .env_remove("DATABASE_URL")
        .env(variable, value)
        .output()
        .expect("a process");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_password_fails_no_request() {
    let Some(file) = std::env::var_os("DATABASE_URL_FILE") else {
        let server = Cluster::temporary().expect("a server");
        let file = std::env::temp_dir().join(format!("rotated-{}", server.port()));
        std::fs::write(&file, server.url("postgres")).expect("a file");
        let name = file.to_str().expect("a name").to_owned();
        with_environment(
            "a_rotated_password_fails_no_request",
            "DATABASE_URL_FILE",
            &name,
        );
        std::fs::remove_file(file).expect("the file");
        return;
    };
    let url = std::fs::read_to_string(&file).expect("a URL");
    let (head, rest) = url.split_once("://postgres:").expect("a user");
    let password = rest.split('@').next().expect("a password").to_owned();
    // A lifetime of nothing, so that new connections are opened all the time.
    std::fs::write(
        &file,
        format!("{url}?connection_limit=4&max_connection_lifetime=1ms"),
    )
    .expect("written");
    let pool = Pool::new(Config::from_env().expect("a configuration"));
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let load = (0..4).map(|_| {
        let (pool, stop) = (pool.clone(), stop.clone());
        tokio::spawn(async move {
            let mut served = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let mut lease = pool.acquire().await?;
                lease.fetch_one("select 1").await?;
                // Not given back, so that the next one has to be opened.
                lease.close();
                served += 1;
            }
            Ok::<_, Error>(served)
        })
    });
    let load: Vec<_> = load.collect();
    for n in 0..3 {
        // Rotations do not overtake each other: the last password is in use before the next one is made.
        let opened = pool.stats().opened;
        until("new connections were opened", async || {
            pool.stats().opened > opened + 20
        })
        .await;
        let new = format!("{password}{n}");
        let next = format!("{head}://postgres:{new}{}", &rest[password.len()..]);
        std::fs::write(&file, next).expect("written");
        pool.execute(sqlx::AssertSqlSafe(format!(
            "alter role postgres password '{new}'"
        )))
        .await
        .expect("rotated");
    }
    let opened = pool.stats().opened;
    until("new connections were opened", async || {
        pool.stats().opened > opened + 20
    })
    .await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for task in load {
        let served = task.await.expect("no panic").expect("no failed request");
        assert!(served > 10, "{served}");
    }
}

#[tokio::test]
async fn the_process_has_one_pool() {
    if std::env::var_os("DATABASE_URL_FILE").is_some() || std::env::var_os("DATABASE_URL").is_none()
    {
        return with_environment(
            "the_process_has_one_pool",
            "DATABASE_URL",
            &local_postgres::database(),
        );
    }
    let tasks = (0..32)
        .map(|_| tokio::spawn(async { std::ptr::from_ref(db::pool().expect("a pool")) as usize }));
    let pools: Vec<usize> = join_all(tasks)
        .await
        .into_iter()
        .map(|pool| pool.expect("no panic"))
        .collect();
    assert!(pools.iter().all(|pool| *pool == pools[0]));
    db::pool()
        .expect("a pool")
        .execute("select 1")
        .await
        .expect("it works");
}
