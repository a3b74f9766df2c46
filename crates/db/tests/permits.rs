//! Waiting for a connection: bounded, fair, explained, and free for whoever gives up.

mod support;

use std::time::{Duration, Instant};

use db::Error;
use futures_util::future::join_all;
use local_postgres::Cluster;
use sqlx::Executor;
use support::proxy::Proxy;
use support::{plain_with, pool, pool_at, proven, settled, until};
use tokio::time::{sleep, timeout};

const TASKS: usize = 64;

/// Many tasks ask for `pg_sleep(0.01)` again and again, each time for 60 ms at most.
macro_rules! impatient {
    ($pool:expr, $time:expr) => {{
        let deadline = Instant::now() + $time;
        let tasks = (0..TASKS).map(|_| {
            let pool = $pool.clone();
            tokio::spawn(async move {
                while Instant::now() < deadline {
                    let asked = timeout(
                        Duration::from_millis(60),
                        (&pool).execute("select pg_sleep(0.01)"),
                    );
                    if let Ok(Err(_)) = asked.await {
                        // Refused at once. Asking on without a pause takes the processor from the proxy.
                        sleep(Duration::from_millis(1)).await;
                    }
                }
            })
        });
        join_all(tasks).await;
    }};
}

// sqlx's own pool drops the connection that it just got, or is still opening, when its caller gives up
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_give_up_cost_no_connections() {
    let (server, url) = (local_postgres::shared(), local_postgres::database());
    // Connecting takes 30 ms or so, as with TLS over a network.
    let delay = Duration::from_millis(5);

    let proxy = Proxy::start(server.port(), delay).await;
    let theirs = plain_with(
        &proxy.url(&url, server.port()),
        2,
        Duration::from_millis(60),
    );
    impatient!(theirs, Duration::from_secs(1));
    let opened = proxy.connections();
    assert!(
        opened > 10,
        "sqlx's own pool of two opened {opened} connections"
    );

    // Of its own, because theirs may come to the other one after its end.
    let proxy = Proxy::start(server.port(), delay).await;
    let url = proxy.url(&url, server.port());
    let ours = pool_at(&url, "connection_limit=2&pool_timeout=60ms");
    proven(&ours).await;
    let before = proxy.connections() - ours.stats().opened;
    impatient!(ours, Duration::from_secs(3));
    let opened = proxy.connections() - before;
    // Two for the pool, and one beside it that cancels what nobody waits for.
    assert!(
        opened <= 3,
        "{opened} connections were opened: {:?}",
        ours.stats()
    );
    assert!(ours.stats().opened <= 2, "{:?}", ours.stats());
    settled(&ours).await;
}

#[tokio::test]
async fn a_full_pool_says_who_holds_it() {
    let pool = pool("connection_limit=2&pool_timeout=200ms");
    let held = pool.acquire().await.expect("a lease");
    let mut busy = pool.acquire().await.expect("a lease");
    sqlx::query("select 'work'")
        .execute(&mut *busy)
        .await
        .expect("an answer");
    let started = Instant::now();
    let error = pool.acquire().await.expect_err("no connection is free");
    let waited = started.elapsed();
    assert!(
        waited >= Duration::from_millis(200) && waited < Duration::from_millis(400),
        "a contract both ways: {waited:?}"
    );
    let text = error.to_string();
    for part in [
        "Timed out fetching a new connection from the connection pool",
        "connection limit: 2",
        "2 in use, 0 idle",
        "tests/permits.rs:",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(error.is_unavailable() && error.retry_after().is_some());
    assert_eq!(pool.stats().timed_out, 1);
    drop((held, busy));
    settled(&pool).await;
}

#[tokio::test]
async fn a_statement_on_a_full_pool_says_what_runs() {
    let pool = pool("connection_limit=1&pool_timeout=100ms");
    let holder = tokio::spawn({
        let pool = pool.clone();
        async move { pool.execute("select pg_sleep(0.5)").await.map(drop) }
    });
    until("it runs", async || pool.stats().in_use == 1).await;
    let error = Error::from(
        sqlx::query("select 1")
            .execute(&pool)
            .await
            .expect_err("no connection is free"),
    );
    assert!(
        error.to_string().contains("`select pg_sleep(0.5)`"),
        "{error}"
    );
    holder.await.expect("no panic").expect("an answer");
}

#[tokio::test]
async fn a_freed_connection_goes_to_the_first_waiter_at_once() {
    let pool = pool("connection_limit=1");
    let held = pool.acquire().await.expect("a lease");
    let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
    for n in 0..5 {
        let (theirs, send) = (pool.clone(), send.clone());
        tokio::spawn(async move {
            let lease = theirs.acquire().await.expect("a lease");
            send.send(n).expect("a receiver");
            drop(lease);
        });
        until("it waits", async || pool.stats().waiting == n + 1).await;
    }
    until("all wait", async || pool.stats().waiting == 5).await;
    let freed = Instant::now();
    drop(held);
    for n in 0..5 {
        assert_eq!(receive.recv().await, Some(n), "first come, first served");
    }
    assert!(
        freed.elapsed() < Duration::from_millis(200),
        "no polling: {:?}",
        freed.elapsed()
    );
    settled(&pool).await;
}

#[tokio::test]
async fn a_queue_that_is_full_turns_callers_away_at_once() {
    let pool = pool("connection_limit=1&queue_limit=3");
    let held = pool.acquire().await.expect("a lease");
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.acquire().await.map(drop) })
        })
        .collect();
    until("three wait", async || pool.stats().waiting == 3).await;
    let started = Instant::now();
    for _ in 0..10_000 {
        let error = pool.acquire().await.expect_err("the queue is full");
        assert!(
            matches!(error, Error::Overloaded { waiting: 3, .. }),
            "{error:?}"
        );
    }
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "10,000 refusals took {:?}",
        started.elapsed()
    );
    assert_eq!(pool.stats().shed, 10_000);
    drop(held);
    for waiter in waiters {
        waiter
            .await
            .expect("no panic")
            .expect("those in the queue are served");
    }
    settled(&pool).await;
}

#[tokio::test]
async fn a_wait_that_would_be_in_vain_is_refused_at_once() {
    let pool = pool("connection_limit=1&pool_timeout=300ms");
    for _ in 0..20 {
        pool.execute("select pg_sleep(0.2)")
            .await
            .expect("an answer");
    }
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let started = Instant::now();
                (
                    Error::from(pool.execute("select pg_sleep(0.2)").await.err()?),
                    started.elapsed(),
                )
                    .into()
            })
        })
        .collect();
    let refused: Vec<(Error, Duration)> = join_all(tasks)
        .await
        .into_iter()
        .filter_map(|task| task.expect("no panic"))
        .collect();
    let at_once = refused.iter().filter(|(error, after)| {
        matches!(error, Error::Overloaded { .. }) && *after < Duration::from_millis(100)
    });
    assert!(
        at_once.count() >= 2,
        "with 200 ms a statement, who is third in line cannot be served in 300 ms: {refused:?}"
    );
}

#[tokio::test]
async fn the_limit_changes_while_the_pool_runs() {
    let pool = pool("connection_limit=1");
    let first = pool.acquire().await.expect("a lease");
    pool.resize(3);
    let second = pool.acquire().await.expect("room for another");
    let third = pool.acquire().await.expect("and another");
    pool.resize(1);
    drop((second, third));
    until("the surplus is closed", async || pool.stats().open == 1).await;
    assert!(
        timeout(Duration::from_millis(50), pool.acquire())
            .await
            .is_err(),
        "the one permit is taken"
    );
    drop(first);
    settled(&pool).await;
    pool.resize(2);
    settled(&pool).await;
}

#[tokio::test]
async fn a_burst_opens_no_more_than_the_limit() {
    let server = Cluster::temporary().expect("a server");
    let pool = pool_at(
        &server.url("postgres"),
        "connection_limit=5&queue_limit=1000",
    );
    let tasks = (0..1000).map(|_| {
        let pool = pool.clone();
        tokio::spawn(async move { pool.execute("select 1").await.map(drop) })
    });
    for task in join_all(tasks).await {
        task.expect("no panic").expect("an answer");
    }
    assert!(pool.stats().opened <= 5, "{:?}", pool.stats());
    settled(&pool).await;
}

// sqlx's own close waits for ever and leaves idle connections open meanwhile
#[tokio::test]
async fn close_sends_waiters_away_and_ends_in_time() {
    let url = local_postgres::database();
    let theirs = plain_with(&url, 2, Duration::from_secs(5));
    let stuck = theirs.acquire().await.expect("a connection");
    timeout(Duration::from_millis(300), theirs.close())
        .await
        .expect_err("sqlx's own pool waits for what is held");
    drop(stuck);

    let ours = pool_at(&url, "connection_limit=2");
    let (idle, mut held) = (
        ours.acquire().await.expect("a lease"),
        ours.acquire().await.expect("a lease"),
    );
    drop(idle);
    let full = ours.acquire().await.expect("a lease");
    let waiter = tokio::spawn({
        let pool = ours.clone();
        async move { pool.acquire().await.map(drop) }
    });
    until("it waits", async || ours.stats().waiting == 1).await;
    drop(full);
    waiter.await.expect("no panic").expect("served");
    let started = Instant::now();
    let closed = ours.close(Duration::from_secs(2)).await;
    assert!(
        started.elapsed() < Duration::from_millis(2100),
        "{:?}",
        started.elapsed()
    );
    assert_eq!((closed.idle, closed.cut), (1, 1), "{closed:?}");
    assert!(matches!(ours.acquire().await, Err(Error::Closed)));
    sqlx::query("select 1")
        .execute(&mut *held)
        .await
        .expect_err("its session was ended");
    drop(held);
    let left: i64 = sqlx::query_scalar("select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
        .fetch_one(&plain_with(&url, 1, Duration::from_secs(5)))
        .await
        .expect("a count");
    assert!(
        left <= 2,
        "only sqlx's own pool may still hang there: {left}"
    );
}

#[tokio::test]
async fn close_lets_what_runs_finish() {
    let pool = pool("connection_limit=1");
    let running = tokio::spawn({
        let pool = pool.clone();
        async move { pool.execute("select pg_sleep(0.3)").await.map(drop) }
    });
    until("it runs", async || pool.stats().in_use == 1).await;
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.map(drop) }
    });
    until("one waits", async || pool.stats().waiting == 1).await;
    let closed = pool.close(Duration::from_secs(5)).await;
    assert_eq!((closed.finished, closed.cut), (1, 0));
    running.await.expect("no panic").expect("an answer");
    assert!(matches!(
        waiting.await.expect("no panic"),
        Err(Error::Closed)
    ));
    assert_eq!(pool.stats().open, 0);
}

#[tokio::test]
async fn a_pool_timeout_names_the_setting_and_the_time_waited() {
    let pool = support::pool("connection_limit=1&pool_timeout=250ms");
    let held = pool.acquire().await.expect("a lease");
    let error = pool.acquire().await.expect_err("no connection").to_string();
    assert!(
        error.contains("Current connection pool timeout: 250ms"),
        "{error}"
    );
    assert!(error.contains("connection limit: 1)"), "{error}");
    assert!(
        error.contains("Waited 2") || error.contains("Waited 3"),
        "{error}"
    );
    drop(held);
}

#[tokio::test]
async fn slow_work_uses_the_whole_pool_while_nobody_else_asks() {
    let pool = pool("connection_limit=4");
    let work = std::sync::Arc::<db::Work>::default();
    let slow = async |work: &std::sync::Arc<db::Work>| {
        let statement = async { (&pool).execute("select pg_sleep(0.3)").await };
        let done = db::with_work(work.clone(), statement).await;
        done.expect("an answer");
    };
    // Now it is known to be slow.
    slow(&work).await;
    tokio::select! {
        _ = join_all((0..40).map(|_| slow(&work))) => panic!("never more than half were in use"),
        () = until("all are in use", async || pool.stats().in_use == 4) => {}
    }
    settled(&pool).await;
}

#[tokio::test]
async fn slow_work_that_holds_a_connection_gets_another_one() {
    let pool = pool("connection_limit=2");
    let theirs = pool.clone();
    let holder = tokio::spawn(async move {
        let pool = theirs;
        let [slow, other] = [
            std::sync::Arc::<db::Work>::default(),
            std::sync::Arc::default(),
        ];
        let run = async |sql: &'static str| (&pool).execute(sql).await.map(drop);
        let known = db::with_work(slow.clone(), run("select pg_sleep(0.9)")).await;
        known.expect("an answer");
        // Now it is slow, and while others ask too it has one of the two connections.
        let asked = db::with_work(other, run("select 1")).await;
        asked.expect("an answer");
        let both = db::with_work(slow, async {
            let lease = pool.acquire().await.expect("the first");
            let second = timeout(Duration::from_secs(10), run("select 1")).await;
            drop(lease);
            second
        });
        both.await.expect("no wait for itself").expect("an answer");
    });
    holder.await.expect("no panic");
    settled(&pool).await;
}

#[tokio::test]
async fn who_does_other_work_is_not_behind_those_who_wait_for_slow_work() {
    let pool = pool("connection_limit=2");
    let [slow, other] = [
        std::sync::Arc::<db::Work>::default(),
        std::sync::Arc::default(),
    ];
    let run = async |work: &std::sync::Arc<db::Work>, sql: &'static str| {
        let statement = async { (&pool).execute(sql).await };
        let done = db::with_work(work.clone(), statement).await;
        done.expect("an answer");
    };
    run(&slow, "select pg_sleep(1.2)").await;
    let finished = std::cell::Cell::new(0);
    let many = (0..16).map(|_| async {
        run(&slow, "select pg_sleep(0.2)").await;
        finished.set(finished.get() + 1);
    });
    let quick = async {
        until("all wait", async || pool.stats().waiting == 14).await;
        run(&other, "select 1").await;
        finished.get()
    };
    let (_, before) = futures_util::future::join(join_all(many), quick).await;
    assert!(before <= 4, "{before} of 16 went before");
    settled(&pool).await;
}

#[tokio::test]
async fn the_wait_for_a_turn_does_not_count_as_use() {
    let pool = pool("connection_limit=1");
    let slow = std::sync::Arc::<db::Work>::default();
    let run = async |sql: &'static str| {
        let statement = async { (&pool).execute(sql).await };
        let done = db::with_work(slow.clone(), statement).await;
        done.expect("an answer");
    };
    run("select pg_sleep(1.2)").await;
    let finished = std::cell::Cell::new(0);
    let three = (0..3).map(|_| async {
        run("select pg_sleep(1)").await;
        finished.set(finished.get() + 1);
    });
    let prober = async {
        until("the last one runs", async || finished.get() == 2).await;
        let deadline = Instant::now() + Duration::from_millis(200);
        db::with_deadline(deadline, pool.acquire()).await.map(drop)
    };
    let (_, probed) = futures_util::future::join(join_all(three), prober).await;
    let Err(Error::PoolTimeout(error)) = probed else {
        panic!("{probed:?}");
    };
    // It had waited for its turn for two seconds.
    let (_, held) = error.longest.expect("a holder");
    assert!(held < Duration::from_millis(1500), "{held:?}");
    settled(&pool).await;
}
