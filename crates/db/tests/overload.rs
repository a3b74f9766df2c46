//! `queue_target`: a queue that stays long is cut, so that work goes on at the full pace and nobody waits long.

mod support;

use std::time::{Duration, Instant};

use db::{Error, Pool, QueueLimit};
use futures_util::future::join_all;
use sqlx::Executor;
use support::{pool, settled, until};
use tokio::time::{interval, sleep};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const CONNECTIONS: u32 = 2;
/// Room for what a slow machine adds to each time.
const MARGIN: Duration = Duration::from_millis(100);

/// One call of an open loop.
#[derive(Debug)]
struct Call {
    began: Instant,
    took: Duration,
    error: Option<Error>,
}

impl Call {
    async fn make(pool: Pool, sql: &'static str) -> Self {
        let began = Instant::now();
        let error = pool.execute(sql).await.err().map(Error::from);
        Self {
            began,
            took: began.elapsed(),
            error,
        }
    }
}

/// Statements a second when two connections always have one, and how long almost each of them takes.
async fn capacity(pool: Pool, sql: &'static str, time: Duration) -> (f64, Duration) {
    let began = Instant::now();
    let workers = (0..CONNECTIONS).map(|_| async {
        let mut calls = Vec::new();
        while began.elapsed() < time {
            calls.push(Call::make(pool.clone(), sql).await);
        }
        calls
    });
    let calls: Vec<_> = join_all(workers).await.into_iter().flatten().collect();
    let failed = calls.iter().find(|call| call.error.is_some());
    assert!(
        failed.is_none(),
        "each finds its connection free: {failed:?}"
    );
    let rate = calls.len() as f64 / began.elapsed().as_secs_f64();
    (rate, percentile(&calls.iter().collect::<Vec<_>>(), 99))
}

/// Makes so many calls a second, whether they are answered or not.
async fn open_loop(pool: &Pool, sql: &'static str, rate: f64, time: Duration) -> Vec<Call> {
    let (began, mut calls) = (Instant::now(), Vec::new());
    let mut tick = interval(MS);
    while began.elapsed() < time {
        tick.tick().await;
        while (calls.len() as f64) < rate * began.elapsed().as_secs_f64() {
            calls.push(tokio::spawn(Call::make(pool.clone(), sql)));
        }
    }
    join_all(calls)
        .await
        .into_iter()
        .map(|call| call.expect("no panic"))
        .collect()
}

/// So many of a hundred took no longer.
fn percentile(calls: &[&Call], percent: usize) -> Duration {
    let mut times: Vec<_> = calls.iter().map(|call| call.took).collect();
    times.sort();
    let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(index).copied().unwrap_or_default()
}

/// Ten times as many calls as can be served, for six seconds, of which the last four count, with another pool beside
/// that shows what can be done meanwhile. Says what is wrong with the figures, if anything: they depend on what else the
/// machine does.
async fn overload(statement: Duration, sql: &'static str, target: Duration) -> Result<(), String> {
    let limit = format!("connection_limit={CONNECTIONS}");
    let (pool, beside) = (
        pool(&format!("{limit}&queue_target={}ms", target.as_millis())),
        pool(&limit),
    );
    let possible = f64::from(CONNECTIONS) / statement.as_secs_f64();
    let began = Instant::now();
    let beside = tokio::spawn(async move {
        sleep(2 * SECOND).await;
        capacity(beside, sql, 4 * SECOND).await
    });
    let calls = open_loop(&pool, sql, possible * 10.0, 6 * SECOND).await;
    let (capacity, usual) = beside.await.expect("no panic");
    let counted = calls.iter().filter(|call| call.began > began + 2 * SECOND);
    let (served, refused): (Vec<_>, Vec<_>) = counted.partition(|call| call.error.is_none());
    for call in &refused {
        let error = call.error.as_ref().expect("an error");
        assert!(
            matches!(
                error,
                Error::Overloaded {
                    limit: QueueLimit::Target(_),
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.retry_after() >= Some(SECOND), "{error:?}");
        assert!(error.to_string().contains("queue_target"), "{error}");
    }
    assert!(pool.stats().shed >= refused.len() as u64);

    // A light load, and a burst that has to wait for longer than the target.
    let fell = Instant::now();
    let turns = 3 * target.as_millis().div_ceil(statement.as_millis()) as u32;
    let burst = turns * CONNECTIONS;
    for _ in 0..8 {
        let mut calls = open_loop(&pool, sql, possible / 4.0, SECOND).await;
        calls.extend(join_all((0..burst).map(|_| Call::make(pool.clone(), sql))).await);
        if calls.iter().all(|call| call.error.is_none()) {
            break;
        }
    }
    let recovery = fell.elapsed();
    settled(&pool).await;

    let goodput = served.len() as f64 / 4.0;
    let (slowest, fast, late) = (
        percentile(&served, 99),
        percentile(&refused, 50),
        percentile(&refused, 90),
    );
    let last = refused
        .iter()
        .map(|call| call.took)
        .max()
        .unwrap_or_default();
    let figures = format!(
        "{target:?}: {capacity:.0} can be done in a second, 99 % within {usual:.1?}; {goodput:.0} were, 99 % within \
         {slowest:.1?}; {} refused, half within {fast:.1?}, 90 % within {late:.1?}, the last after {last:.1?}; well again \
         after {recovery:.1?}",
        refused.len(),
    );
    println!("{figures}");
    let good = goodput >= 0.9 * capacity
        && slowest < target + usual + MARGIN
        && late < 10 * MS + usual.saturating_sub(statement)
        && last < target + MARGIN
        && recovery < 6 * SECOND;
    if good { Ok(()) } else { Err(figures) }
}

/// A machine that is busy with something else may spoil an attempt.
async fn one_of_three(statement: Duration, sql: &'static str, target: Duration) {
    let mut spoilt = Vec::new();
    for _ in 0..3 {
        match overload(statement, sql, target).await {
            Ok(()) => return,
            Err(figures) => spoilt.push(figures),
        }
    }
    panic!("{spoilt:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_queue_serves_at_full_pace_and_refuses_the_others_at_once() {
    one_of_three(10 * MS, "select pg_sleep(0.01)", 50 * MS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_shorter_than_the_statements_does_not_switch_the_cut_off_and_on() {
    one_of_three(100 * MS, "select pg_sleep(0.1)", 20 * MS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_nobody_leaves_is_cut() {
    let pool = pool("connection_limit=1&queue_target=50ms");
    let held = pool.acquire().await.expect("a lease");
    let calls = open_loop(&pool, "select 1", 100.0, 2 * SECOND).await;
    let errors: Vec<_> = calls.iter().map(|call| call.error.as_ref()).collect();
    assert!(
        errors
            .iter()
            .all(|error| matches!(error, Some(Error::Overloaded { .. }))),
        "{errors:?}"
    );
    let longest = calls.iter().map(|call| call.took).max().expect("calls");
    assert!(longest > SECOND, "at first it may be a burst: {longest:?}");
    assert!(longest < SECOND + 4 * MARGIN, "{longest:?}");
    drop(held);
    // A burst a second, which is a fifth of what can be done: refused in part at first, served soon.
    let mut bursts = 0;
    until("all is well again", async || {
        bursts += 1;
        sleep(SECOND).await;
        let calls = (0..20).map(|_| Call::make(pool.clone(), "select pg_sleep(0.01)"));
        let calls = join_all(calls).await;
        calls.iter().all(|call| call.error.is_none())
    })
    .await;
    assert!(bursts <= 4, "{bursts} bursts");
    settled(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_target_no_queue_is_cut() {
    let pool = pool("connection_limit=2&pool_timeout=0");
    let calls = open_loop(&pool, "select pg_sleep(0.01)", 300.0, 2 * SECOND).await;
    let refused = calls.iter().filter(|call| call.error.is_some()).count();
    assert_eq!((refused, pool.stats().shed), (0, 0));
    settled(&pool).await;
}
