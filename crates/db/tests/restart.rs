//! PostgreSQL crashes and comes back, again and again, under load: the pool is back with it.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use local_postgres::{Cluster, Stop};
use sqlx::Executor;
use support::{pool_at, settled, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_crashes_are_each_overcome_within_a_second() {
    let server = Cluster::temporary().expect("a server");
    let pool = pool_at(&server.url("postgres"), "connection_limit=8");
    let (stop, served) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let load: Vec<_> = (0..8)
        .map(|_| {
            let (pool, stop, served) = (pool.clone(), stop.clone(), served.clone());
            tokio::spawn(async move {
                while !stop.load(Relaxed) {
                    match pool.execute("select pg_sleep(0.005)").await {
                        Ok(_) => served.fetch_add(1, Relaxed),
                        Err(_) => {
                            // A client that meets a 503 comes back a little later.
                            tokio::time::sleep(Duration::from_millis(5)).await;
                            continue;
                        }
                    };
                }
            })
        })
        .collect();
    until("it runs", async || served.load(Relaxed) > 100).await;
    let mut recoveries = Vec::new();
    for _ in 0..20 {
        let usual = served_in(&served, Duration::from_millis(250)).await / 5;
        server.restart(Stop::Immediate).expect("a restart");
        let up = Instant::now();
        // 95 % of the throughput before, in a window of a fifth of that time.
        until("it serves as before", async || {
            served_in(&served, Duration::from_millis(50)).await * 100 >= usual * 95
        })
        .await;
        recoveries.push(up.elapsed());
    }
    stop.store(true, Relaxed);
    for task in load {
        task.await.expect("no panic");
    }
    recoveries.sort();
    println!(
        "recovered after {recoveries:?}, median {:?}",
        recoveries[10]
    );
    assert!(recoveries[19] < Duration::from_secs(1), "{recoveries:?}");
    settled(&pool).await;
}

/// How many statements are served in this time.
async fn served_in(served: &AtomicU64, time: Duration) -> u64 {
    let before = served.load(Relaxed);
    tokio::time::sleep(time).await;
    served.load(Relaxed) - before
}
