//! `queue_target`: a queue that stays long is cut, so that work goes on at the full pace and nobody waits long.

mod support;

use std::time::{Duration, Instant};

use db::{Error, Pool, QueueLimit};
use futures_util::future::join_all;
use sqlx::Executor;
use support::{pool, settled, until};
use tokio::time::{interval, sleep};

const MS: Duration = Duration::from_millis(1);
/// Room for what a slow machine adds to each time.
const MARGIN: Duration = Duration::from_millis(150);

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

/// Statements a second when each connection always has one.
async fn capacity(pool: &Pool, sql: &'static str) -> f64 {
    let began = Instant::now();
    let workers = (0..pool.stats().limit).map(|_| async {
        let mut done = 0.0;
        while began.elapsed() < Duration::from_secs(1) {
            pool.execute(sql).await.expect("an answer");
            done += 1.0;
        }
        done
    });
    let done: f64 = join_all(workers).await.iter().sum();
    done / began.elapsed().as_secs_f64()
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

/// Ten times as many calls as can be served, for six seconds; the last four count.
async fn overload(parameters: &str, sql: &'static str, statement: Duration, target: Duration) {
    let pool = pool(&format!(
        "{parameters}&queue_target={}ms",
        target.as_millis()
    ));
    let before = capacity(&pool, sql).await;
    let began = Instant::now();
    let calls = open_loop(&pool, sql, before * 10.0, Duration::from_secs(6)).await;
    // Light load: the cut ends.
    let calm = open_loop(&pool, sql, before / 2.0, Duration::from_secs(3)).await;
    let after = capacity(&pool, sql).await;

    let counted = calls
        .iter()
        .filter(|call| call.began > began + 2 * Duration::from_secs(1));
    let (served, refused): (Vec<_>, Vec<_>) = counted.partition(|call| call.error.is_none());
    let goodput = served.len() as f64 / 4.0;
    let (slowest, refusal) = (percentile(&served, 99), percentile(&refused, 99));
    println!(
        "{parameters}, {target:?}: capacity {before:.0}/s, {after:.0}/s after; goodput {goodput:.0}/s, p99 {slowest:?}; \
         refused {}, p50 {:?} p99 {refusal:?}",
        refused.len(),
        percentile(&refused, 50)
    );
    assert!(
        goodput >= 0.9 * before.min(after),
        "{goodput} of {before} or {after} a second"
    );
    assert!(slowest < target + statement + MARGIN, "served: {slowest:?}");
    assert!(
        percentile(&refused, 95) < 10 * MS + MARGIN / 10,
        "refused: {:?}",
        percentile(&refused, 95)
    );
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
        assert!(
            error.retry_after() >= Some(Duration::from_secs(1)),
            "{error:?}"
        );
        assert!(error.to_string().contains("queue_target"), "{error}");
        assert!(
            call.took < target + MARGIN,
            "nobody waits for longer: {call:?}"
        );
    }
    assert!(pool.stats().shed >= refused.len() as u64);

    let last = began + 8 * Duration::from_secs(1);
    let refused = calm
        .iter()
        .filter(|call| call.began > last && call.error.is_some());
    assert_eq!(refused.count(), 0, "two seconds later all is well");
    let burst = 3
        * target.as_millis().div_ceil(statement.as_millis()) as usize
        * pool.stats().limit as usize;
    let burst = join_all((0..burst).map(|_| Call::make(pool.clone(), sql))).await;
    assert!(
        burst.iter().all(|call| call.error.is_none()),
        "a burst may wait again"
    );
    settled(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_queue_serves_at_full_pace_and_refuses_the_others_at_once() {
    overload(
        "connection_limit=2",
        "select pg_sleep(0.01)",
        10 * MS,
        50 * MS,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_shorter_than_the_statements_does_not_switch_the_cut_off_and_on() {
    overload(
        "connection_limit=2",
        "select pg_sleep(0.1)",
        100 * MS,
        20 * MS,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_nobody_leaves_is_cut() {
    let pool = pool("connection_limit=1&queue_target=50ms");
    let held = pool.acquire().await.expect("a lease");
    let calls = open_loop(&pool, "select 1", 100.0, Duration::from_secs(2)).await;
    let errors: Vec<_> = calls.iter().map(|call| call.error.as_ref()).collect();
    assert!(
        errors
            .iter()
            .all(|error| matches!(error, Some(Error::Overloaded { .. }))),
        "{errors:?}"
    );
    let longest = calls.iter().map(|call| call.took).max().expect("calls");
    assert!(
        longest > Duration::from_secs(1),
        "at first it may be a burst: {longest:?}"
    );
    assert!(longest < Duration::from_secs(1) + MARGIN * 2, "{longest:?}");
    drop(held);
    // A burst a second, which is a fifth of what can be done: refused in part at first, served soon.
    let mut bursts = 0;
    until("all is well again", async || {
        bursts += 1;
        sleep(Duration::from_secs(1)).await;
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
    let pool = pool("connection_limit=2");
    let calls = open_loop(
        &pool,
        "select pg_sleep(0.01)",
        500.0,
        Duration::from_secs(3),
    )
    .await;
    let refused = calls.iter().filter(|call| call.error.is_some()).count();
    assert_eq!((refused, pool.stats().shed), (0, 0));
    settled(&pool).await;
}
