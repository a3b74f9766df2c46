//! Instances that share what the server has for all of them.

mod support;

use std::time::{Duration, Instant};

use db::{Config, Limits, Pool};
use futures_util::future::join_all;
use local_postgres::{Cluster, Stop};
use sqlx::Executor;
use support::instances::{Instance, Said, Watch, run};
use support::{pool_at, until};

/// Four fifths of the 97 that are not reserved for superusers.
const BUDGET: u32 = 77;

fn server() -> Cluster {
    Cluster::temporary_with(&[("max_connections", "100")]).expect("a server")
}

/// The limits of pools when they are at rest: equal within one, and all of `budget` taken but for a rest that cannot be
/// divided.
async fn settled(pools: &[&Pool], budget: u32) -> Vec<u32> {
    let limits = || {
        pools
            .iter()
            .map(|pool| pool.stats().limit)
            .collect::<Vec<_>>()
    };
    until("the shares are equal and take all", async || {
        let limits = limits();
        let all = limits.iter().sum::<u32>() + pools.len() as u32;
        let equal = limits.iter().max().zip(limits.iter().min());
        equal.is_some_and(|(most, least)| most - least <= 1) && all == budget
    })
    .await;
    limits()
}

#[tokio::test]
async fn pools_share_the_budget_and_follow_each_other() {
    let server = server();
    let url = server.url("postgres");
    let follower = async || {
        let pool = pool_at(&url, "connection_limit=auto&connection_limit_max=100");
        drop(pool.acquire().await.expect("a connection"));
        pool
    };
    let first = follower().await;
    until("a quarter is there at once", async || {
        first.stats().limit == 19
    })
    .await;
    assert_eq!(settled(&[&first], BUDGET).await, [76]);
    let (second, third) = (follower().await, follower().await);
    let mut limits = settled(&[&first, &second, &third], BUDGET).await;
    limits.sort_unstable();
    assert_eq!(limits, [24, 25, 25], "and a control connection each");
    // Another program's sessions count, whoever it is.
    let others = pool_at(
        &url,
        "connection_limit=6&application_name=psql&pgbouncer=true",
    );
    let held = join_all((0..6).map(|_| others.acquire())).await;
    settled(&[&first, &second, &third], BUDGET - 6).await;
    drop(held);
    others.close(Duration::ZERO).await;
    second.close(Duration::from_secs(1)).await;
    third.close(Duration::from_secs(1)).await;
    assert_eq!(settled(&[&first], BUDGET).await, [76]);
}

#[tokio::test]
async fn a_role_that_sees_little_counts_the_others_all_the_same() {
    let server = server();
    let sql = "create role shop login password 'shop' connection limit 50";
    server.sql("postgres", sql).expect("a role");
    let superuser = pool_at(&server.url("postgres"), "connection_limit=40");
    let held = join_all((0..40).map(|_| superuser.acquire())).await;
    let url = format!("postgres://shop:shop@127.0.0.1:{}/postgres", server.port());
    let pool = pool_at(&url, "connection_limit=auto&connection_limit_max=100");
    drop(pool.acquire().await.expect("a connection"));
    // 77 without the 40 of the superuser, which is less than four fifths of the role's own 50.
    settled(&[&pool], BUDGET - 40).await;
    drop(held);
    superuser.close(Duration::from_secs(1)).await;
    settled(&[&pool], 40).await;
    let seen = pool.server().expect("limits");
    assert_eq!(
        (seen.usable, seen.budget, seen.instances, seen.taken),
        (50, 40, 1, 40)
    );
}

#[tokio::test]
async fn fixed_limits_count_in_full_and_are_reported() {
    let server = server();
    let url = server.url("postgres");
    let fixed = pool_at(&url, "connection_limit=50&application_name=shop");
    let name: String = sqlx::query_scalar("show application_name")
        .fetch_one(&fixed)
        .await
        .expect("a name");
    assert!(
        name.starts_with("shop #") && name.ends_with(" 50"),
        "{name}"
    );
    let follower = pool_at(&url, "connection_limit=auto");
    drop(follower.acquire().await.expect("a connection"));
    settled(&[&follower], BUDGET - 50).await;
    let report = fixed.examine().await.expect("a report");
    let seen = fixed.server().expect("limits");
    assert_eq!((seen.instances, seen.taken), (2, BUDGET));
    assert!(
        report.summary.contains("this is one of 2 instances"),
        "{}",
        report.summary
    );
    assert_eq!(report.warnings, [""; 0]);
    let another = pool_at(&url, "connection_limit=50");
    let report = another.examine().await.expect("a report").to_string();
    let expected = "3 instances may take 127 connections, and others have 0 open: more than the 77 there are for all: lower \
                    connection_limit";
    assert!(report.contains(expected), "{report}");
    until("it has what is always its", async || {
        follower.stats().limit == 1
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_cannot_see_the_others_opens_nothing_more() {
    let server = server();
    // Beside other tests fifty at once may take longer than the default.
    let parameters = "connection_limit=auto&connect_timeout=20";
    let pool = pool_at(&server.url("postgres"), parameters);
    drop(pool.acquire().await.expect("a connection"));
    until("it has its share", async || pool.stats().limit == 50).await;
    // Held, so that each needs its own however slowly they are opened.
    let held = join_all((0..50).map(|_| pool.acquire())).await;
    let failed: Vec<_> = held.iter().filter_map(|one| one.as_ref().err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let at_once = Limits {
        wait: Some(Duration::ZERO),
        ..Limits::default()
    };
    let more = pool.with(at_once).acquire().await;
    assert!(more.is_err(), "that is one more than its share");
    assert_eq!(pool.stats().open, 50);
    drop((held, more));
    server.stop(Stop::Immediate).expect("stopped");
    let stopped = Instant::now();
    // Longer than three looks.
    while stopped.elapsed() < Duration::from_secs(4) {
        assert!(pool.execute("select 1").await.is_err(), "it is stopped");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.start().expect("started");
    until("it is back", async || {
        pool.execute("select 1").await.is_ok()
    })
    .await;
    let begun = Instant::now();
    let slow = (0..60).map(|_| pool.execute("select pg_sleep(0.2)"));
    let done = join_all(slow).await;
    assert!(done.iter().all(Result::is_ok));
    let open = pool.stats().open;
    assert!(
        open <= 19,
        "{open}, with no time to see whether others have the rest"
    );
    until("it has its share", async || pool.stats().limit == 50).await;
    println!("all of its share {:?} after the outage", begun.elapsed());
}

#[tokio::test]
async fn a_part_for_sqlxs_own_pool_waits_until_there_is_a_share() {
    let server = server();
    let pool = pool_at(&server.url("postgres"), "connection_limit=auto");
    let report = pool.examine().await.expect("a report");
    assert!(
        report
            .summary
            .contains("takes up to 50, its share, of the 77"),
        "{}",
        report.summary
    );
    let theirs = pool.sqlx_pool(3).await.expect("a part");
    theirs.execute("select 1").await.expect("an answer");
    until("the rest is its own", async || pool.stats().limit == 47).await;
    pool.close(Duration::from_secs(1)).await;
    until("all sessions have ended", async || {
        let sql = "select count(*) from pg_stat_activity where application_name ~ ' #'";
        server.sql("postgres", sql).expect("a count") == "0"
    })
    .await;
}

#[tokio::test]
async fn behind_a_pooler_the_limit_is_the_default() {
    let url = local_postgres::database();
    let pool = pool_at(&url, "connection_limit=auto&pgbouncer=true");
    drop(pool.acquire().await.expect("a connection"));
    assert_eq!(pool.stats().limit, 10);
}

/// The whole proof: processes under load, killed and replaced.
struct Fleet {
    url: String,
    watch: Watch,
    live: Vec<Instance>,
    /// What those have said last that are gone.
    gone: Vec<Said>,
    _server: Cluster,
}

impl Fleet {
    async fn start() -> Self {
        let server = server();
        server
            .sql("postgres", "create role shop login password 'shop'")
            .expect("a role");
        let port = server.port();
        Self {
            url: format!("postgres://shop:shop@127.0.0.1:{port}/postgres?connection_limit=auto"),
            watch: Watch::start(&server).await,
            live: Vec::new(),
            gone: Vec::new(),
            _server: server,
        }
    }

    fn grow_to(&mut self, count: usize) {
        while self.live.len() < count {
            self.live.push(Instance::start(&self.url));
        }
    }

    /// Waits until the shares are equal within one and all is taken, and says how long that took.
    async fn settled(&self, what: &str) -> Duration {
        let begun = Instant::now();
        // The watch has one.
        let all = (BUDGET - 1).min(51 * self.live.len() as u32);
        let done = || {
            let limits = self.live.iter().map(|one| one.said().limit);
            let (most, least) = (limits.clone().max(), limits.clone().min());
            most.zip(least)
                .is_some_and(|(most, least)| most - least <= 1)
                && limits.map(|limit| limit + 1).sum::<u32>() == all
        };
        while !done() {
            let said: Vec<u32> = self.live.iter().map(|one| one.said().limit).collect();
            assert!(
                begun.elapsed() < Duration::from_secs(15),
                "{what}: {said:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        begun.elapsed()
    }

    /// Says what the server had since then, and asserts that it was within the budget but for moments, and at the end
    /// as far as the load can have it.
    async fn check(&self, what: &str, since: Duration, settled: Duration) {
        let all = BUDGET.min(51 * self.live.len() as u32 + 1);
        until("the load takes what there is", async || {
            self.watch.last() == all
        })
        .await;
        let done = || self.live.iter().map(|one| one.said().done).sum::<u64>();
        let (before, begun) = (done(), Instant::now());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let rate = (done() - before) as f64 / begun.elapsed().as_secs_f64();
        // Little's law: each connection does one statement in 40 ms. One is the watch's, and one of each instance looks.
        let connections = all - 1 - self.live.len() as u32;
        println!(
            "{what}: {rate:.0} requests a second, of {} that {connections} connections can do",
            connections * 25
        );
        let (most, over) = self.watch.most(since, BUDGET);
        println!(
            "{what}: settled after {settled:.1?}, at most {most} sessions, over {BUDGET} for {over:.2?} at most"
        );
        assert!(most < 97, "{what}: {most} sessions");
        assert!(over <= Duration::from_secs(5), "{what}: over for {over:?}");
        let said = self
            .live
            .iter()
            .map(Instance::said)
            .chain(self.gone.iter().copied());
        assert_eq!(said.map(|one| one.failed).sum::<u64>(), 0, "{what}: failed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute of load, for `.ci/run`"]
async fn a_fleet_stays_within_its_budget() {
    let mut fleet = Fleet::start().await;
    for count in [1, 4, 8] {
        let since = fleet.watch.now();
        fleet.grow_to(count);
        let settled = fleet.settled(&format!("{count} instances")).await;
        fleet
            .check(&format!("{count} instances"), since, settled)
            .await;
    }
    let since = fleet.watch.now();
    for mut killed in fleet.live.split_off(4) {
        killed.kill().await;
        fleet.gone.push(killed.said());
    }
    let settled = fleet.settled("half of it killed").await;
    fleet.check("half of it killed", since, settled).await;
    let since = fleet.watch.now();
    for mut stopped in fleet.live.split_off(2) {
        stopped.stop().await;
        fleet.gone.push(stopped.said());
    }
    let settled = fleet.settled("two left").await;
    fleet.check("two left", since, settled).await;
    let done: u64 = fleet
        .live
        .iter()
        .map(Instance::said)
        .chain(fleet.gone.iter().copied())
        .map(|one| one.done)
        .sum();
    println!("{done} requests, none failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute of load, for `.ci/run`"]
async fn a_rolling_deployment_stays_within_the_budget() {
    let mut fleet = Fleet::start().await;
    fleet.grow_to(8);
    fleet.settled("8 instances").await;
    let since = fleet.watch.now();
    let begun = Instant::now();
    for _ in 0..8 {
        let new = Instance::start(&fleet.url);
        until("the new one serves", async || new.said().done > 0).await;
        let mut old = fleet.live.remove(0);
        fleet.live.push(new);
        old.stop().await;
        fleet.gone.push(old.said());
    }
    println!("8 replaced in {:.1?}", begun.elapsed());
    let settled = fleet.settled("8 replaced").await;
    fleet.check("8 replaced", since, settled).await;
}

#[tokio::test]
#[ignore = "run and killed by the tests above"]
async fn instance() {
    run().await;
}

#[test]
fn auto_is_a_limit_and_has_a_most() {
    let parse = |parameters: &str| Config::parse(&format!("postgres://u@h/d?{parameters}"));
    let auto = parse("connection_limit=auto&connection_limit_max=20").expect("valid");
    assert_eq!(
        (auto.connection_limit_auto, auto.most_connections()),
        (true, 20)
    );
    let error = parse("connection_limit=automatic").expect_err("no number");
    assert!(
        error.to_string().ends_with("from 1 to 10000, or auto"),
        "{error}"
    );
    let error = parse("connection_limit=5&connection_limit_max=20").expect_err("of no use");
    assert!(
        error.to_string().contains("for connection_limit=auto"),
        "{error}"
    );
}
