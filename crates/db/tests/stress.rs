//! The stress test of the puddle kind: many tasks acquire, cancel, break, keep and give back at random while the limit
//! changes; at the end every permit and every connection is accounted for.

mod support;

use std::time::{Duration, Instant};

use db::Pool;
use sqlx::{AssertSqlSafe, Executor};
use support::{dropped_after, pool, settled};
use tokio::time::timeout;

async fn act(pool: &Pool) {
    match fastrand::u8(0..12) {
        0..=4 => {
            if let Ok(mut lease) = pool.acquire().await {
                let _ = lease.fetch_one("select 1").await;
            }
        }
        5 | 6 => drop(
            timeout(
                Duration::from_nanos(fastrand::u64(0..200_000)),
                pool.acquire(),
            )
            .await,
        ),
        7 => drop(dropped_after(fastrand::usize(1..4), pool.begin()).await),
        8 => {
            if let Ok(mut lease) = pool.acquire().await {
                drop(
                    dropped_after(
                        fastrand::usize(1..4),
                        lease.fetch_one("select pg_sleep(0.005)"),
                    )
                    .await,
                );
            }
        }
        9 => {
            if let Ok(lease) = pool.acquire().await {
                lease.close();
            }
        }
        10 => {
            if fastrand::u8(..) < 16 {
                let _ = pool
                    .execute("select pg_terminate_backend(pg_backend_pid())")
                    .await;
            }
        }
        _ => {
            let _ = pool.stats();
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permits_and_connections_balance_after_stress() {
    let pool = pool(
        "connection_limit=6&max_connection_lifetime=1&max_idle_connection_lifetime=1&min_connections=2",
    );
    let until = Instant::now() + Duration::from_secs(4);
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                while Instant::now() < until {
                    act(&pool).await;
                }
            })
        })
        .collect();
    while Instant::now() < until {
        pool.resize(fastrand::u32(1..10));
        let stats = pool.stats();
        assert!(stats.open <= 10 && stats.in_use <= stats.open, "{stats:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    pool.resize(6);
    settled(&pool).await;
    pool.execute(AssertSqlSafe("select 1".to_owned()))
        .await
        .expect("it still works");
}
