//! What a replica cannot answer now, while it is well otherwise: the primary answers, and the replica is asked for less of it.

mod support;

use std::time::{Duration, Instant};

use db::{Pool, ReplicaState};
use futures_util::future::join_all;
use local_postgres::{Cluster, Stop};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use support::replicas::{TABLE, fresh, pool_of, port_of, states};
use support::until;

/// Late for as long as a test takes.
const LAG: &str = "replica_max_lag=300";

fn servers() -> (Cluster, Cluster) {
    let primary = Cluster::temporary().expect("a primary");
    primary.sql("postgres", TABLE).expect("a table");
    let sql = "create table other as select 1 as one";
    primary.sql("postgres", sql).expect("another table");
    let standby = primary.standby().expect("a standby");
    (primary, standby)
}

/// A report on the standby, and on the primary a change of the table that it reads, which the standby waits for the report to
/// replay, with the table locked.
async fn replay_that_waits(primary: &Cluster, standby: &Cluster) -> PgConnection {
    let url = standby.url("postgres");
    let mut report = PgConnection::connect(&url).await.expect("a session");
    let sql = "begin isolation level repeatable read; select count(*) from client";
    report.execute(sql).await.expect("a report");
    let sql = "alter table client add column note text";
    primary.sql("postgres", sql).expect("a column");
    until("the standby has locked the table", async || {
        let sql =
            "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and not granted";
        standby.sql("postgres", sql).expect("locks") == "1"
    })
    .await;
    report
}

async fn read(pool: &Pool) -> Result<i64, sqlx::Error> {
    let sql = "select value from client where id = 1";
    sqlx::query_scalar(sql).fetch_one(pool.read()).await
}

/// Four readers for so long, each of whose reads has to succeed. Says how long each took, the slowest last.
async fn read_for(pool: &Pool, time: Duration) -> Vec<Duration> {
    let until = Instant::now() + time;
    let readers = (0..4).map(async |_| {
        let mut times = Vec::new();
        while Instant::now() < until {
            let asked = Instant::now();
            read(pool).await.expect("the primary's answer");
            times.push(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        times
    });
    let mut times = join_all(readers).await.concat();
    times.sort_unstable();
    times
}

fn code(error: &db::Error) -> String {
    let code = error.as_database().and_then(|error| error.code());
    code.unwrap_or_default().into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_replay_has_locked_is_read_at_the_primary() {
    let (primary, standby) = servers();
    let pool = pool_of(&primary.url("postgres"), &[standby.url("postgres")], LAG);
    fresh(&pool).await;
    let report = replay_that_waits(&primary, &standby).await;
    let times = read_for(&pool, Duration::from_secs(4)).await;
    let (slowest, late) = (times[times.len() - 1], Duration::from_millis(200));
    let waited = times.iter().filter(|time| **time > late).count();
    println!(
        "{} reads, {waited} waited, {slowest:?} the slowest",
        times.len()
    );
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    // All four at first, and then one after each pause.
    assert!(waited * 20 < times.len(), "{waited} of {}", times.len());
    assert_eq!(states(&pool), [ReplicaState::Fresh]);
    let at_standby = i32::from(standby.port());
    let other = port_of(&pool, "from other").await.expect("an answer");
    assert_eq!(other, at_standby, "what is not locked is read there");
    drop(report);
    until("the replica is read again", async || {
        let port = port_of(&pool, "from client where id = 1").await;
        port.expect("an answer") == at_standby
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_left_alone_is_asked_where_the_primary_is_dead() {
    let (primary, standby) = servers();
    let pool = pool_of(&primary.url("postgres"), &[standby.url("postgres")], LAG);
    fresh(&pool).await;
    let report = replay_that_waits(&primary, &standby).await;
    // Then it is left alone for three seconds more.
    read_for(&pool, Duration::from_millis(4200)).await;
    drop(report);
    primary.stop(Stop::Immediate).expect("killed");
    let killed = Instant::now();
    until("the replica answers", async || read(&pool).await.is_ok()).await;
    let gap = killed.elapsed();
    assert!(gap < Duration::from_millis(1500), "{gap:?}");
}

#[tokio::test]
async fn a_transaction_that_failed_on_a_replica_is_begun_at_the_primary() {
    let (primary, standby) = servers();
    let pool = pool_of(&primary.url("postgres"), &[standby.url("postgres")], LAG);
    fresh(&pool).await;
    let report = replay_that_waits(&primary, &standby).await;
    let count = async || {
        let mut transaction = pool.read().begin().await?;
        let sql = "select count(*) from client";
        let count = sqlx::query_scalar(sql).fetch_one(&mut *transaction).await;
        count.map_err(db::Error::from)
    };
    let (begun, failed): (_, Result<i64, _>) = (Instant::now(), count().await);
    assert_eq!(code(&failed.expect_err("it is locked there")), "55P03");
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(count().await.expect("the primary's answer"), 100);
    drop(report);
    // One finds out that it answers again; then it has them all.
    let there = async || {
        let mut transaction = pool.read().begin().await.expect("begun");
        let sql = "select pg_is_in_recovery()";
        let there = sqlx::query_scalar(sql).fetch_one(&mut *transaction).await;
        there.expect("an answer")
    };
    until("transactions are begun there again", async || {
        count().await.is_ok() && there().await && there().await
    })
    .await;
}

#[tokio::test]
async fn what_keeps_a_replica_from_an_answer_is_left_to_the_primary_and_a_fault_of_the_statement_is_not()
 {
    let (primary, standby) = servers();
    let sql = "create function there(code text) returns int language plpgsql as $$ begin \
               if pg_is_in_recovery() then raise exception using errcode = code; end if; return 1; end $$";
    primary.sql("postgres", sql).expect("a function");
    let limits = format!("{LAG}&statement_timeout=300ms");
    let pool = pool_of(
        &primary.url("postgres"),
        &[standby.url("postgres")],
        &limits,
    );
    fresh(&pool).await;
    let slow = "select pg_sleep(case when pg_is_in_recovery() then 5 else 0 end)";
    until("the standby has the function", async || {
        standby
            .sql("postgres", "select there('22012')")
            .is_err_and(|error| !error.to_string().contains("exist"))
    })
    .await;
    let begun = Instant::now();
    let answer = sqlx::query(slow).execute(pool.read()).await;
    answer.expect("after the replica's statement_timeout");
    assert!(begun.elapsed() < Duration::from_secs(2));
    let run = async |code: &str| {
        let sql = AssertSqlSafe(format!("select there('{code}')"));
        sqlx::query_scalar::<_, i32>(sql)
            .fetch_one(pool.read())
            .await
    };
    let fallbacks = || pool.replicas()[0].fallbacks;
    for left in [
        "55P03", "57014", "40001", "40P01", "53100", "53200", "58030", "XX001", "25006",
    ] {
        let before = fallbacks();
        assert_eq!(run(left).await.expect(left), 1);
        assert_eq!(fallbacks(), before + 1, "{left}");
    }
    for kept in ["22012", "23505", "P0001"] {
        let error = run(kept).await.map_err(db::Error::from);
        assert_eq!(code(&error.expect_err(kept)), kept);
    }
}

#[tokio::test]
async fn a_statement_that_the_primary_does_not_answer_either_is_not_asked_of_both_again() {
    let (primary, standby) = servers();
    let sql = "create function nowhere() returns int language plpgsql \
               as $$ begin raise exception using errcode = '57014'; end $$";
    primary.sql("postgres", sql).expect("a function");
    until("the standby has the function", async || {
        let called = standby.sql("postgres", "select 'nowhere'::regproc");
        called.is_ok()
    })
    .await;
    let pool = pool_of(&primary.url("postgres"), &[standby.url("postgres")], LAG);
    fresh(&pool).await;
    for _ in 0..5 {
        let ran = sqlx::query("select nowhere()").execute(pool.read()).await;
        let error = ran
            .map_err(db::Error::from)
            .expect_err("it fails everywhere");
        assert_eq!(code(&error), "57014");
    }
    assert_eq!(pool.replicas()[0].fallbacks, 1, "of five");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_a_delayed_standby_has_locked_is_read_at_the_primary() {
    let (primary, standby) = servers();
    let delay = "alter system set recovery_min_apply_delay = '3s'; select pg_reload_conf()";
    standby.sql("postgres", delay).expect("a delay");
    let pool = pool_of(&primary.url("postgres"), &[standby.url("postgres")], LAG);
    fresh(&pool).await;
    let sql = "alter table client add column note text";
    primary.sql("postgres", sql).expect("a column");
    until("the standby has locked the table", async || {
        let sql = "select count(*) from pg_locks where mode = 'AccessExclusiveLock'";
        standby.sql("postgres", sql).expect("locks") != "0"
    })
    .await;
    let times = read_for(&pool, Duration::from_secs(2)).await;
    let slowest = times[times.len() - 1];
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}

#[tokio::test]
async fn a_replica_waits_for_a_lock_as_long_as_its_url_says_or_a_part_of_the_default() {
    let (primary, standby) = servers();
    for (given, expected) in [
        ("", "250ms"),
        ("&lock_timeout=1500ms", "1500ms"),
        ("&options=-c%20lock_timeout%3D3s", "3s"),
    ] {
        let urls = [standby.url("postgres")];
        let pool = pool_of(&primary.url("postgres"), &urls, &format!("{LAG}{given}"));
        fresh(&pool).await;
        let show = sqlx::query_scalar("show lock_timeout");
        let told: String = show.fetch_one(pool.read()).await.expect("an answer");
        assert_eq!(told, expected);
        let show = sqlx::query_scalar("show lock_timeout");
        let told: String = show.fetch_one(&pool).await.expect("an answer");
        assert_eq!(told, "2s", "the primary's own");
    }
}
