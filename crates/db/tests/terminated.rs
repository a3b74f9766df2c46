//! Sessions that the server ends: the others stay in use, and what cannot have run is run again.

mod support;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use local_postgres::Cluster;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};
use support::{pool_at, settled, until};

/// Opens so many connections of the pool.
async fn warm(pool: &db::Pool, connections: u32) -> Vec<i32> {
    let leases = join_all((0..connections).map(|_| pool.acquire())).await;
    let mut pids = Vec::new();
    for lease in leases {
        let mut lease = lease.expect("a lease");
        let pid = sqlx::query_scalar::<_, i32>("select pg_backend_pid()");
        // The server may have ended a session for being idle meanwhile.
        pids.extend(pid.fetch_one(&mut *lease).await.ok());
    }
    pids
}

async fn terminate(admin: &mut PgConnection, pids: &[i32]) {
    let list: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let list = list.join(",");
    let sql = format!("select pg_terminate_backend(pid) from unnest(array[{list}]) pid");
    admin.execute(AssertSqlSafe(sql)).await.expect("ended");
    until("the sessions are gone", async || {
        let sql = format!("select count(*) from pg_stat_activity where pid in ({list})");
        let left: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut *admin)
            .await
            .expect("a count");
        left == 0
    })
    .await;
}

#[tokio::test]
async fn one_ended_session_leaves_the_others_in_use() {
    let url = local_postgres::database();
    let pool = pool_at(&url, "connection_limit=6&queue_limit=1000");
    let pids = warm(&pool, 6).await;
    let mut admin = PgConnection::connect(&url).await.expect("a connection");
    terminate(&mut admin, &pids[..1]).await;
    let reads = (0..240).map(|_| pool.fetch_optional("select 1"));
    let failed = join_all(reads)
        .await
        .into_iter()
        .filter(|read| read.is_err());
    assert_eq!(failed.count(), 0);
    let alive = format!(
        "select count(*) from pg_stat_activity where pid in ({})",
        pids[1..]
            .iter()
            .map(i32::to_string)
            .collect::<Vec<_>>()
            .join(",")
    );
    let kept: i64 = sqlx::query_scalar(AssertSqlSafe(alive))
        .fetch_one(&mut admin)
        .await
        .expect("a count");
    assert_eq!(kept, 5, "{:?}", pool.stats());
    settled(&pool).await;
}

#[tokio::test]
async fn one_ended_session_is_no_outage_when_the_server_has_no_room_for_another() {
    let server = Cluster::temporary_with(&[("max_connections", "12")]).expect("a server");
    let url = server.url("postgres");
    let pool = pool_at(&url, "connection_limit=6&queue_limit=1000");
    let pids = warm(&pool, 6).await;
    let mut admin = PgConnection::connect(&url).await.expect("a connection");
    // Other clients take every slot there is, and every one that becomes free.
    let others = tokio::spawn(async move {
        let mut others = Vec::new();
        loop {
            match PgConnection::connect(&url).await {
                Ok(other) => others.push(other),
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    });
    until("the server has no room", async || {
        let sql = "select count(*) from pg_stat_activity where backend_type = 'client backend'";
        let sessions: i64 = sqlx::query_scalar(sql)
            .fetch_one(&mut admin)
            .await
            .expect("a count");
        let most: i64 = sqlx::query_scalar("select current_setting('max_connections')::bigint")
            .fetch_one(&mut admin)
            .await
            .expect("a number");
        sessions >= most
    })
    .await;
    terminate(&mut admin, &pids[..1]).await;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        let reads = join_all((0..20).map(|_| pool.fetch_optional("select 1"))).await;
        assert!(reads.iter().all(Result::is_ok), "{reads:?}");
    }
    assert!(pool.stats().open >= 5, "{:?}", pool.stats());
    others.abort();
}

/// Reads on connections that were used just now and have ended since. Says how many failed.
async fn reads_after(end: impl AsyncFn(&mut PgConnection, &[i32]), parameters: &str) -> usize {
    let url = local_postgres::database();
    let pool = pool_at(&url, parameters);
    let mut admin = PgConnection::connect(&url).await.expect("a connection");
    let mut failed = 0;
    for _ in 0..20 {
        let pids = warm(&pool, 10).await;
        end(&mut admin, &pids).await;
        let reads = join_all((0..500).map(|n| {
            let pool = pool.clone();
            async move {
                match n % 2 {
                    0 => pool.fetch_optional("select 1").await.map(drop),
                    _ => sqlx::query("select $1::int")
                        .bind(n)
                        .fetch_all(&pool)
                        .await
                        .map(drop),
                }
            }
        }));
        failed += reads.await.iter().filter(|read| read.is_err()).count();
    }
    settled(&pool).await;
    failed
}

#[tokio::test]
async fn no_read_fails_after_all_idle_sessions_were_ended() {
    assert_eq!(
        reads_after(terminate, "connection_limit=10&queue_limit=1000").await,
        0
    );
}

#[tokio::test]
async fn no_read_fails_on_sessions_that_the_server_ended_for_being_idle() {
    let idle = async |admin: &mut PgConnection, pids: &[i32]| {
        until("the sessions have been idle for too long", async || {
            let left: i64 =
                sqlx::query_scalar("select count(*) from pg_stat_activity where pid = any($1)")
                    .bind(pids)
                    .fetch_one(&mut *admin)
                    .await
                    .expect("a count");
            left == 0
        })
        .await;
    };
    let parameters = "connection_limit=10&queue_limit=1000&options=-c%20idle_session_timeout=100";
    assert_eq!(reads_after(idle, parameters).await, 0);
}

/// Writes on connections that were used just now and have ended since, in rounds: each is answered, and done once.
async fn writes_after(end: impl AsyncFn(&mut PgConnection, &[i32]), url: &str, parameters: &str) {
    let pool = pool_at(url, parameters);
    let mut admin = PgConnection::connect(url).await.expect("a connection");
    let made = "create table runs (id serial, run int); create function count_run(int) returns int volatile \
                language sql as 'insert into runs (run) values ($1) returning run'";
    admin.execute(made).await.expect("made");
    for round in 0..12 {
        let pids = warm(&pool, 4).await;
        end(&mut admin, &pids).await;
        let writes = join_all((0..6).map(|n| {
            let pool = pool.clone();
            let insert = sqlx::query("insert into runs (run) values ($1)").bind(round);
            let count = sqlx::query("select count_run($1)").bind(round);
            async move {
                match n % 3 {
                    0 => insert.execute(&pool).await.map(drop),
                    1 => count.fetch_one(&pool).await.map(drop),
                    _ => count.fetch_all(&pool).await.map(drop),
                }
            }
        }));
        for write in writes.await {
            write.unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
    }
    let rows: i64 = sqlx::query_scalar("select count(*) from runs")
        .fetch_one(&pool)
        .await
        .expect("a count");
    assert_eq!(rows, 12 * 6, "{:?}", pool.stats());
    settled(&pool).await;
}

#[tokio::test]
async fn each_write_right_after_its_session_was_ended_is_done_once() {
    writes_after(terminate, &local_postgres::database(), "connection_limit=4").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_write_right_after_its_session_was_ended_is_done_once_on_several_threads() {
    writes_after(terminate, &local_postgres::database(), "connection_limit=4").await;
}

#[tokio::test]
async fn each_write_right_after_its_session_was_ended_is_done_once_over_a_socket() {
    let server = local_postgres::shared();
    server.create_database("over_a_socket").expect("made");
    let url = server.socket_url("over_a_socket");
    writes_after(terminate, &url, "connection_limit=4").await;
}

#[tokio::test]
async fn each_write_after_its_session_had_been_idle_for_too_long_is_done_once() {
    let idle = async |admin: &mut PgConnection, pids: &[i32]| {
        until("the sessions have been idle for too long", async || {
            let left = sqlx::query_scalar::<_, i64>(
                "select count(*) from pg_stat_activity where pid = any($1)",
            );
            left.bind(pids)
                .fetch_one(&mut *admin)
                .await
                .expect("a count")
                == 0
        })
        .await;
    };
    let parameters = "connection_limit=4&options=-c%20idle_session_timeout=100";
    writes_after(idle, &local_postgres::database(), parameters).await;
}

#[tokio::test]
async fn a_write_with_limits_of_its_own_is_done_once_too() {
    let url = local_postgres::database();
    let pool = pool_at(&url, "connection_limit=4");
    let limits = db::Limits {
        statement: Some(Duration::from_secs(60)),
        ..Default::default()
    };
    let nightly = pool.with(limits);
    let mut admin = PgConnection::connect(&url).await.expect("a connection");
    admin
        .execute("create table runs (run int)")
        .await
        .expect("made");
    for round in 0..12 {
        let pids = warm(&pool, 4).await;
        terminate(&mut admin, &pids).await;
        let insert = sqlx::query("insert into runs values ($1)").bind(round);
        insert.execute(&nightly).await.expect("written");
        settled(&pool).await;
    }
    let rows: i64 = sqlx::query_scalar("select count(*) from runs")
        .fetch_one(&pool)
        .await
        .expect("a count");
    assert_eq!(rows, 12);
}

#[tokio::test]
async fn a_connection_of_sqlx_loses_the_write_after_its_session_was_ended() {
    let url = local_postgres::database();
    let mut admin = PgConnection::connect(&url).await.expect("a connection");
    let mut plain = PgConnection::connect(&url).await.expect("a connection");
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut plain)
        .await
        .expect("a pid");
    terminate(&mut admin, &[pid]).await;
    let made = plain.execute("create table runs (id serial)").await;
    made.expect_err("the end of its session is what sqlx reads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_doubled_while_sessions_are_ended_all_the_time() {
    let url = local_postgres::database();
    let pool = pool_at(&url, "connection_limit=4&queue_limit=1000");
    let mut admin = PgConnection::connect(&url).await.expect("a connection");
    admin
        .execute("create table runs (run int8)")
        .await
        .expect("made");
    let until = Instant::now() + Duration::from_secs(3);
    let writers = (0..6).map(|writer: i64| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let mut answered = Vec::new();
            for n in 0.. {
                if Instant::now() > until {
                    break;
                }
                let run = writer * 1_000_000_000 + n;
                let insert = sqlx::query("insert into runs (run) values ($1)").bind(run);
                if insert.execute(&pool).await.is_ok() {
                    answered.push(run);
                }
            }
            answered
        })
    });
    let writers = join_all(writers.collect::<Vec<_>>());
    let ending = async {
        let ours = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                    where datname = current_database() and pid <> pg_backend_pid() and random() < 0.3";
        while Instant::now() < until {
            admin.execute(ours).await.expect("ended");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    let (answered, ()) = futures_util::future::join(writers, ending).await;
    let answered: Vec<i64> = answered
        .into_iter()
        .flat_map(|runs| runs.expect("no panic"))
        .collect();
    let mut rows: Vec<i64> = sqlx::query_scalar("select run from runs order by run")
        .fetch_all(&mut admin)
        .await
        .expect("rows");
    let written = rows.len();
    rows.dedup();
    assert_eq!(rows.len(), written, "doubled");
    let lost = answered
        .iter()
        .filter(|run| rows.binary_search(run).is_err());
    assert_eq!(lost.count(), 0, "of {} answered", answered.len());
    assert!(pool.stats().repeated > 0, "{:?}", pool.stats());
    println!(
        "{} answered, {written} written, {:?}",
        answered.len(),
        pool.stats()
    );
}

#[tokio::test]
async fn nothing_that_writes_is_run_twice() {
    let url = local_postgres::database();
    let pool = pool_at(&url, "connection_limit=4");
    let mut admin = PgConnection::connect(&url).await.expect("a connection");
    admin
        .execute(
            "create table runs (id serial, run int); create sequence counted;
             create function count_run(integer) returns bigint volatile language sql as 'select nextval(''counted'')'",
        )
        .await
        .expect("made");
    let mut written = 0;
    for round in 0..20 {
        let pids = warm(&pool, 4).await;
        terminate(&mut admin, &pids).await;
        for _ in 0..4 {
            let insert = sqlx::query("insert into runs (run) values ($1)").bind(round);
            written += i64::from(insert.execute(&pool).await.is_ok());
            let _ = pool.fetch_optional("select count_run(1)").await;
        }
    }
    let rows: i64 = sqlx::query_scalar("select count(*) from runs")
        .fetch_one(&pool)
        .await
        .expect("a count");
    assert_eq!(rows, written, "what was answered, and nothing else");
    settled(&pool).await;
}

#[tokio::test]
async fn a_function_that_changes_something_is_not_called_twice() {
    let url = local_postgres::database();
    let pool = pool_at(&url, "connection_limit=2");
    let mut admin = PgConnection::connect(&url).await.expect("a connection");
    admin
        .execute(
            "create sequence counted; create function count_and_wait() returns bigint volatile language plpgsql as
             $$ begin perform nextval('counted'); perform pg_sleep(60); return 1; end $$",
        )
        .await
        .expect("made");
    let [pid] = warm(&pool, 1).await[..] else {
        panic!("one connection")
    };
    let running = tokio::spawn({
        let pool = pool.clone();
        async move { pool.fetch_optional("select count_and_wait()").await }
    });
    until("it has counted", async || {
        let called: bool = sqlx::query_scalar("select is_called from counted")
            .fetch_one(&mut admin)
            .await
            .expect("an answer");
        called
    })
    .await;
    terminate(&mut admin, &[pid]).await;
    running.await.expect("no panic").expect_err("not run again");
    let count: i64 = sqlx::query_scalar("select last_value from counted")
        .fetch_one(&mut admin)
        .await
        .expect("a value");
    assert_eq!(count, 1);
    assert_eq!(pool.stats().repeated, 0);
}

#[tokio::test]
async fn a_transaction_begins_also_where_its_connection_had_ended() {
    let url = local_postgres::database();
    let pool = pool_at(&url, "connection_limit=4");
    let mut admin = PgConnection::connect(&url).await.expect("a connection");
    let pids = warm(&pool, 4).await;
    terminate(&mut admin, &pids).await;
    let transaction = pool.begin().await.expect("a transaction");
    transaction.commit().await.expect("committed");
    settled(&pool).await;
}

#[tokio::test]
async fn a_transaction_timeout_costs_one_session_and_nothing_is_run_twice() {
    let url = local_postgres::database();
    let mut admin = PgConnection::connect(&url).await.expect("a connection");
    let version = "select current_setting('server_version_num')::int";
    let version: i32 = sqlx::query_scalar(version)
        .fetch_one(&mut admin)
        .await
        .expect("a version");
    if version < 170_000 {
        println!("nothing to see before PostgreSQL 17");
        return;
    }
    admin
        .execute("create table locked (id int)")
        .await
        .expect("made");
    let parameters = "connection_limit=4&options=-c%20transaction_timeout=300";
    let pool = pool_at(&url, parameters);
    warm(&pool, 4).await;
    let mut locker = admin.begin().await.expect("begun");
    locker
        .execute("lock table locked in access exclusive mode")
        .await
        .expect("locked");
    let reads = (0..3).map(|_| pool.fetch_optional("select id from locked"));
    for read in join_all(reads).await {
        let error = db::Error::from(read.expect_err("too long"));
        let code = error.as_database().and_then(|error| error.code());
        assert_eq!(code.as_deref(), Some("25P04"), "{error}");
        assert!(error.is_unavailable());
    }
    settled(&pool).await;
    let stats = pool.stats();
    assert_eq!(stats.repeated, 0, "each is run once");
    assert_eq!(stats.closed[db::CloseReason::Broken as usize], 3);
    assert_eq!(stats.closed.iter().sum::<u64>(), 3, "the fourth is well");
}
