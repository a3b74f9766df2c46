//! Which replicas are read when their primary has died, and which are not whatever happens.

mod support;

use std::fs;
use std::time::{Duration, Instant};

use db::{Pool, ReplicaState};
use local_postgres::{Cluster, Stop};
use support::replicas::{TABLE, fresh, pool_of, states};
use support::until;

/// Has a standby follow another primary than before.
fn follow(standby: &Cluster, primary: &Cluster) {
    let (folder, port) = (primary.socket_folder().display(), primary.port());
    let sql = format!(
        "alter system set primary_conninfo = 'host={folder} port={port} user=postgres'; select pg_reload_conf()"
    );
    standby.sql("postgres", &sql).expect("another primary");
}

/// The URL of several servers, of which the pool takes the one that takes writes.
fn either(servers: [&Cluster; 2]) -> String {
    let url = servers[0].url("postgres");
    let (first, other) = (servers[0].port(), servers[1].port());
    let both = format!(":{first},127.0.0.1:{other}/");
    let url = url.replace(&format!(":{first}/"), &both);
    format!("{url}?target_session_attrs=read-write")
}

async fn read(pool: &Pool) -> Result<i64, sqlx::Error> {
    let sql = "select value from client where id = 1";
    sqlx::query_scalar(sql).fetch_one(pool.read()).await
}

/// Reads for three seconds, each of which has to succeed.
async fn reads_go_on(pool: &Pool) {
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        if let Err(error) = read(pool).await {
            panic!("{error}, and the replicas are {:?}", states(pool));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_intact_standby_is_read_while_the_primary_is_dead_soon_after_a_failover() {
    let first = Cluster::temporary().expect("a primary");
    first.sql("postgres", TABLE).expect("a table");
    let second = first.standby().expect("a standby");
    let third = first.standby().expect("a standby");
    first.stop(Stop::Immediate).expect("killed");
    second.promote().expect("promoted");
    follow(&third, &second);
    // The old one comes back, and follows nobody: it goes on where it was.
    fs::write(first.data_folder().join("standby.signal"), "").expect("a file");
    first.start().expect("started");
    let replicas = [third.url("postgres"), first.url("postgres")];
    let pool = pool_of(&either([&second, &third]), &replicas, "");
    let expected = [ReplicaState::Fresh, ReplicaState::Diverged];
    until("the third follows the second", async || {
        let _ = pool.read();
        states(&pool) == expected
    })
    .await;
    let write = sqlx::query("update client set value = 7 where id = 1");
    write.execute(&pool).await.expect("written");
    until("the third has it", async || {
        read(&pool).await.expect("an answer") == 7
    })
    .await;
    second.stop(Stop::Immediate).expect("killed");
    reads_go_on(&pool).await;
    assert_eq!(states(&pool), expected);
    assert_eq!(read(&pool).await.expect("an answer"), 7);
    // A third history begins, which the pool can reach only when it is there.
    third.promote().expect("promoted");
    until("writes go on", async || {
        let write = sqlx::query("update client set value = 8 where id = 1");
        write.execute(&pool).await.is_ok()
    })
    .await;
    assert_eq!(read(&pool).await.expect("the primary's answer"), 8);
    until("no replica is left", async || {
        let _ = pool.read();
        states(&pool) == [ReplicaState::Primary, ReplicaState::Diverged]
    })
    .await;
}

#[tokio::test]
async fn a_standby_that_stays_behind_at_a_failover_is_not_read() {
    let first = Cluster::temporary().expect("a primary");
    first.sql("postgres", TABLE).expect("a table");
    let second = first.standby().expect("a standby");
    let third = first.standby().expect("a standby");
    let pool = pool_of(&either([&first, &second]), &[third.url("postgres")], "");
    fresh(&pool).await;
    first.stop(Stop::Immediate).expect("killed");
    reads_go_on(&pool).await;
    second.promote().expect("promoted");
    let stale = async || {
        let _ = pool.read();
        states(&pool) == [ReplicaState::Diverged]
    };
    until("it follows the one that is gone", stale).await;
    assert_eq!(read(&pool).await.expect("the primary's answer"), 0);
    follow(&third, &second);
    fresh(&pool).await;
}

#[tokio::test]
async fn how_far_a_standby_is_behind_is_told_by_the_last_answer_of_the_primary() {
    let primary = Cluster::temporary().expect("a primary");
    primary.sql("postgres", TABLE).expect("a table");
    let standby = primary.standby().expect("a standby");
    let lag = "replica_max_lag=2";
    let pool = pool_of(&primary.url("postgres"), &[standby.url("postgres")], lag);
    fresh(&pool).await;
    let pause = "select pg_wal_replay_pause()";
    standby.sql("postgres", pause).expect("paused");
    let write = sqlx::query("update client set value = 7 where id = 1");
    write.execute(&pool).await.expect("written");
    until("it is seen to be behind", async || {
        let _ = pool.read();
        pool.replicas()[0].lag.is_some_and(|lag| !lag.is_zero())
    })
    .await;
    primary.stop(Stop::Immediate).expect("killed");
    // Nothing is written meanwhile, so it comes no further behind than it was.
    reads_go_on(&pool).await;
    reads_go_on(&pool).await;
    primary.start().expect("started");
    until("it is behind by the primary's word", async || {
        let _ = pool.read();
        states(&pool) == [ReplicaState::Behind]
    })
    .await;
}
