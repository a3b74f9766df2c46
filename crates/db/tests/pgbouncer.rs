//! Behind a PgBouncer in transaction mode, a real one, which has to be installed:
//! `cargo test -p db --test pgbouncer -- --ignored`, with `PGBOUNCER=/path/of/pgbouncer` for another than that of the `PATH`.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use db::{CloseReason, Error, Pool};
use futures_util::future::{join, join_all};
use local_postgres::Stop;
use sqlx::postgres::{PgConnectOptions, PgExecutor, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, SqlSafeStr};
use support::bouncer::{Bouncer, keeps_apart};
use support::proxy::Proxy;
use support::{dropped_after, failure, pool_at, settled, until};

const UNTRACKED: &str = "does not keep the prepared statements of its clients apart";

#[tokio::test]
#[ignore = "needs the program pgbouncer"]
async fn it_is_found_without_a_flag_and_refused_where_it_mixes_statements() {
    // As most people set it, nothing is refused that it does not pass on.
    let silent = "ignore_startup_parameters = extra_float_digits,options\n";
    for settings in ["", silent] {
        let bouncer = Bouncer::start_with(settings).await;
        for parameters in ["", "pgbouncer=true"] {
            if !keeps_apart() {
                let text = failure(&bouncer.url(), parameters).await;
                assert!(text.contains(UNTRACKED) && text.contains("1.21"), "{text}");
                continue;
            }
            let pool = pool_at(&bouncer.url(), parameters);
            let one: i32 = sqlx::query_scalar("select 1")
                .fetch_one(&pool)
                .await
                .expect("an answer");
            assert_eq!(one, 1);
            let report = pool.examine().await.expect("a report").to_string();
            assert!(report.contains("behind a pooler"), "{report}");
            assert!(
                report.contains("alter role \"anybody\" set statement_timeout"),
                "{report}"
            );
        }
    }
    if keeps_apart() {
        let bouncer = Bouncer::start_with("max_prepared_statements = 0").await;
        let text = failure(&bouncer.url(), "").await;
        assert!(text.contains(UNTRACKED), "{text}");
        let bouncer = Bouncer::start().await;
        let text = failure(&bouncer.url(), "schema=shop").await;
        assert!(
            text.contains("`schema`") && text.contains("alter role"),
            "{text}"
        );
        let auto = pool_at(&bouncer.url(), "connection_limit=auto");
        auto.execute("select 1").await.expect("an answer");
        assert_eq!(auto.stats().limit, 10, "the default: it sees nobody");
    }
}

/// How many of 800 answers are not the answer to what was asked.
async fn mistakes<P>(pool: &P) -> usize
where
    for<'p> &'p P: PgExecutor<'p>,
{
    let tasks = (0..8).map(async |task| {
        let mut mistakes = 0;
        for round in 0..100 {
            // Each connection meets the statements in another order, so that it gives them other names.
            let number = (task * 7 + round) % 10;
            let sum = sqlx::query_scalar(AssertSqlSafe(format!("select $1::int8 + {number}")))
                .bind(1000_i64)
                .persistent(false)
                .fetch_one(pool)
                .await;
            mistakes += usize::from(!sum.is_ok_and(|sum: i64| sum == 1000 + number));
        }
        mistakes
    });
    join_all(tasks).await.into_iter().sum()
}

// sqlx prepares a statement without a name first and runs it later, perhaps in another session
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the program pgbouncer"]
async fn statements_are_not_confused() {
    let bouncer = Bouncer::start().await;
    let options: PgConnectOptions = bouncer.url().parse().expect("a URL");
    #[expect(clippy::disallowed_methods, reason = "the comparison is the point")]
    let theirs = PgPoolOptions::new()
        .max_connections(8)
        .connect_lazy_with(options.extra_float_digits(None).disable_statement_logging());
    assert_ne!(mistakes(&theirs).await, 0, "sqlx's own pool confuses them");
    if keeps_apart() {
        let ours = pool_at(&bouncer.url(), "connection_limit=8");
        assert_eq!(mistakes(&ours).await, 0);
    }
}

#[derive(Default)]
struct Outcome {
    done: AtomicU64,
    wrong: AtomicU64,
    hung_up: AtomicU64,
    failed: AtomicU64,
}

impl Outcome {
    fn take(&self, expected: i64, got: Option<Result<i64, Error>>) {
        let count = match got {
            None => &self.hung_up,
            Some(Ok(got)) if got == expected => &self.done,
            Some(Ok(_)) => &self.wrong,
            Some(Err(error)) => {
                println!("{error}");
                &self.failed
            }
        };
        count.fetch_add(1, Relaxed);
    }

    fn numbers(&self) -> (u64, u64, u64, u64) {
        let of = |count: &AtomicU64| count.load(Relaxed);
        (
            of(&self.done),
            of(&self.wrong),
            of(&self.failed),
            of(&self.hung_up),
        )
    }
}

/// One of many kinds of statements, whose answer says which one it was.
async fn ask(pool: &Pool, kind: u64, number: i64) -> Result<i64, Error> {
    let text = AssertSqlSafe(format!("select $1::int8 * 1000 + {kind}"));
    let query = sqlx::query_scalar(text).bind(number);
    Ok(match kind {
        0..8 => query.fetch_one(pool).await?,
        8..12 => query.persistent(false).fetch_one(pool).await?,
        12..14 => {
            let text = format!("select {number}::int8 * 1000 + {kind}");
            sqlx::Row::try_get(
                &sqlx::raw_sql(AssertSqlSafe(text)).fetch_one(pool).await?,
                0,
            )?
        }
        14..17 => {
            let mut transaction = pool.begin().await?;
            sqlx::query("select set_config('shop.number', $1, true)")
                .bind(number.to_string())
                .execute(&mut *transaction)
                .await?;
            let text = AssertSqlSafe(format!(
                "select current_setting('shop.number')::int8 * 1000 + {kind}"
            ));
            let sum = sqlx::query_scalar(text)
                .fetch_one(&mut *transaction)
                .await?;
            transaction.commit().await?;
            sum
        }
        _ => {
            let mut lease = pool.acquire().await?;
            let first: i64 = query.fetch_one(&mut *lease).await?;
            let text = AssertSqlSafe(format!("select $1::int8 + {kind}"));
            let again: i64 = sqlx::query_scalar(text)
                .bind(first - kind as i64)
                .fetch_one(&mut *lease)
                .await?;
            again
        }
    })
}

/// So many calls of 32 callers, some of whom hang up, until they are done or told to stop.
async fn load(pool: &Pool, calls: u64, hang_up: bool, stop: &AtomicBool) -> Outcome {
    let outcome = Outcome::default();
    let callers = (0..32).map(async |caller: i64| {
        for call in 0..calls / 32 {
            if stop.load(Relaxed) {
                return;
            }
            let (kind, number) = (fastrand::u64(0..20), caller * 1_000_000 + call as i64);
            let asked = ask(pool, kind, number);
            let got = match hang_up && fastrand::u32(0..50) == 0 {
                true => dropped_after(fastrand::usize(1..8), asked).await,
                false => Some(asked.await),
            };
            outcome.take(number * 1000 + kind as i64, got);
        }
    });
    join_all(callers).await;
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the program pgbouncer"]
async fn a_hundred_thousand_calls_over_two_sessions_with_clients_that_hang_up() {
    if !keeps_apart() {
        return;
    }
    let bouncer = Bouncer::start().await;
    let pool = pool_at(&bouncer.url(), "connection_limit=16");
    let began = Instant::now();
    let outcome = load(&pool, 100_000, true, &AtomicBool::new(false)).await;
    let (done, wrong, failed, hung_up) = outcome.numbers();
    println!(
        "{done} done, {wrong} wrong, {failed} failed, {hung_up} hung up in {:.1?}; connections closed: {:?}",
        began.elapsed(),
        pool.stats().closed
    );
    assert_eq!((wrong, failed), (0, 0));
    assert!(done > 95_000 && hung_up > 1000);
    settled(&pool).await;
}

/// Load while something happens: none of the calls may fail, or none but in the first `outage` of it.
async fn while_loaded(pool: &Pool, happens: impl Future<Output = ()>) -> Outcome {
    let stop = AtomicBool::new(false);
    let happening = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        happens.await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        stop.store(true, Relaxed);
    };
    join(load(pool, 100_000_000, false, &stop), happening)
        .await
        .0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the program pgbouncer"]
async fn a_pause_and_a_reload_fail_nothing() {
    if !keeps_apart() {
        return;
    }
    let bouncer = Bouncer::start().await;
    let pool = pool_at(&bouncer.url(), "connection_limit=8");
    let outcome = while_loaded(&pool, async {
        for _ in 0..3 {
            bouncer.tell("PAUSE").await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            bouncer.tell("RESUME").await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            bouncer.tell("RELOAD").await;
        }
    })
    .await;
    let (done, wrong, failed, _) = outcome.numbers();
    println!("{done} done, {wrong} wrong, {failed} failed in three pauses and reloads");
    assert_eq!((wrong, failed), (0, 0));
    settled(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the program pgbouncer"]
async fn after_a_restart_all_is_well_within_a_second() {
    if !keeps_apart() {
        return;
    }
    let mut bouncer = Bouncer::start().await;
    let pool = pool_at(&bouncer.url(), "connection_limit=8");
    pool.execute("select 1").await.expect("an answer");
    let mut longest = Duration::ZERO;
    for _ in 0..5 {
        let restarted = async {
            bouncer.restart().await;
            let began = Instant::now();
            while pool.execute("select 1").await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            longest = longest.max(began.elapsed());
        };
        let (_, wrong, ..) = while_loaded(&pool, restarted).await.numbers();
        assert_eq!(wrong, 0);
    }
    println!("back {longest:.0?} after PgBouncer listened, at most");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    settled(&pool).await;
}

/// A statement of each way to ask, on a table whose columns change.
async fn ask_each_way(pool: &Pool) -> Result<(), Error> {
    let read = || sqlx::query("select *, 1 as one from thing where id::text <> $1").bind("0");
    read().fetch_all(pool).await?;
    let write = "insert into thing (note) values ($1) returning *, 2 as two";
    sqlx::query(write).bind("new").fetch_one(pool).await?;
    let mut lease = pool.acquire().await?;
    let leased = sqlx::query("select *, 3 as three from thing where id::text <> $1").bind("0");
    leased.fetch_all(&mut *lease).await?;
    drop(lease);
    let mut transaction = pool.begin().await?;
    let first = sqlx::query("select *, 4 as four from thing where id::text <> $1").bind("0");
    first.fetch_all(&mut *transaction).await?;
    read().fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    let replica = pool.read();
    let fifth =
        sqlx::query("select *, 5 as five from thing where id::text <> $1 -- the last").bind("0");
    fifth.fetch_all(replica).await?;
    Ok(())
}

#[tokio::test]
#[ignore = "needs the program pgbouncer"]
async fn a_changed_table_heals_behind_it_too() {
    if !keeps_apart() {
        return;
    }
    let bouncer = Bouncer::start_with("default_pool_size = 1").await;
    let change = |sql: &str| bouncer.server.sql("postgres", sql).expect("a change");
    change("create table thing (id int default 1, note text)");
    let proxy = Proxy::start(bouncer.port, Duration::ZERO).await;
    let url = proxy.url(&bouncer.url(), bouncer.port);
    let pool = pool_at(&url, "connection_limit=2");
    let options: PgConnectOptions = bouncer.url().parse().expect("a URL");
    let plain = options.extra_float_digits(None);
    let theirs = async |connection: &mut sqlx::PgConnection| {
        let read = sqlx::query("select *, 0 as zero from thing where id::text <> $1").bind("0");
        read.fetch_all(connection).await.map(drop)
    };
    let mut connection = plain.connect().await.expect("a connection");
    theirs(&mut connection).await.expect("before");
    ask_each_way(&pool).await.expect("before");
    for (round, kind) in ["bigint", "text", "varchar(10)"].into_iter().enumerate() {
        change(&format!(
            "alter table thing alter column id drop default, alter column id type {kind}"
        ));
        if round == 0 {
            theirs(&mut connection).await.expect_err("stale");
            connection
                .clear_cached_statements()
                .await
                .expect("forgotten");
            theirs(&mut connection).await.expect_err("stale for good");
            let mut another = plain.connect().await.expect("a connection");
            theirs(&mut another).await.expect_err("for others as well");
        }
        // Each of these is a service that was started anew, with nothing but the text.
        let anew = pool_at(&bouncer.url(), "connection_limit=2");
        for (what, pool) in [("the same", &pool), ("a new one", &anew)] {
            for again in 0..3 {
                let asked = ask_each_way(pool).await;
                asked.unwrap_or_else(|error| panic!("{what}, {kind}, {again}: {error}"));
            }
        }
    }
    // What a stranger took from the pooler's session, unseen by it, is stale as well.
    let mut stranger = plain.connect().await.expect("a connection");
    let forget = "do $$ begin execute 'deallocate all'; end $$";
    // The pooler may just have taken a new session, in which nothing is missing yet.
    until("it is gone for good", async || {
        stranger.execute(forget).await.expect("done");
        theirs(&mut stranger).await.is_err()
    })
    .await;
    ask_each_way(&pool).await.expect("prepared anew");
    // Found stale once, it costs what any statement costs.
    let read = || sqlx::query("select *, 1 as one from thing where id::text <> $1").bind("0");
    for _ in 0..10 {
        read().fetch_all(&pool).await.expect("an answer");
    }
    let before = proxy.turns();
    for _ in 0..10 {
        read().fetch_all(&pool).await.expect("an answer");
    }
    assert_eq!(proxy.turns() - before, 10);
    settled(&pool).await;
}

/// How PgBouncer asks for passwords. What it says of a wrong one differs, and its code is that of a broken protocol.
const ASKING: [&str; 3] = ["scram-sha-256", "md5", "plain"];

#[tokio::test]
#[ignore = "needs the program pgbouncer"]
async fn a_rotated_password_is_read_again() {
    if !keeps_apart() {
        return;
    }
    if std::env::var_os("DATABASE_URL_FILE").is_none() {
        // In a process of its own, whose environment it is.
        let file = std::env::temp_dir().join(format!("rotated-{}", std::process::id()));
        let mut process =
            std::process::Command::new(std::env::current_exe().expect("this program"));
        process
            .args(["--exact", "--ignored", "--nocapture"])
            .arg("a_rotated_password_is_read_again")
            .env("DATABASE_URL_FILE", &file);
        let output = process.output().expect("run");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}"
        );
        std::fs::remove_file(file).expect("the file");
        return;
    }
    let file = std::env::var_os("DATABASE_URL_FILE").expect("a file");
    for auth in ASKING {
        let bouncer = Bouncer::start_with(&format!("auth_type = {auth}")).await;
        std::fs::write(&file, bouncer.url()).expect("written");
        let pool = Pool::new(db::Config::from_env().expect("a configuration"));
        pool.execute("select 1").await.expect("the first password");
        for password in ["two", "three"] {
            bouncer.rotate(password).await;
            let url = bouncer.url().replace("anything", password);
            std::fs::write(&file, url).expect("written");
            pool.evict();
            for _ in 0..3 {
                let asked = pool.execute("select 1").await;
                asked.unwrap_or_else(|error| panic!("{auth}: {error}"));
            }
        }
        assert_eq!(pool.stats().connect_failed, 0, "{auth}");
    }
}

#[tokio::test]
#[ignore = "needs the program pgbouncer"]
async fn a_provider_of_credentials_is_asked_again() {
    if !keeps_apart() {
        return;
    }
    for auth in ASKING {
        let bouncer = Bouncer::start_with(&format!("auth_type = {auth}")).await;
        let config = db::Config::parse(&bouncer.url()).expect("a valid URL");
        let asked = Arc::new(AtomicU64::new(0));
        let counted = asked.clone();
        // As providers do: it keeps what it has got until that is refused.
        let pool = Pool::new(config.credentials(move |refused| {
            counted.fetch_add(1, Relaxed);
            let password = if refused == 0 { "anything" } else { "two" }.to_owned();
            async move {
                Ok(db::Credentials {
                    user: None,
                    password,
                })
            }
        }));
        bouncer.rotate("two").await;
        pool.execute("select 1").await.expect("an answer");
        bouncer.rotate("three").await;
        pool.evict();
        let before = asked.load(Relaxed);
        let error = pool.execute("select 1").await.expect_err("none is right");
        assert!(Error::from(error).is_unavailable());
        assert!(
            asked.load(Relaxed) - before < 10,
            "it is not asked for ever"
        );
    }
}

/// Asks as a service does that has reads and writes, all at once. Gives what went wrong.
async fn reads_and_writes(pool: &Pool, each: usize) -> Vec<Error> {
    let reads = (0..each).map(|_| async {
        let read = sqlx::query("select count(*) from thing where id <> $1").bind(0);
        read.execute(pool).await.map(drop)
    });
    let writes = (0..each).map(|_| async {
        let write = sqlx::query("insert into thing values ($1)").bind(1);
        write.execute(pool).await.map(drop)
    });
    let (reads, writes) = join(join_all(reads), join_all(writes)).await;
    let answers = reads.into_iter().chain(writes);
    answers.filter_map(Result::err).map(Error::from).collect()
}

/// A 503 that names the pooler and has its SQLSTATE.
fn is_of_pooler(error: &Error) {
    let text = error.to_string();
    let code = error.as_database().and_then(|error| error.code());
    assert!(error.is_unavailable(), "{text}");
    assert_eq!(code.as_deref(), Some("08P01"), "{text}");
    assert!(text.contains("pooler"), "{text}");
}

/// A table, and a pool whose connections are open.
async fn with_table(bouncer: &Bouncer, parameters: &str) -> Pool {
    let made = bouncer
        .server
        .sql("postgres", "create table if not exists thing (id int)");
    made.expect("a table");
    let pool = pool_at(&bouncer.url(), parameters);
    let errors = reads_and_writes(&pool, 6).await;
    assert!(errors.is_empty(), "{errors:?}");
    pool
}

fn failovers(pool: &Pool) -> u64 {
    pool.stats().closed[CloseReason::Failover as usize]
}

/// How long until everything goes well.
async fn recovery(pool: &Pool) -> Duration {
    let began = Instant::now();
    while !reads_and_writes(pool, 3).await.is_empty() {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?}",
            pool.stats()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

#[tokio::test]
#[ignore = "needs the program pgbouncer"]
async fn a_full_queue_of_the_pooler_is_said_to_be_the_poolers() {
    if !keeps_apart() {
        return;
    }
    let bouncer = Bouncer::start_with("query_wait_timeout = 1\ndefault_pool_size = 1").await;
    let pool = with_table(&bouncer, "connection_limit=6").await;
    let options: PgConnectOptions = bouncer.url().parse().expect("a URL");
    let other = options.extra_float_digits(None).connect().await;
    let mut other = other.expect("a connection");
    other.execute("begin").await.expect("it has the session");
    let repeated = pool.stats().repeated;
    let began = Instant::now();
    let errors = reads_and_writes(&pool, 3).await;
    println!(
        "{} of 6 after {:.1?}: {:?}",
        errors.len(),
        began.elapsed(),
        pool.stats()
    );
    assert_eq!(errors.len(), 6);
    errors.iter().for_each(is_of_pooler);
    assert!(
        errors[0].to_string().contains("query_wait_timeout"),
        "{}",
        errors[0]
    );
    assert!(
        pool.stats().repeated - repeated <= 3,
        "a read once more, no write"
    );
    other.execute("rollback").await.expect("it is free");
    let back = recovery(&pool).await;
    println!("well after {back:.1?}: {:?}", pool.stats());
    assert!(back < Duration::from_secs(1), "{back:?}");
    assert_eq!(failovers(&pool), 0);
    let rows = bouncer.server.sql("postgres", "select count(*) from thing");
    println!("{} rows", rows.expect("a count").trim());
    settled(&pool).await;
}

#[tokio::test]
#[ignore = "needs the program pgbouncer"]
async fn clients_that_the_pooler_ends_for_being_idle_fail_nothing() {
    if !keeps_apart() {
        return;
    }
    let bouncer = Bouncer::start_with("client_idle_timeout = 1").await;
    let pool = with_table(&bouncer, "connection_limit=6").await;
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let errors = reads_and_writes(&pool, 6).await;
        assert!(errors.is_empty(), "{errors:?}");
    }
    println!("{:?}", pool.stats());
    assert_eq!(failovers(&pool), 0);
    settled(&pool).await;
}

#[tokio::test]
#[ignore = "needs the program pgbouncer"]
async fn a_server_that_is_away_from_its_pooler_is_back_when_the_pooler_is() {
    if !keeps_apart() {
        return;
    }
    let bouncer = Bouncer::start_with("server_login_retry = 2").await;
    let pool = with_table(&bouncer, "connection_limit=6").await;
    bouncer.server.stop(Stop::Immediate).expect("stopped");
    for _ in 0..5 {
        for error in reads_and_writes(&pool, 3).await {
            assert!(error.is_unavailable(), "{error}");
        }
    }
    let last = reads_and_writes(&pool, 1).await;
    println!("{}", last[0]);
    bouncer.server.start().expect("started");
    let plain = Instant::now();
    // As soon as anybody gets through, this pool does.
    while bouncer.ask().await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let pooler = plain.elapsed();
    let back = recovery(&pool).await;
    println!(
        "the pooler after {pooler:.1?}, the pool {back:.1?} later: {:?}",
        pool.stats()
    );
    assert!(back < Duration::from_secs(1), "{back:?}");
    assert_eq!(failovers(&pool), 0);
    settled(&pool).await;
}

#[tokio::test]
#[ignore = "needs the program pgbouncer"]
async fn a_pause_and_a_kill_of_the_pooler_cost_no_more_than_they_last() {
    if !keeps_apart() {
        return;
    }
    let bouncer = Bouncer::start().await;
    let pool = with_table(&bouncer, "connection_limit=6").await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let opened = pool.stats().opened;
    bouncer.tell("PAUSE").await;
    let resume = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        bouncer.tell("RESUME").await;
    };
    let (errors, ()) = join(reads_and_writes(&pool, 6), resume).await;
    println!("pause: {errors:?} {:?}", pool.stats());
    assert!(errors.is_empty());
    assert_eq!(
        pool.stats().opened,
        opened,
        "nobody's connection is closed for it"
    );
    bouncer.tell("KILL postgres").await;
    let resume = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        bouncer.tell("RESUME postgres").await;
        Instant::now()
    };
    let (errors, since) = join(reads_and_writes(&pool, 3), resume).await;
    println!(
        "kill: {:?} after {:.1?} {errors:?}",
        pool.stats(),
        since.elapsed()
    );
    let back = recovery(&pool).await;
    let all = since.elapsed();
    println!("well {back:.1?} later, {all:.1?} after RESUME");
    assert!(all < Duration::from_secs(1), "{all:?}");
    assert_eq!(failovers(&pool), 0);
    settled(&pool).await;
}

#[tokio::test]
#[ignore = "needs the program pgbouncer"]
async fn a_session_that_a_stranger_left_read_only_is_no_failover() {
    if !keeps_apart() {
        return;
    }
    let bouncer = Bouncer::start_with("default_pool_size = 1").await;
    let pool = with_table(&bouncer, "connection_limit=6").await;
    let options: PgConnectOptions = bouncer.url().parse().expect("a URL");
    let mut stranger = options
        .extra_float_digits(None)
        .connect()
        .await
        .expect("a connection");
    // The setting of its session, which the pooler lends to others.
    stranger
        .execute("set default_transaction_read_only = on")
        .await
        .expect("set");
    let errors = reads_and_writes(&pool, 10).await;
    assert_eq!(errors.len(), 10, "all writes");
    for error in errors {
        let code = error.as_database().and_then(|error| error.code());
        assert_eq!(code.as_deref(), Some("25006"), "{error}");
        assert!(error.is_unavailable());
    }
    until("its statements are answered", async || {
        pool.stats().in_use == 0
    })
    .await;
    let closed = pool.stats().closed;
    assert_eq!(closed, [0; 6], "the connections are well");
    stranger
        .execute("set default_transaction_read_only = off")
        .await
        .expect("set");
    assert!(reads_and_writes(&pool, 3).await.is_empty());
    assert_eq!(failovers(&pool), 0);
    settled(&pool).await;
}

#[tokio::test]
#[ignore = "needs the program pgbouncer"]
async fn timeouts_reach_the_server_in_transactions_and_the_client_ends_the_rest() {
    if !keeps_apart() {
        return;
    }
    let bouncer = Bouncer::start().await;
    let parameters = "connection_limit=2&statement_timeout=300&socket_timeout=1";
    let pool = pool_at(&bouncer.url(), parameters);
    let mut transaction = pool.begin().await.expect("begun");
    let error = transaction.execute("select pg_sleep(5)").await;
    let error = error.expect_err("too long");
    let code = error.as_database_error().and_then(|error| error.code());
    assert_eq!(code.as_deref(), Some("57014"), "{error}");
    drop(transaction);
    let told: String = sqlx::query_scalar("show statement_timeout")
        .fetch_one(&pool)
        .await
        .expect("a setting");
    assert_eq!(told, "0", "outside a transaction it is the role's");
    let began = Instant::now();
    pool.execute("select pg_sleep(5)")
        .await
        .expect_err("too long");
    assert!(
        began.elapsed() < Duration::from_millis(1500),
        "socket_timeout"
    );
    // What the role has is not touched where nobody has set anything.
    bouncer
        .server
        .sql(
            "postgres",
            "alter role postgres set statement_timeout = '2s'",
        )
        .expect("set");
    let plain = Bouncer::url(&bouncer);
    bouncer.tell("RECONNECT").await;
    let pool = pool_at(&plain, "");
    let mut transaction = pool.begin().await.expect("begun");
    let told: String = sqlx::query_scalar("show statement_timeout")
        .fetch_one(&mut *transaction)
        .await
        .expect("a setting");
    assert_eq!(told, "2s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the program pgbouncer"]
async fn clients_that_hang_up_are_no_storm_of_connections() {
    if !keeps_apart() {
        return;
    }
    let bouncer = Bouncer::start_with("max_client_conn = 100").await;
    let pool = pool_at(&bouncer.url(), "connection_limit=8&pool_timeout=60");
    let broken = || {
        let closed = pool.stats().closed;
        closed[CloseReason::Broken as usize]
    };
    let hang_up = async |seconds: &str, times: usize| {
        let (before, began) = (broken(), Instant::now());
        let text = format!("select pg_sleep({seconds})");
        let calls = (0..times).map(|_| {
            let asked = pool.execute(AssertSqlSafe(text.clone()));
            tokio::time::timeout(Duration::from_millis(100), asked)
        });
        let done = join_all(calls).await;
        assert!(done.iter().any(Result::is_err));
        settled(&pool).await;
        (broken() - before, began.elapsed())
    };
    let (closed, _) = hang_up("0.4", 40).await;
    assert_eq!(closed, 0, "short ones are waited for");
    let mut all = 0;
    let began = Instant::now();
    for _ in 0..5 {
        all += hang_up("30", 8).await.0;
    }
    let rate = all as f64 / began.elapsed().as_secs_f64();
    println!("{all} closed for 40 clients that hung up on long statements, {rate:.1} a second");
    assert!(rate <= 8.0 / 2.0, "no more than the limit in two seconds");
}

#[tokio::test]
#[ignore = "needs the program pgbouncer"]
async fn what_needs_a_session_of_its_own_says_so_and_migrations_take_the_direct_url() {
    if !keeps_apart() {
        return;
    }
    let bouncer = Bouncer::start().await;
    let pool = pool_at(&bouncer.url(), "");
    let migrator = sqlx::migrate::Migrator::DEFAULT;
    let error = pool.migrate(&migrator).await.expect_err("no session");
    assert!(error.to_string().contains("set DIRECT_URL"), "{error}");
    let heard = pool.listen(["orders"]).await.map(drop);
    let error = heard.expect_err("no session").to_string();
    assert!(error.contains("notifications"), "{error}");

    // In a process of its own, whose environment it is.
    let migrate = |direct: &str| {
        let mut process =
            std::process::Command::new(std::env::current_exe().expect("this program"));
        process
            .args(["--exact", "--ignored", "--nocapture", "migrates"])
            .env("DATABASE_URL", bouncer.url())
            .env("DIRECT_URL", direct);
        let output = process.output().expect("run").stdout;
        String::from_utf8_lossy(&output).into_owned()
    };
    let direct = migrate(&bouncer.server.url("postgres"));
    assert!(direct.contains("migrated: Ok"), "{direct}");
    let wrong = migrate("postgres://h/d?conection_limit=1");
    assert!(
        wrong.contains("DIRECT_URL has an unknown parameter"),
        "{wrong}"
    );
}

/// Leaves so many sessions of the pooler with this state, as a client does that asks for it outside a transaction.
async fn leave(bouncer: &Bouncer, state: &'static str, sessions: usize) {
    let options: PgConnectOptions = bouncer.url().parse().expect("a URL");
    let options = options.extra_float_digits(None);
    let mut clients = Vec::new();
    for _ in 0..sessions {
        let mut client = options.connect().await.expect("a client");
        client.execute("begin").await.expect("a session of its own");
        clients.push(client);
    }
    for client in &mut clients {
        client.execute(state).await.expect("set");
        client.execute("commit").await.expect("committed");
    }
}

/// What other clients leave in the pooler's sessions, and how many of its two.
const LEFT: [(&str, usize); 4] = [
    ("select pg_catalog.set_config('search_path', '', false)", 1),
    ("select pg_catalog.set_config('search_path', '', false)", 2),
    ("set search_path = strange", 2),
    ("set role stranger", 2),
];

#[tokio::test]
#[ignore = "needs the program pgbouncer"]
async fn a_session_that_another_client_has_left_is_not_taken_for_the_database() {
    if !keeps_apart() {
        return;
    }
    let sql = AssertSqlSafe("create table thing (id int)".to_owned()).into_sql_str();
    let kind = sqlx::migrate::MigrationType::Simple;
    let migration = sqlx::migrate::Migration::new(1, "thing".into(), kind, sql, false);
    let migrator = sqlx::migrate::Migrator::with_migrations(vec![migration]);
    for (state, sessions) in LEFT {
        let bouncer = Bouncer::start().await;
        let direct = pool_at(&bouncer.server.url("postgres"), "");
        direct.execute("create schema strange").await.expect("made");
        direct.execute("create role stranger").await.expect("made");
        direct
            .execute("create schema stranger")
            .await
            .expect("made");
        direct
            .execute("grant create, usage on schema stranger to stranger")
            .await
            .expect("made");
        direct.migrate_any(&migrator).await.expect("migrated");
        direct
            .execute("grant select on _sqlx_migrations to stranger")
            .await
            .expect("granted");
        let pool = pool_at(&bouncer.url(), "");
        let schema = pool.schema(&migrator).await.expect("an answer");
        assert_eq!(schema, db::Schema::Current);
        leave(&bouncer, state, sessions).await;
        let mut unclear = 0;
        for _ in 0..20 {
            match pool.schema(&migrator).await.expect("an answer") {
                db::Schema::Current => {}
                db::Schema::Unclear { session } => {
                    assert!(
                        session.contains("search_path = '") && session.contains("RECONNECT"),
                        "{session}"
                    );
                    unclear += 1;
                }
                other => panic!("{state}: {other:?}"),
            }
        }
        println!("{state}, {sessions} of 2 sessions: {unclear} of 20 unclear");
        if state.contains("search_path") && sessions == 2 {
            assert_eq!(unclear, 20, "{state}");
        }
        // What is really lost is still found.
        bouncer.tell("RECONNECT").await;
        direct
            .execute("drop table _sqlx_migrations")
            .await
            .expect("dropped");
        let lost = pool.schema(&migrator).await.expect("an answer");
        assert!(matches!(lost, db::Schema::Older { .. }), "{lost:?}");
    }
}

#[tokio::test]
#[ignore = "needs the program pgbouncer"]
async fn a_hook_does_not_run_in_sessions_that_others_have_too() {
    if !keeps_apart() {
        return;
    }
    let bouncer = Bouncer::start().await;
    let config = db::Config::parse(&bouncer.url()).expect("a valid URL");
    let pool = Pool::new(config.after_connect(|connection| {
        Box::pin(async move { connection.execute("set work_mem = '1MB'").await.map(drop) })
    }));
    let theirs = pool.sqlx_pool(2).await.expect("a part");
    let others = pool_at(&bouncer.url(), "");
    for _ in 0..10 {
        pool.execute("select 1").await.expect("an answer");
        theirs.execute("select 1").await.expect("an answer");
        let set: String = sqlx::query_scalar("show work_mem")
            .fetch_one(&others)
            .await
            .expect("a setting");
        assert_eq!(set, "4MB");
    }
}

#[tokio::test]
#[ignore = "run by a test above"]
async fn migrates() {
    let pool = match db::pool() {
        Ok(pool) => pool,
        Err(db::ConfigError::Missing) => return,
        Err(error) => return println!("{error}"),
    };
    let migrated = pool.migrate(&sqlx::migrate::Migrator::DEFAULT).await;
    println!("migrated: {migrated:?}");
}

#[tokio::test]
#[ignore = "needs the program pgbouncer"]
async fn in_session_mode_it_is_used_as_the_server_itself() {
    let silent = "ignore_startup_parameters = extra_float_digits,options\n";
    for more in ["", silent, "max_prepared_statements = 0\n"] {
        let settings = format!("pool_mode = session\ndefault_pool_size = 9\n{more}");
        let bouncer = Bouncer::start_with(&settings).await;
        for parameters in ["connection_limit=3", "connection_limit=3&pgbouncer=true"] {
            let pool = pool_at(&bouncer.url(), parameters);
            let told: String = sqlx::query_scalar("show statement_timeout")
                .fetch_one(&pool)
                .await
                .expect("an answer");
            assert_eq!(told, "5s", "{more}{parameters}");
            assert_eq!(mistakes(&pool).await, 0);
            let migrated = pool.migrate_any(&sqlx::migrate::Migrator::DEFAULT).await;
            migrated.expect("a session of its own");
            drop(pool.listen(["orders"]).await.expect("a session of its own"));

            // What nobody waits for is cancelled, and a lease leaves nothing behind.
            let gone = pool.execute("select pg_sleep(50)");
            let _ = tokio::time::timeout(Duration::from_millis(100), gone).await;
            settled(&pool).await;
            let running = "select count(*) from pg_stat_activity where query = 'select pg_sleep(50)' and state = 'active'";
            support::until("it is cancelled", async || {
                let count = bouncer.server.sql("postgres", running);
                count.is_ok_and(|count| count.trim() == "0")
            })
            .await;
            support::a_lease_leaves_nothing(&pool).await;
            pool.close(Duration::from_secs(1)).await;
        }
        bouncer
            .server
            .sql("postgres", "create schema if not exists shop")
            .expect("a schema");
        let pool = pool_at(&bouncer.url(), "schema=shop&connection_limit=auto");
        let schema: String = sqlx::query_scalar("select current_schema()")
            .fetch_one(&pool)
            .await
            .expect("an answer");
        assert_eq!((schema.as_str(), pool.stats().limit), ("shop", 10));
        pool.close(Duration::from_secs(1)).await;
        // Its clients' settings do not stay: server_reset_query.
        let other = pool_at(&bouncer.url(), "connection_limit=1");
        let schema: String = sqlx::query_scalar("select current_schema()")
            .fetch_one(&other)
            .await
            .expect("an answer");
        assert_eq!(schema, "public");
    }
}

#[tokio::test]
#[ignore = "needs the program pgbouncer"]
async fn in_session_mode_with_too_few_sessions_the_error_says_so() {
    // The first connection of the pool needs a second session for a moment, to be understood.
    for (sessions, lent, word) in [
        (1, 0, "a second connection got no answer"),
        (2, 2, "may have none left"),
    ] {
        let settings = format!("pool_mode = session\ndefault_pool_size = {sessions}");
        let bouncer = Bouncer::start_with(&settings).await;
        let pool = pool_at(&bouncer.url(), "connection_limit=4&connect_timeout=4");
        let mut leases = Vec::new();
        let error = loop {
            match pool.acquire().await {
                Ok(lease) => leases.push(lease),
                Err(error) => break error,
            }
        };
        assert_eq!(leases.len(), lent, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("pool_mode = session") && text.contains(word),
            "{text}"
        );
        assert!(text.contains("default_pool_size"), "{text}");
    }
}
