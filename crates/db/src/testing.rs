//! A database for each test: made from a template that was migrated once, and gone when the test is over.
//!
//! ```no_run
//! # async fn example(migrator: &sqlx::migrate::Migrator) -> Result<(), db::Error> {
//! // In a test: static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();
//! let database = db::testing::database(migrator).await;
//! sqlx::query("insert into customer (name) values ('Ada')").execute(database.pool()).await?;
//! # Ok(()) }
//! ```
//!
//! It lies on a private PostgreSQL that this process starts, for which the server's programs have to be installed; or, if
//! `DATABASE_URL` is set, on that server, whose role has to be allowed to create databases. What a killed test has left there,
//! the next one removes. Tests may run in parallel, in one process or several.

use std::collections::HashMap;
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, PgConnection};
use tokio::sync::{Mutex, mpsc as orders, oneshot};
use url::Url;

use crate::config::Config;
use crate::config::environment::url_from_env;
use crate::pool::Pool;

/// A database of one test. Dropping it removes the database, also under the hands of who still uses it.
///
/// ```no_run
/// # async fn example(migrator: &sqlx::migrate::Migrator) {
/// let database = db::testing::database(migrator).await;
/// println!("{} at {}", database.pool().name(), database.url());
/// # }
/// ```
#[derive(Debug)]
pub struct TestDatabase {
    pool: Pool,
    made: Made,
}

/// Databases of processes that are gone: each has a session named as its databases begin.
const LEFT_OVER: &str = r"select datname::text from pg_database d where datname ~ '^test_[0-9a-f]{8}_' and not exists
    (select from pg_stat_activity a where a.application_name = left(d.datname, 13))";

/// A new database with everything that the migrations make, in some 10 ms but for the first one.
///
/// # Panics
/// If there is no server, or a migration fails, with a message that says what to do.
pub async fn database(migrator: &Migrator) -> TestDatabase {
    let template = template(migrator).await;
    let made = make(Some(template)).await;
    TestDatabase {
        pool: pool(&made.url),
        made,
    }
}

impl TestDatabase {
    /// A pool of its own, as a service would have it.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Where it is, for a program that is tested from outside.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.made.url
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (gone, wait) = mpsc::channel();
        let name = self.made.name.clone();
        // Waits, so that it is gone when the test is over.
        if keeper().send(Order::Remove { name, gone }).is_ok() {
            let _ = wait.recv();
        }
    }
}

#[derive(Clone, Debug)]
struct Made {
    name: String,
    url: String,
}

enum Order {
    Make {
        template: Option<String>,
        made: oneshot::Sender<Result<Made, String>>,
    },
    Remove {
        name: String,
        gone: mpsc::Sender<()>,
    },
}

fn pool(url: &str) -> Pool {
    match Config::parse(url) {
        Ok(config) => Pool::new(config),
        Err(error) => panic!("{error}"),
    }
}

/// The name of the database with these migrations, made and migrated at first use.
async fn template(migrator: &Migrator) -> String {
    static MADE: Mutex<Option<HashMap<Vec<u8>, String>>> = Mutex::const_new(None);
    let of = |migration: &sqlx::migrate::Migration| migration.checksum.to_vec();
    let key: Vec<u8> = migrator.iter().flat_map(of).collect();
    let mut templates = MADE.lock().await;
    let templates = templates.get_or_insert_default();
    if let Some(name) = templates.get(&key) {
        return name.clone();
    }
    let made = make(None).await;
    let pool = pool(&made.url);
    if let Err(error) = pool.migrate(migrator).await {
        panic!("the test's migrations: {error}");
    }
    // A template can be copied only while nobody is connected to it.
    pool.close(Duration::from_secs(5)).await;
    templates.insert(key, made.name.clone());
    made.name
}

async fn make(template: Option<String>) -> Made {
    let (made, answer) = oneshot::channel();
    let _ = keeper().send(Order::Make { template, made });
    match answer.await {
        Ok(Ok(made)) => made,
        Ok(Err(error)) => panic!("no database for the test: {error}"),
        Err(_) => panic!("no database for the test: the thread that makes them has ended"),
    }
}

/// A thread makes and removes them, because each test has a runtime of its own, and a drop has none.
fn keeper() -> &'static orders::UnboundedSender<Order> {
    static KEEPER: OnceLock<orders::UnboundedSender<Order>> = OnceLock::new();
    KEEPER.get_or_init(|| {
        let (send, receive) = orders::unbounded_channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            match runtime {
                Ok(runtime) => runtime.block_on(keep(receive)),
                Err(error) => eprintln!("no runtime for the databases of tests: {error}"),
            }
        });
        send
    })
}

async fn keep(mut orders: orders::UnboundedReceiver<Order>) {
    let mut server = Server::find().await;
    while let Some(order) = orders.recv().await {
        match order {
            Order::Make { template, made } => {
                let result = match &mut server {
                    Ok(server) => server.make(template).await.map_err(|e| e.to_string()),
                    Err(error) => Err(error.clone()),
                };
                let _ = made.send(result);
            }
            Order::Remove { name, gone } => {
                if let Ok(server) = &mut server
                    && let Err(error) = server.remove(&name).await
                {
                    eprintln!("the test's database {name} stays: {error}");
                }
                let _ = gone.send(());
            }
        }
    }
}

/// The server, and the session by which others know that this process lives.
struct Server {
    url: Url,
    session: PgConnection,
    prefix: String,
    made: u32,
    /// How to copy a template: files are the fastest where nothing has to be safe on the disk.
    strategy: &'static str,
}

impl Server {
    async fn find() -> Result<Self, String> {
        let (url, strategy) = match url_from_env() {
            Ok((url, _)) => (url, "wal_log"),
            Err(_) => (local_postgres::shared().url("postgres"), "file_copy"),
        };
        let prefix = format!("test_{:08x}", fastrand::u32(..));
        let config = Config::parse(&url).map_err(|error| error.to_string())?;
        let options = config.options(false).application_name(&prefix);
        // Migrations of a template may hold others up.
        let options = options.options([("statement_timeout", "60s"), ("lock_timeout", "60s")]);
        let session = options.connect().await.map_err(|error| error.to_string())?;
        let mut server = Self {
            url: Url::parse(&url).map_err(|error| error.to_string())?,
            session,
            prefix,
            made: 0,
            strategy,
        };
        let left = sqlx::query_scalar(LEFT_OVER).fetch_all(&mut server.session);
        let left: Vec<String> = left.await.map_err(|error| error.to_string())?;
        for name in left {
            // Another process may be faster.
            let _ = server.remove(&name).await;
        }
        Ok(server)
    }

    async fn make(&mut self, template: Option<String>) -> Result<Made, sqlx::Error> {
        self.made += 1;
        let name = format!("{}_{}", self.prefix, self.made);
        let template = template.as_deref().unwrap_or("template0");
        let strategy = self.strategy;
        let sql = format!("create database {name} template {template} strategy {strategy}");
        self.session.execute(AssertSqlSafe(sql)).await?;
        let mut url = self.url.clone();
        url.set_path(&name);
        let url = url.into();
        Ok(Made { name, url })
    }

    async fn remove(&mut self, name: &str) -> Result<(), sqlx::Error> {
        // Left to `drop database`, the end of its sessions takes 100 ms.
        let sql =
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = $1";
        for _ in 0..100 {
            let sessions = sqlx::query_scalar(sql).bind(name);
            let sessions: i64 = sessions.fetch_one(&mut self.session).await?;
            if sessions == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let sql = format!("drop database if exists {name} with (force)");
        self.session.execute(AssertSqlSafe(sql)).await.map(drop)
    }
}
