//! The example `outbox`, killed between each pair of its statements and a hundred times at random: nothing is lost, and
//! nothing done twice.

#[path = "../examples/outbox.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod outbox;
mod support;

use std::process::Stdio;
use std::time::Duration;

use db::Pool;
use futures_util::future::join_all;
use support::proxy::Proxy;
use support::{dropped_after, pool_at, settled, until};

async fn shop(url: &str) -> (Pool, Pool) {
    let shop = pool_at(url, "connection_limit=4");
    sqlx::raw_sql(outbox::TABLES)
        .execute(&shop)
        .await
        .expect("tables");
    (shop, pool_at(url, "connection_limit=2"))
}

/// Orders, jobs that are left, deliveries, and orders that were delivered.
async fn counts(shop: &Pool) -> (i64, i64, i64, i64) {
    let sql = "select (select count(*) from orders), (select count(*) from outbox), (select count(*) from delivered),
        (select count(distinct order_id) from delivered)";
    sqlx::query_as(sql).fetch_one(shop).await.expect("counts")
}

#[tokio::test]
async fn killed_anywhere_an_order_is_placed_and_delivered_once() {
    // With a way to the server that takes its time, so that each statement has to wait for its answer.
    let port = local_postgres::shared().port();
    let proxy = Proxy::start(port, Duration::from_millis(1)).await;
    let (shop, other) = shop(&proxy.url(&local_postgres::database(), port)).await;
    let (mut polls, mut killed) = (1, 0);
    // Until both come to their end in so many steps.
    loop {
        let key = format!("order {polls}");
        let placed = dropped_after(polls, outbox::place(&shop, &key, "tea")).await;
        let again = outbox::place(&shop, &key, "tea").await.expect("placed");
        let worked = dropped_after(polls, outbox::work_one(&shop, &other)).await;
        killed += u32::from(placed.is_none()) + u32::from(worked.is_none());
        // What was dropped gives its row free in the background.
        until("all is delivered", async || {
            while outbox::work_one(&shop, &other).await.expect("worked") {}
            counts(&shop).await == (polls as i64, 0, polls as i64, polls as i64)
        })
        .await;
        if let (Some(placed), Some(_)) = (placed, worked) {
            assert_eq!(placed.expect("placed"), again, "the same order");
            break;
        }
        polls += 1;
    }
    // A begin, three or four statements and a commit each, and every one of them waits at least once.
    assert!(killed >= 8, "killed at {killed} places only");
    settled(&shop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_workers_killed_at_random_lose_and_double_nothing() {
    const KILLS: i64 = 100;
    let url = local_postgres::database();
    let (shop, _) = shop(&url).await;
    let start = || {
        let mut worker =
            tokio::process::Command::new(std::env::current_exe().expect("this program"));
        worker
            .args(["--exact", "--ignored", "worker"])
            .env("DATABASE_URL", &url);
        worker
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("started")
    };
    let kill_some = async |hand: i64| {
        for number in 0..KILLS / 2 {
            let mut worker = start();
            for part in 0..8 {
                let key = format!("{hand} {number} {part}");
                outbox::place(&shop, &key, "tea").await.expect("placed");
            }
            let before = counts(&shop).await.2;
            until("workers work", async || counts(&shop).await.2 > before).await;
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..12))).await;
            worker.kill().await.expect("killed");
        }
    };
    join_all([kill_some(1), kill_some(2)]).await;
    let (orders, left, ..) = counts(&shop).await;
    println!("{KILLS} killed; {left} of {orders} jobs left for the last one");
    assert!(left < orders, "they had work");
    let mut last = start();
    until("all is delivered", async || {
        counts(&shop).await == (8 * KILLS, 0, 8 * KILLS, 8 * KILLS)
    })
    .await;
    last.kill().await.expect("killed");
}

#[tokio::test]
#[ignore = "run and killed by the test above"]
async fn worker() {
    let (shop, other) = (
        db::pool().expect("a URL"),
        Pool::new(db::Config::from_env().expect("a URL")),
    );
    outbox::work(shop, &other).await.expect("never ends");
}
