//! What is between the pool and its server is found by what it does, whatever it says.

mod support;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use db::{Error, Pool};
use futures_util::future::join_all;
use local_postgres::Cluster;
use sqlx::{AssertSqlSafe, Row};
use support::middleman::{Turn, Ways, start};
use support::{failure, pool_at, settled, until};

/// A text answer to a statement without parameters, which is one message.
async fn text(pool: &Pool, sql: &str) -> Result<String, Error> {
    let row = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .fetch_one(pool)
        .await?;
    Ok(row.try_get_unchecked(0)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_cancels_nobody_elses_statement() {
    let server = Cluster::temporary().expect("a server");
    server
        .sql("postgres", "create table paid (id int)")
        .expect("a table");
    for turn in [Turn::Last, Turn::First, Turn::Any] {
        let ways = Ways {
            turn,
            sessions: 4,
            ..Ways::default()
        };
        let pool = pool_at(&start(&server, ways).await, "connection_limit=12");
        let warm = (0..12).map(|_| text(&pool, "select pg_sleep(0.02)::text"));
        for answer in join_all(warm).await {
            answer.expect("an answer");
        }
        let mut failed = Vec::new();
        for round in 0..4 {
            let innocent = (0..6).map(async |_| {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..60))).await;
                let sql = "insert into paid select 1 from pg_sleep(0.3) returning id::text";
                text(&pool, sql).await.map(drop)
            });
            let gone = (0..6).map(async |_| {
                let asked = text(&pool, "select pg_sleep(0.2)::text");
                let _ = tokio::time::timeout(Duration::from_millis(50), asked).await;
                Ok::<_, Error>(())
            });
            let (innocent, _) =
                futures_util::future::join(join_all(innocent), join_all(gone)).await;
            failed.extend(
                innocent
                    .into_iter()
                    .filter_map(Result::err)
                    .map(|error| format!("{turn:?}, round {round}: {error}")),
            );
        }
        assert_eq!(failed, [""; 0]);
        settled(&pool).await;
    }
    let log = std::fs::read_to_string(server.log_file()).expect("a log");
    assert!(!log.contains("due to user request"), "{log}");
}

#[tokio::test]
async fn one_that_passes_everything_on_is_a_pooler_all_the_same() {
    let server = Cluster::temporary().expect("a server");
    for turn in [Turn::Last, Turn::First, Turn::Any] {
        let ways = Ways {
            turn,
            ..Ways::default()
        };
        let url = start(&server, ways).await;
        let pool = pool_at(&url, "");
        // The first thing that is done.
        let error = pool.migrate(&sqlx::migrate::Migrator::DEFAULT).await;
        let error = error.expect_err("no session").to_string();
        assert!(error.contains("set DIRECT_URL"), "{turn:?}: {error}");

        // What was opened before is used no more, and nobody had to wait for that.
        let pool = pool_at(&url, "connection_limit=3");
        text(&pool, "select 'first'").await.expect("an answer");
        until("it is found", async || {
            pool.stats().closed.iter().sum::<u64>() > 0
        })
        .await;
        text(&pool, "select 'second'").await.expect("an answer");
        let auto = pool_at(&url, "connection_limit=auto");
        text(&auto, "select 'auto'").await.expect("an answer");
        until("the limit is its default", async || {
            auto.stats().limit == 10
        })
        .await;

        let refused = pool_at(&url, "schema=shop");
        let refuses = async || match text(&refused, "select current_schema()").await {
            Err(error) => error.to_string().contains("`schema`"),
            Ok(_) => false,
        };
        until("the schema is refused", refuses).await;
    }
}

#[tokio::test]
async fn a_refusal_of_options_is_known_by_what_gets_through_without() {
    let server = Cluster::temporary().expect("a server");
    // The last one is no code that says anything.
    for code in ["0A000", "08P01", "42704", "XX000", "99999"] {
        for parameters in ["connection_limit=2", "connection_limit=2&pgbouncer=true"] {
            let pooler = Ways {
                refuses: Some(code),
                ..Ways::default()
            };
            let pool = pool_at(&start(&server, pooler).await, parameters);
            text(&pool, "select 'in turn'").await.expect("an answer");
            let error = pool.migrate(&sqlx::migrate::Migrator::DEFAULT).await;
            assert!(error.is_err(), "{code}: {parameters}");

            // As a proxy does it that keeps a session for a client, under whatever name.
            let pinned = Ways {
                refuses: Some(code),
                keeps: true,
                renames: false,
                sessions: 6,
                ..Ways::default()
            };
            let url = start(&server, pinned).await;
            // With the flag a schema is refused before anything is opened.
            let schema = match parameters.contains("pgbouncer") {
                true => "",
                false => "&schema=pg_catalog",
            };
            let pool = pool_at(
                &url,
                &format!("{parameters}&statement_timeout=1500{schema}"),
            );
            let timeout = text(&pool, "show statement_timeout")
                .await
                .expect("an answer");
            assert_eq!(timeout, "1500ms", "{code}: {parameters}");
            pool.migrate(&sqlx::migrate::Migrator::DEFAULT)
                .await
                .expect("a session");
            if !parameters.contains("pgbouncer") {
                let schema = text(&pool, "select current_schema()").await;
                assert_eq!(schema.expect("an answer"), "pg_catalog");
            }
            let mixed = Ways {
                refuses: Some(code),
                renames: false,
                ..Ways::default()
            };
            let error = failure(&start(&server, mixed).await, parameters).await;
            assert!(error.contains("max_prepared_statements"), "{error}");
            assert!(error.contains("prepared_statements_cache_size"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_wrong_option_is_no_pooler() {
    let url = local_postgres::database();
    for (option, word) in [("work_mem%3Dmuch", "work_mem"), ("no_such%3D1", "no_such")] {
        let error = failure(&url, &format!("options=-c%20{option}")).await;
        assert!(error.contains(word) && !error.contains("pooler"), "{error}");
    }
}

#[tokio::test]
async fn pgbouncer_true_before_a_server_itself_keeps_its_timeouts() {
    let pool = support::pool("pgbouncer=true&statement_timeout=1700&connection_limit=2");
    let told = text(&pool, "show statement_timeout")
        .await
        .expect("an answer");
    assert_eq!(told, "1700ms");
    pool.migrate(&sqlx::migrate::Migrator::DEFAULT)
        .await
        .expect("a session");
    let report = pool.examine().await.expect("a report").to_string();
    assert!(!report.contains("behind a pooler"), "{report}");
}

#[tokio::test]
async fn what_is_kept_for_a_client_is_its_own_and_is_cancelled() {
    let server = Cluster::temporary().expect("a server");
    let ways = Ways {
        refuses: Some("0A000"),
        keeps: true,
        renames: false,
        sessions: 8,
        ..Ways::default()
    };
    let pool = pool_at(&start(&server, ways).await, "connection_limit=2");
    text(&pool, "select 'warm'").await.expect("an answer");
    let asked = text(&pool, "select pg_sleep(30)::text");
    let _ = tokio::time::timeout(Duration::from_millis(50), asked).await;
    settled(&pool).await;
    let running = "select count(*) from pg_stat_activity where query like '%pg_sleep(30)%' and state = 'active' and pid <> pg_backend_pid()";
    until("it is cancelled", async || {
        server
            .sql("postgres", running)
            .is_ok_and(|count| count.trim() == "0")
    })
    .await;
    support::a_lease_leaves_nothing(&pool).await;
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("a log").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_pool_behind_one_is_told_of_its_sessions_and_the_log_ends_with_the_limit_that_holds() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone());
    let _kept = tracing::subscriber::set_default(subscriber.finish());
    let server = Cluster::temporary().expect("a server");
    for forgets in [true, false] {
        let ways = Ways {
            forgets,
            ..Ways::default()
        };
        let url = start(&server, ways).await;
        let pool = pool_at(&url, "connection_limit=auto");
        text(&pool, "select 'auto'").await.expect("an answer");
        until("the limit is its default", async || {
            pool.stats().limit == 10
        })
        .await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(pool.stats().limit, 10);
        let said = String::from_utf8(log.0.lock().expect("a log").clone()).expect("text");
        let of_limit: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("the limit is"))
            .collect();
        let last = of_limit.last().expect("a line");
        assert!(last.contains("the limit is 10, its default"), "{said}");

        let pool = pool_at(&url, "connection_limit=2");
        let long = (0..6).map(|_| text(&pool, "select pg_sleep(0.8)::text"));
        let sentence = async {
            tokio::time::sleep(Duration::from_millis(400)).await;
            pool.diagnosis().sentence
        };
        let (_, sentence) = futures_util::future::join(join_all(long), sentence).await;
        if forgets {
            assert!(
                sentence.contains("Give the pooler more sessions"),
                "{sentence}"
            );
            assert!(!sentence.contains("room for"), "{sentence}");
        }
    }
}
