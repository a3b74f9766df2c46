//! Several hosts in one URL: the one that fits is found, and after a failover the new one.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use db::{Config, Pool};
use local_postgres::{Cluster, Stop};
use sqlx::postgres::PgConnectOptions;
use support::proxy::Proxy;
use support::{connect_error, settled, until};
use tokio::task::JoinHandle;

/// A primary whose commits are at the standby before they are acknowledged, and that standby.
fn pair() -> (Cluster, Cluster) {
    let primary = Cluster::temporary().expect("a primary");
    let standby = primary.standby().expect("a standby");
    let sql = "alter system set synchronous_standby_names = '*'; alter system set synchronous_commit = 'remote_apply'; \
               select pg_reload_conf()";
    primary.sql("postgres", sql).expect("synchronous");
    (primary, standby)
}

/// The URL of both, in this order.
fn url(first: &str, port: u16, parameters: &str) -> String {
    let (server, database) = first.rsplit_once('/').expect("a database");
    format!("{server},127.0.0.1:{port}/{database}?{parameters}")
}

fn pool_of(primary: &Cluster, standby: &Cluster, parameters: &str) -> Pool {
    let url = url(&primary.url("postgres"), standby.port(), parameters);
    Pool::new(Config::parse(&url).expect("a valid URL"))
}

async fn port_of(pool: &Pool) -> u16 {
    let asked = sqlx::query_scalar("select inet_server_port()");
    let port: i32 = asked.fetch_one(pool).await.expect("an answer");
    u16::try_from(port).expect("a port")
}

/// Clients that insert numbers, each of its own, and what they were told about each.
struct Writers {
    tasks: Vec<JoinHandle<()>>,
    log: Arc<Mutex<HashMap<i64, Result<Instant, String>>>>,
    stop: Arc<AtomicU64>,
}

impl Writers {
    fn start(pool: &Pool) -> Self {
        let log: Arc<Mutex<HashMap<i64, Result<Instant, String>>>> = Arc::default();
        let (stop, next) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicI64::new(0)));
        let one = |index: usize| {
            let (pool, log, stop, next) = (pool.clone(), log.clone(), stop.clone(), next.clone());
            tokio::spawn(async move {
                while stop.load(Relaxed) == 0 {
                    let number = next.fetch_add(1, Relaxed);
                    let written = write(&pool, number, index.is_multiple_of(2)).await;
                    let refused = written.is_err();
                    let said = written.map(|()| Instant::now());
                    let said = said.map_err(|error| match error.is_unavailable() {
                        true => "unavailable".to_owned(),
                        false => {
                            format!("{:?} {error}", error.as_database().and_then(|e| e.code()))
                        }
                    });
                    log.lock().expect("no panic").insert(number, said);
                    if refused {
                        // A client that meets a 503 comes back a little later.
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
            })
        };
        Self {
            tasks: (0..16).map(one).collect(),
            log,
            stop,
        }
    }

    /// When the first one was acknowledged after this moment.
    fn first_after(&self, moment: Instant) -> Option<Instant> {
        let log = self.log.lock().expect("no panic");
        let later = log.values().filter_map(|said| said.as_ref().ok());
        later.filter(|at| **at > moment).min().copied()
    }

    /// Promotes this standby, and says how long it then takes until one is acknowledged.
    async fn resume_at(&self, standby: &Cluster) -> Duration {
        let alone = "alter system set synchronous_standby_names = ''; select pg_reload_conf()";
        standby.sql("postgres", alone).expect("alone");
        standby.promote().expect("promoted");
        let promoted = Instant::now();
        let again = async || self.first_after(promoted).is_some();
        until("they write again", again).await;
        self.first_after(promoted).expect("just seen") - promoted
    }

    async fn end(self) -> HashMap<i64, Result<Instant, String>> {
        self.stop.store(1, Relaxed);
        for task in self.tasks {
            task.await.expect("no panic");
        }
        std::mem::take(&mut self.log.lock().expect("no panic"))
    }
}

/// Twice in a row it would be there twice.
async fn write(pool: &Pool, number: i64, in_transaction: bool) -> Result<(), db::Error> {
    let insert = sqlx::query("insert into written (number) values ($1)").bind(number);
    if !in_transaction {
        return Ok(insert.execute(pool).await.map(drop)?);
    }
    let mut transaction = pool.begin().await?;
    insert.execute(&mut *transaction).await?;
    transaction.commit().await
}

const TABLE: &str =
    "create table written (number bigint not null, server int default inet_server_port())";

/// Each acknowledged number is there, and no number is there twice.
async fn verify(pool: &Pool, log: &HashMap<i64, Result<Instant, String>>) -> usize {
    let found: Vec<i64> = sqlx::query_scalar("select number from written")
        .fetch_all(pool)
        .await
        .expect("an answer");
    let mut times: HashMap<i64, u32> = HashMap::new();
    for number in found {
        *times.entry(number).or_default() += 1;
    }
    let lost: Vec<_> = log
        .iter()
        .filter(|(number, said)| said.is_ok() && !times.contains_key(number))
        .collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let doubled: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(doubled.is_empty(), "written twice: {doubled:?}");
    let other: Vec<_> = log
        .values()
        .filter_map(|said| said.as_ref().err())
        .filter(|said| *said != "unavailable")
        .collect();
    assert!(other.is_empty(), "no 503: {other:?}");
    log.values().filter(|said| said.is_ok()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_at_the_standby_that_is_promoted() {
    let (primary, standby) = pair();
    primary.sql("postgres", TABLE).expect("a table");
    let pool = pool_of(
        &primary,
        &standby,
        "target_session_attrs=read-write&connection_limit=8",
    );
    assert!(
        pool.config().address().parse::<PgConnectOptions>().is_err(),
        "sqlx's own cannot read such a URL"
    );
    let writers = Writers::start(&pool);
    let started = Instant::now();
    until("they write", async || {
        writers.log.lock().expect("no panic").len() > 300
    })
    .await;
    primary.stop(Stop::Immediate).expect("killed");
    // As long as somebody needs to notice it.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let resumed = writers.resume_at(&standby).await;
    // What comes back as if nothing had been: a primary of the timeline before.
    primary.start().expect("started");
    let back = Instant::now();
    until("they write on", async || {
        writers.first_after(back + Duration::from_secs(1)).is_some()
    })
    .await;
    let log = writers.end().await;
    let kept = verify(&pool, &log).await;
    assert_eq!(port_of(&pool).await, standby.port());
    println!(
        "writes resumed {resumed:?} after the promotion; {kept} of {} acknowledged in {:?}, 0 lost, 0 doubled",
        log.len(),
        started.elapsed()
    );
    assert!(resumed < Duration::from_secs(2), "{resumed:?}");
    settled(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_cut_off_does_not_hold_up_the_new_one() {
    let (primary, standby) = pair();
    primary.sql("postgres", TABLE).expect("a table");
    let proxy = Proxy::start(primary.port(), Duration::ZERO).await;
    let first = proxy.url(&primary.url("postgres"), primary.port());
    let parameters = "target_session_attrs=read-write&socket_timeout=1&connection_limit=8";
    let pool =
        Pool::new(Config::parse(&url(&first, standby.port(), parameters)).expect("a valid URL"));
    let writers = Writers::start(&pool);
    until("they write", async || {
        writers.log.lock().expect("no panic").len() > 300
    })
    .await;
    proxy.swallow(true);
    let resumed = writers.resume_at(&standby).await;
    let log = writers.end().await;
    let kept = verify(&pool, &log).await;
    println!(
        "writes resumed {resumed:?} after the promotion, socket_timeout 1 s; {kept} of {} acknowledged",
        log.len()
    );
    // A second until the silence is noticed.
    assert!(resumed < Duration::from_secs(3), "{resumed:?}");
}

#[tokio::test]
async fn an_old_primary_gets_no_write_once_a_newer_one_was_seen() {
    let (primary, standby) = pair();
    primary.sql("postgres", TABLE).expect("a table");
    // Both take writes from now on, as when the network between them is cut.
    let alone = "alter system set synchronous_standby_names = ''; select pg_reload_conf()";
    primary.sql("postgres", alone).expect("alone");
    let pool = pool_of(
        &primary,
        &standby,
        "target_session_attrs=read-write&connection_limit=3",
    );
    let mut lease = pool.acquire().await.expect("a lease");
    let mut transaction = pool.begin().await.expect("a transaction");
    let insert = "insert into written (number) values (1)";
    sqlx::query(insert)
        .execute(&mut *transaction)
        .await
        .expect("written");
    standby.promote().expect("promoted");
    primary.stop(Stop::Immediate).expect("stopped");
    until("the new one is seen", async || match pool.check().await {
        Ok(()) => port_of(&pool).await == standby.port(),
        Err(_) => false,
    })
    .await;
    primary.start().expect("started");
    let late = sqlx::query(insert)
        .execute(&mut *lease)
        .await
        .map_err(db::Error::from);
    assert!(
        matches!(&late, Err(error) if error.is_unavailable()),
        "{late:?}"
    );
    assert!(transaction.commit().await.is_err());
    drop(lease);
    for _ in 0..20 {
        write(&pool, 2, true).await.expect("written at the new one");
    }
    standby.stop(Stop::Immediate).expect("stopped");
    until("it is gone", async || write(&pool, 3, false).await.is_err()).await;
    let refused = pool.acquire().await.expect_err("only the old one is there");
    let text = connect_error(refused);
    assert!(
        text.contains("has been replaced: it is at timeline 1, and 2 was seen"),
        "{text}"
    );
    assert_eq!(
        primary
            .sql("postgres", "select count(*) from written")
            .expect("an answer")
            .trim(),
        "0"
    );
}

#[tokio::test]
async fn the_host_that_fits_is_found_whatever_its_place() {
    let (primary, standby) = pair();
    for (wanted, port) in [
        ("any", standby.port()),
        ("read-write", primary.port()),
        ("primary", primary.port()),
        ("read-only", standby.port()),
        ("standby", standby.port()),
        ("prefer-standby", standby.port()),
    ] {
        let parameters = format!("target_session_attrs={wanted}");
        let pool = pool_of(&standby, &primary, &parameters);
        assert_eq!(port_of(&pool).await, port, "{wanted}");
        let changes = pool.examine().await.expect("a report").warnings.join(" ");
        assert_eq!(
            changes.contains("target_session_attrs=read-write"),
            wanted == "any",
            "{changes}"
        );
    }
    standby.stop(Stop::Immediate).expect("stopped");
    let pool = pool_of(&standby, &primary, "target_session_attrs=prefer-standby");
    assert_eq!(port_of(&pool).await, primary.port(), "none answers");
    let pool = pool_of(&standby, &primary, "target_session_attrs=standby");
    let text = connect_error(pool.acquire().await.expect_err("there is none"));
    for part in [
        "No host fits target_session_attrs=standby",
        "is no standby",
        "Can't reach database server at",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[tokio::test]
async fn a_write_that_is_refused_as_read_only_is_made_where_writes_are_taken() {
    let (primary, standby) = pair();
    let sql = format!(
        "alter system set synchronous_standby_names = ''; select pg_reload_conf(); {TABLE}"
    );
    primary.sql("postgres", &sql).expect("alone");
    let parameters = "target_session_attrs=read-write&connection_limit=2";
    let pool = pool_of(&primary, &standby, parameters);
    let other = pool_of(&primary, &standby, parameters);
    until("the table is there", async || {
        standby.sql("postgres", "select from written").is_ok()
    })
    .await;
    standby.promote().expect("promoted");
    write(&pool, 1, false).await.expect("written");
    write(&other, 1, true).await.expect("written");
    assert_eq!(port_of(&pool).await, primary.port());
    // As it is done before a server is replaced on purpose: its sessions stay, and take no more writes.
    let read_only = "alter system set default_transaction_read_only = on; select pg_reload_conf()";
    primary.sql("postgres", read_only).expect("read-only");
    for pool in [&pool, &other] {
        let shown = async || {
            let shown = sqlx::query_scalar::<_, String>("show default_transaction_read_only");
            shown.fetch_one(pool).await.expect("an answer") == "on"
        };
        until("the sessions know", shown).await;
    }
    write(&pool, 2, false)
        .await
        .expect("repeated at the other one");
    assert_eq!(port_of(&pool).await, standby.port());
    write(&pool, 3, true).await.expect("written");
    assert_eq!(pool.stats().repeated, 1);
    // What came before in the transaction is lost with it, so that its caller has to begin again.
    let refused = write(&other, 4, true).await.expect_err("read-only");
    assert!(refused.is_unavailable(), "{refused:?}");
    write(&other, 5, true).await.expect("written");
    assert_eq!(
        standby
            .sql("postgres", "select number from written")
            .expect("an answer"),
        "2\n3\n5"
    );
}

#[tokio::test]
async fn what_a_server_is_costs_no_round_trip_more() {
    let server = local_postgres::shared();
    let turns = async |parameters: &str| {
        let proxy = Proxy::start(server.port(), Duration::ZERO).await;
        let url = proxy.url(&local_postgres::database(), server.port());
        let pool = support::pool_at(&url, parameters);
        drop(pool.acquire().await.expect("a connection"));
        proxy.turns()
    };
    assert_eq!(
        turns("").await,
        turns("target_session_attrs=read-write").await
    );
}
