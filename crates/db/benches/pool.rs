//! Four pools side by side: the same statement by the same tasks on the same server, in one run.
//!
//! `cargo bench -p db` takes about two minutes; `SECONDS=5 cargo bench -p db` measures longer, and `cargo bench -p db --
//! 'unix socket, 1 task'` only that. Compare the ratios of one run: absolute figures are this machine's, which also runs
//! PostgreSQL and the load. `SERVER_CPU=0 CLIENT_CPU=1 cargo bench -p db` keeps the server and the tasks on a processor
//! each, so that they do not wait for each other's turn.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark may stop where it cannot go on"
)]

mod cpu;
#[path = "../tests/support/proxy.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod proxy;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use local_postgres::Cluster;
use sqlx::postgres::PgPoolOptions;
use sqlx::{ConnectOptions, PgPool, Row};

const CONNECTIONS: u32 = 8;
const SQL: &str = "select typname::text from pg_type where oid = $1";

#[derive(Clone)]
enum Subject {
    Sqlx(PgPool),
    Ours(db::Pool),
    Deadpool(deadpool_postgres::Pool),
}

impl Subject {
    async fn ask(&self) -> String {
        let query = || sqlx::query(SQL).bind(sqlx::postgres::types::Oid(16));
        match self {
            Self::Sqlx(pool) => query().fetch_one(pool).await.unwrap().get(0),
            Self::Ours(pool) => query().fetch_one(pool).await.unwrap().get(0),
            Self::Deadpool(pool) => {
                let client = pool.get().await.unwrap();
                let statement = client.prepare_cached(SQL).await.unwrap();
                client
                    .query_one(&statement, &[&16u32])
                    .await
                    .unwrap()
                    .get(0)
            }
        }
    }
}

fn sqlx_pool(url: &str, ping: bool) -> Subject {
    let options = url
        .parse::<sqlx::postgres::PgConnectOptions>()
        .unwrap()
        .disable_statement_logging();
    #[expect(clippy::disallowed_methods, reason = "the comparison is the point")]
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .test_before_acquire(ping)
        .connect_lazy_with(options);
    Subject::Sqlx(pool)
}

fn ours(url: &str) -> Subject {
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}connection_limit={CONNECTIONS}");
    Subject::Ours(db::Pool::new(db::Config::parse(&url).unwrap()))
}

fn deadpool(url: &str) -> Subject {
    use deadpool_postgres::tokio_postgres::{Config, NoTls};
    let options: db::Config = db::Config::parse(url).unwrap();
    let mut config: Config = url.split('?').next().unwrap().parse().unwrap();
    if options.address().starts_with('/') {
        config = Config::new();
        config
            .host_path(options.address())
            .user(options.username())
            .dbname(options.database());
        let port = url
            .rsplit('@')
            .next()
            .unwrap()
            .split(':')
            .nth(1)
            .unwrap_or("5432/");
        config.port(port.split('/').next().unwrap().parse().unwrap());
    }
    let manager = deadpool_postgres::Manager::new(config, NoTls);
    Subject::Deadpool(
        deadpool_postgres::Pool::builder(manager)
            .max_size(CONNECTIONS as usize)
            .build()
            .unwrap(),
    )
}

struct Figures {
    rate: f64,
    p50: Duration,
    p99: Duration,
    cpu: Option<(Duration, Duration)>,
}

async fn measure(subject: &Subject, tasks: usize, time: Duration, postmaster: u32) -> Figures {
    let stop = Arc::new(AtomicBool::new(false));
    let run = |warm: bool| {
        let (subject, stop) = (subject.clone(), stop.clone());
        tokio::spawn(async move {
            let mut times = Vec::with_capacity(100_000);
            while !stop.load(Relaxed) && (!warm || times.len() < 200) {
                let started = Instant::now();
                assert_eq!(subject.ask().await, "bool");
                times.push(started.elapsed());
            }
            times
        })
    };
    for task in (0..CONNECTIONS).map(|_| run(true)).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let (started, cpu) = (Instant::now(), cpu::used(postmaster));
    let running: Vec<_> = (0..tasks).map(|_| run(false)).collect();
    tokio::time::sleep(time).await;
    stop.store(true, Relaxed);
    let mut times = Vec::new();
    for task in running {
        times.extend(task.await.unwrap());
    }
    let (elapsed, count) = (started.elapsed(), times.len() as u32);
    let cpu = cpu
        .zip(cpu::used(postmaster))
        .map(|(before, after)| ((after.0 - before.0) / count, (after.1 - before.1) / count));
    times.sort_unstable();
    Figures {
        rate: f64::from(count) / elapsed.as_secs_f64(),
        p50: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
        cpu,
    }
}

/// A lease that is taken and given back, with nothing in between.
async fn lease(url: &str) {
    let Subject::Ours(pool) = ours(url) else {
        return;
    };
    drop(pool.acquire().await.unwrap());
    let rounds = 1_000_000;
    let started = Instant::now();
    for _ in 0..rounds {
        drop(pool.acquire().await.unwrap());
    }
    println!(
        "acquire and release of an idle lease: {:?}\n",
        started.elapsed() / rounds
    );
}

/// A transaction of one statement after the other on one connection, given to a function as ours and as sqlx's own, which
/// has to prove afterwards that it is sound.
async fn lent(url: &str) {
    async fn as_ours(connection: &mut db::Connection) {
        sqlx::query("select 1").execute(connection).await.unwrap();
    }
    async fn as_sqlxs(connection: &mut sqlx::PgConnection) {
        sqlx::query("select 1").execute(connection).await.unwrap();
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}connection_limit=1");
    let pool = db::Pool::new(db::Config::parse(&url).unwrap());
    let rounds = 500;
    let mut times = Vec::new();
    for is_lent in [false, true] {
        let started = Instant::now();
        for _ in 0..rounds {
            let mut transaction = pool.begin().await.unwrap();
            match is_lent {
                false => as_ours(&mut transaction).await,
                true => as_sqlxs(&mut transaction).await,
            }
            transaction.commit().await.unwrap();
        }
        times.push(started.elapsed() / rounds);
    }
    let ratio = times[1].as_secs_f64() / times[0].as_secs_f64();
    println!(
        "a transaction on the only connection: {:.2?}; lent as sqlx's own: {:.2?}, {ratio:.1} ×\n",
        times[0], times[1]
    );
}

#[tokio::main]
async fn main() {
    let seconds: f64 = std::env::var("SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1.5);
    let time = Duration::from_secs_f64(seconds);
    let server = Cluster::temporary().expect("PostgreSQL");
    let postmaster = cpu::postmaster(server.data_folder());
    // Cargo itself adds `--bench`.
    let only = std::env::args()
        .skip(1)
        .find(|argument| argument != "--bench");
    cpu::keep_on("SERVER_CPU", postmaster);
    cpu::keep_on("CLIENT_CPU", std::process::id());
    let (tcp, socket) = (server.url("postgres"), server.socket_url("postgres"));
    let proxy = proxy::Proxy::start(server.port(), Duration::from_millis(1)).await;
    let far = proxy.url(&tcp, server.port());
    lease(&tcp).await;
    lent(&tcp).await;
    println!(
        "{CONNECTIONS} connections; one row by primary key; CPU of this process + PostgreSQL per statement\n"
    );
    for (name, url) in [
        ("TCP loopback", &tcp),
        ("unix socket", &socket),
        ("TCP, 2 ms away", &far),
    ] {
        for tasks in [1, 8, 32] {
            let title = format!(
                "{name}, {tasks} {}",
                if tasks == 1 { "task" } else { "tasks" }
            );
            if !only.as_ref().is_none_or(|only| title.contains(only)) {
                continue;
            }
            println!("{title}");
            let subjects = [
                ("sqlx, default", sqlx_pool(url, true)),
                ("sqlx, no acquire ping", sqlx_pool(url, false)),
                ("deadpool-postgres", deadpool(url)),
                ("this crate", ours(url)),
            ];
            let mut default = None;
            for (pool, subject) in subjects {
                let figures = measure(&subject, tasks, time, postmaster).await;
                let ratio = figures.rate / *default.get_or_insert(figures.rate);
                let cpu = figures.cpu.map_or("-".to_owned(), |(here, there)| {
                    format!(
                        "{:.1} + {:.1} µs",
                        here.as_nanos() as f64 / 1e3,
                        there.as_nanos() as f64 / 1e3
                    )
                });
                println!(
                    "  {pool:<22} {:>8.0}/s  {ratio:>5.2} ×  p50 {:>9.1?}  p99 {:>9.1?}  CPU {cpu}",
                    figures.rate, figures.p50, figures.p99
                );
            }
            println!();
        }
    }
}
