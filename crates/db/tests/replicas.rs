//! Reads on replicas: fresh enough, never without the client's own writes, and at the primary when a replica fails.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use db::{Pool, ReplicaState, Seen, with_seen};
use local_postgres::{Cluster, Stop};
use support::proxy::Proxy;
use support::replicas::{TABLE, fresh, pool_of, port_of, states};
use support::until;
use tokio::task::JoinHandle;

async fn value(pool: &Pool, id: i32) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select value from client where id = $1")
        .bind(id)
        .fetch_one(pool.read())
        .await
}

async fn write(pool: &Pool, id: i32) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("update client set value = value + 1 where id = $1 returning value")
        .bind(id)
        .fetch_one(pool)
        .await
}

/// One request that writes. Gives what it wrote and the token for the next one.
async fn writing(pool: &Pool, id: i32) -> (i64, Option<String>) {
    let seen = Arc::new(Seen::default());
    let written = with_seen(seen.clone(), write(pool, id))
        .await
        .expect("written");
    (written, pool.token(&seen).await)
}

/// One request that reads, with the token of the one before.
async fn reading(pool: &Pool, id: i32, token: Option<&str>) -> Result<i64, sqlx::Error> {
    let seen = Arc::new(Seen::of_token(token.unwrap_or_default()));
    with_seen(seen, value(pool, id)).await
}

#[tokio::test]
async fn who_wrote_reads_it_and_who_did_not_reads_at_the_replica() {
    let primary = Cluster::temporary().expect("a primary");
    primary.sql("postgres", TABLE).expect("a table");
    let standby = primary.standby().expect("a standby");
    // Late for as long as the test takes.
    let lag = "replica_max_lag=300";
    let pool = pool_of(&primary.url("postgres"), &[standby.url("postgres")], lag);
    let port = async || port_of(&pool, "").await.expect("an answer");
    let at_primary = i32::from(primary.port());
    assert_eq!(port().await, at_primary, "nothing is known yet");
    fresh(&pool).await;
    assert_eq!(port().await, i32::from(standby.port()));
    standby
        .sql("postgres", "select pg_wal_replay_pause()")
        .expect("paused");
    let (written, token) = writing(&pool, 1).await;
    let token = token.expect("a token");
    assert_eq!(
        reading(&pool, 1, Some(&token)).await.expect("an answer"),
        written
    );
    assert_eq!(
        reading(&pool, 1, None).await.expect("an answer"),
        written - 1,
        "stale without the token"
    );
    let (_, none) = {
        let seen = Arc::new(Seen::default());
        let read = with_seen(seen.clone(), value(&pool, 1)).await;
        (read, pool.token(&seen).await)
    };
    assert_eq!(none, None, "who has not written needs none");
    // A function may write, but not at a replica.
    for (executor, may_write) in [(pool.read(), false), (&pool, true)] {
        let seen = Arc::new(Seen::default());
        let called = sqlx::query("select version()").execute(executor);
        with_seen(seen.clone(), called).await.expect("an answer");
        assert_eq!(seen.has_written(), may_write);
    }
    let lease = Arc::new(Seen::default());
    let lent = with_seen(lease.clone(), async {
        let mut lease = pool.acquire().await.expect("a lease");
        let sqlxs_own: &mut sqlx::PgConnection = lease.as_mut();
        sqlx::query("select 1").execute(sqlxs_own).await
    });
    lent.await.expect("an answer");
    assert!(lease.has_written(), "nobody knows what was done there");
    // Within one request too, also before anybody has asked how far it came.
    let seen = Arc::new(Seen::default());
    let within = with_seen(seen, async {
        let written = write(&pool, 2).await.expect("written");
        (written, value(&pool, 2).await.expect("an answer"))
    })
    .await;
    assert_eq!(within.0, within.1);
    standby
        .sql("postgres", "select pg_wal_replay_resume()")
        .expect("resumed");
    until("the replica shows it", async || {
        let before = pool.replicas()[0].reads;
        let read = reading(&pool, 1, Some(&token)).await.expect("an answer");
        assert_eq!(read, written);
        pool.replicas()[0].reads > before
    })
    .await;
}

#[tokio::test]
async fn a_write_on_a_replica_is_made_at_the_primary() {
    let primary = Cluster::temporary().expect("a primary");
    primary.sql("postgres", TABLE).expect("a table");
    let standby = primary.standby().expect("a standby");
    let pool = pool_of(&primary.url("postgres"), &[standby.url("postgres")], "");
    fresh(&pool).await;
    assert_eq!(write(pool.read(), 1).await.expect("written"), 1);
    assert_eq!(pool.replicas()[0].fallbacks, 1);
    assert_eq!(states(&pool), [ReplicaState::Fresh], "it is none the worse");
    let mut lease = pool.read().acquire().await.expect("a lease");
    let refused = sqlx::query("update client set value = 5")
        .execute(&mut *lease)
        .await;
    let code = refused
        .expect_err("on a replica")
        .as_database_error()
        .and_then(|error| error.code().map(String::from));
    assert_eq!(code.as_deref(), Some("25006"));
}

#[tokio::test]
async fn a_url_of_a_primary_is_no_replica() {
    let primary = Cluster::temporary().expect("a primary");
    let other = primary.url("postgres");
    let pool = pool_of(&other, std::slice::from_ref(&other), "");
    until("it is found out", async || {
        let _ = pool.read();
        states(&pool) == [ReplicaState::Primary]
    })
    .await;
    let port = port_of(&pool, "").await.expect("an answer");
    assert_eq!(port, i32::from(primary.port()));
    assert_eq!(pool.replicas()[0].reads, 0);
}

/// Clients of which each writes and reads what it wrote, again and again.
struct Clients {
    tasks: Vec<JoinHandle<()>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    stop: AtomicU64,
    reads: AtomicU64,
    stale: AtomicU64,
    /// Of clients that lose their token.
    stale_without: AtomicU64,
    failed: AtomicU64,
}

impl Clients {
    fn start(pool: &Pool) -> Self {
        let counts: Arc<Counts> = Arc::default();
        let one = |id: i32| {
            let (pool, counts) = (pool.clone(), counts.clone());
            tokio::spawn(async move {
                while counts.stop.load(Relaxed) == 0 {
                    let (written, token) = writing(&pool, id).await;
                    for _ in 0..9 {
                        // The last ones have lost it.
                        let keeps = id < 12;
                        let token = token.as_deref().filter(|_| keeps);
                        match reading(&pool, id, token).await {
                            Ok(read) if read == written => {}
                            Ok(_) if keeps => drop(counts.stale.fetch_add(1, Relaxed)),
                            Ok(_) => drop(counts.stale_without.fetch_add(1, Relaxed)),
                            Err(error) => {
                                println!("failed: {error}");
                                counts.failed.fetch_add(1, Relaxed);
                            }
                        }
                        counts.reads.fetch_add(u64::from(keeps), Relaxed);
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                }
            })
        };
        Self {
            tasks: (0..16).map(one).collect(),
            counts,
        }
    }

    async fn end(self) -> Arc<Counts> {
        self.counts.stop.store(1, Relaxed);
        for task in self.tasks {
            task.await.expect("no panic");
        }
        self.counts
    }
}

/// Waits until this replica is in that state, and says how long that took.
async fn reaches(pool: &Pool, index: usize, state: ReplicaState) -> Duration {
    let begun = Instant::now();
    until(state.as_str(), async || states(pool)[index] == state).await;
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_fails_and_no_own_write_is_missed_whatever_the_replicas_do() {
    let primary = Cluster::temporary().expect("a primary");
    primary.sql("postgres", TABLE).expect("a table");
    let (first, second) = (
        primary.standby().expect("a standby"),
        primary.standby().expect("a standby"),
    );
    let proxy = Proxy::start(first.port(), Duration::ZERO).await;
    let urls = [
        proxy.url(&first.url("postgres"), first.port()),
        second.url("postgres"),
    ];
    let pool = pool_of(&primary.url("postgres"), &urls, "replica_max_lag=1");
    fresh(&pool).await;
    let clients = Clients::start(&pool);
    let quiet = || tokio::time::sleep(Duration::from_secs(1));
    quiet().await;
    let calm = (pool.stats().reads, pool.replicas());

    first.stop(Stop::Immediate).expect("killed");
    let noticed = reaches(&pool, 0, ReplicaState::Down).await;
    quiet().await;
    first.start().expect("started");
    let back = reaches(&pool, 0, ReplicaState::Fresh).await;
    println!("killed: noticed {noticed:?}, in use again {back:?} after it answered");
    assert!(back < Duration::from_secs(5), "{back:?}");

    second
        .sql("postgres", "select pg_wal_replay_pause()")
        .expect("paused");
    let noticed = reaches(&pool, 1, ReplicaState::Behind).await;
    quiet().await;
    second
        .sql("postgres", "select pg_wal_replay_resume()")
        .expect("resumed");
    let back = reaches(&pool, 1, ReplicaState::Fresh).await;
    println!("replay paused: noticed {noticed:?}, in use again {back:?} after it went on");
    assert!(back < Duration::from_secs(5), "{back:?}");

    proxy.swallow(true);
    let noticed = reaches(&pool, 0, ReplicaState::Down).await;
    quiet().await;
    proxy.swallow(false);
    let back = reaches(&pool, 0, ReplicaState::Fresh).await;
    println!("black hole: noticed {noticed:?}, in use again {back:?} after it was over");
    assert!(back < Duration::from_secs(5), "{back:?}");

    second.promote().expect("promoted");
    let noticed = reaches(&pool, 1, ReplicaState::Primary).await;
    quiet().await;
    println!("promoted: noticed {noticed:?}");
    let enough = async {
        while clients.counts.reads.load(Relaxed) < 10_000 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let read = tokio::time::timeout(Duration::from_secs(60), enough).await;
    read.expect("10,000 reads within a minute");

    let counts = clients.end().await;
    let (at_primary, replicas) = (pool.stats().reads, pool.replicas());
    let at_replicas: u64 = replicas.iter().map(|replica| replica.reads).sum();
    println!(
        "reads: {} failed, {} of {} own writes missed, {} without the token; {at_primary} at the primary and {at_replicas} at the \
         replicas, {} of them fell back; in the calm second {} and {}",
        counts.failed.load(Relaxed),
        counts.stale.load(Relaxed),
        counts.reads.load(Relaxed),
        counts.stale_without.load(Relaxed),
        replicas
            .iter()
            .map(|replica| replica.fallbacks)
            .sum::<u64>(),
        calm.0,
        calm.1.iter().map(|replica| replica.reads).sum::<u64>(),
    );
    assert_eq!(counts.failed.load(Relaxed), 0);
    assert_eq!(counts.stale.load(Relaxed), 0);
    assert!(
        counts.stale_without.load(Relaxed) > 0,
        "what the token is for"
    );
}

/// One client for so long: it writes, and reads nine times what it wrote, with a pause after each.
async fn client(pool: Pool, id: i32, pause: Duration, until: Instant) {
    while Instant::now() < until {
        let (written, token) = writing(&pool, id).await;
        for _ in 0..9 {
            tokio::time::sleep(pause).await;
            let read = reading(&pool, id, token.as_deref()).await;
            assert_eq!(read.expect("an answer"), written);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, for `.ci/run`"]
async fn a_part_of_the_work_leaves_the_primary() {
    let primary = Cluster::temporary().expect("a primary");
    primary.sql("postgres", TABLE).expect("a table");
    let standbys: Vec<Cluster> = (0..2)
        .map(|_| primary.standby().expect("a standby"))
        .collect();
    let urls: Vec<String> = standbys
        .iter()
        .map(|standby| standby.url("postgres"))
        .collect();
    let pool = pool_of(&primary.url("postgres"), &urls, "");
    fresh(&pool).await;
    for pause in [1, 10, 50, 200] {
        let counts = || {
            let replicas = pool.replicas();
            let at_replicas: u64 = replicas.iter().map(|replica| replica.reads).sum();
            (
                pool.stats().reads,
                at_replicas,
                pool.times().statement.count(),
            )
        };
        let before = counts();
        let until = Instant::now() + Duration::from_secs(4);
        let pause_time = Duration::from_millis(pause);
        let clients = (0..32).map(|id| tokio::spawn(client(pool.clone(), id, pause_time, until)));
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("no panic");
        }
        let after = counts();
        let (here, there) = (after.0 - before.0, after.1 - before.1);
        let statements = after.2 - before.2;
        println!(
            "a pause of {pause} ms: {:.0} % of {} reads left the primary; {:.0} % of all statements stayed there",
            100.0 * there as f64 / (here + there) as f64,
            here + there,
            100.0 * statements as f64 / (statements + there) as f64,
        );
        assert!(there > 0, "none left");
    }
}
