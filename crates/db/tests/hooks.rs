//! What a service puts into the opening of its connections: a hook of its own, and credentials that change.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use db::{CloseReason, Config, Credentials, Error, Pool};
use futures_util::future::join_all;
use sqlx::migrate::Migrator;
use sqlx::{Executor, PgConnection, PgExecutor};
use support::{connect_error, settled};
use tokio::sync::Mutex;

fn config(url: &str) -> Config {
    Config::parse(url).expect("a valid URL")
}

/// Says who runs it, in a setting of its own.
fn sets_tenant(config: Config) -> Config {
    config.after_connect(|connection: &mut PgConnection| {
        Box::pin(async move {
            connection
                .execute("set app.tenant = 'ours'")
                .await
                .map(drop)
        })
    })
}

async fn tenant(database: impl PgExecutor<'_>) -> String {
    let sql = "select current_setting('app.tenant', true)";
    let tenant: Option<String> = sqlx::query_scalar(sql)
        .fetch_one(database)
        .await
        .expect("asked");
    tenant.unwrap_or_default()
}

#[tokio::test]
async fn after_connect_runs_first_and_again_when_the_session_is_made_as_new() {
    let url = local_postgres::database();
    let pool = Pool::new(sets_tenant(config(&format!("{url}?connection_limit=3"))));
    assert_eq!(tenant(&pool).await, "ours");

    let mut lease = pool.acquire().await.expect("a connection");
    lease
        .execute("set app.tenant = 'theirs'")
        .await
        .expect("set");
    assert_eq!(tenant(&mut *lease).await, "theirs");
    drop(lease);
    settled(&pool).await;
    assert_eq!(tenant(&pool).await, "ours");

    let mut lease = pool.acquire().await.expect("a connection");
    let lent: &mut PgConnection = &mut lease;
    lent.execute("reset app.tenant").await.expect("reset");
    drop(lease);
    settled(&pool).await;
    assert_eq!(tenant(&pool).await, "ours");
    assert_eq!(pool.stats().opened, 3, "none had to go for that");

    let theirs = pool.sqlx_pool(1).await.expect("a part");
    assert_eq!(tenant(&theirs).await, "ours");
    let migrator = Migrator::new(std::path::Path::new("tests/support/tenant")).await;
    pool.migrate(&migrator.expect("a migration"))
        .await
        .expect("migrated");
    let migrated_by: String = sqlx::query_scalar("select tenant from migrated_by")
        .fetch_one(&pool)
        .await
        .expect("known");
    assert_eq!(migrated_by, "ours");
}

#[tokio::test]
async fn a_hook_that_fails_is_named_and_its_connection_closed() {
    let url = local_postgres::database();
    let pool = Pool::new(config(&url).after_connect(|connection| {
        Box::pin(async move {
            connection
                .execute("set role nobody_of_that_name")
                .await
                .map(drop)
        })
    }));
    let error = connect_error(pool.acquire().await.expect_err("no connection"));
    assert!(error.contains("after_connect failed"), "{error}");
    assert!(error.contains("nobody_of_that_name"), "{error}");
    assert_eq!(pool.stats().open, 0);
    let migrator = Migrator::new(std::path::Path::new("tests/support/tenant")).await;
    let migrated = pool.migrate(&migrator.expect("a migration")).await;
    let error = connect_error(migrated.expect_err("not migrated without it"));
    assert!(error.contains("after_connect failed"), "{error}");
}

#[tokio::test]
async fn evicted_connections_finish_their_work_and_are_opened_anew() {
    let pool = support::pool("connection_limit=2");
    let mut busy = pool.begin().await.expect("begun");
    pool.execute("select 1")
        .await
        .expect("a second one is open");
    pool.evict();
    assert_eq!(
        (pool.stats().open, pool.stats().idle),
        (1, 0),
        "the idle one went"
    );
    busy.execute("select 1").await.expect("not disturbed");
    busy.commit().await.expect("committed");
    pool.execute("select 1").await.expect("a new one");
    settled(&pool).await;
    let stats = pool.stats();
    assert_eq!(
        (stats.opened, stats.closed[CloseReason::Failover as usize]),
        (4, 2)
    );
}

/// A role with this password, and the database's URL without a password.
async fn role(name: &str, password: &str) -> (Pool, Config) {
    let url = local_postgres::database();
    let owner = Pool::new(config(&url));
    let sql = format!("create role {name} login password '{password}'");
    owner
        .execute(sqlx::AssertSqlSafe(sql))
        .await
        .expect("a role");
    let (_, rest) = url.split_once('@').expect("a password in the URL");
    let config = config(&format!("postgres://{name}@{rest}?connection_limit=8"));
    (owner, config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_fails_while_the_password_changes_every_second() {
    let (owner, config) = role("rotating", "password-0").await;
    let store = Arc::new(Mutex::new("password-0".to_owned()));
    let (vault, refusals) = (store.clone(), Arc::new(AtomicU32::new(0)));
    let counted = refusals.clone();
    let cache = Arc::new(Mutex::new("password-0".to_owned()));
    // As providers do: it keeps what it has got until that is refused.
    let pool = Pool::new(config.credentials(move |refused| {
        let (vault, counted, cache) = (vault.clone(), counted.clone(), cache.clone());
        async move {
            let mut cached = cache.lock().await;
            if refused > 0 {
                counted.fetch_add(1, Relaxed);
                cached.clone_from(&*vault.lock().await);
            }
            let password = cached.clone();
            Ok(Credentials {
                user: None,
                password,
            })
        }
    }));
    let over = AtomicBool::new(false);
    let rotate = async {
        let mut changes = 0;
        while !over.load(Relaxed) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut kept = store.lock().await;
            changes += 1;
            *kept = format!("password-{changes}");
            let sql = format!("alter role rotating password '{kept}'");
            owner
                .execute(sqlx::AssertSqlSafe(sql))
                .await
                .expect("changed");
        }
        changes
    };
    // Until 500 connections have been opened and the password was changed five times.
    let work = async {
        let since = tokio::time::Instant::now();
        let one = async || {
            while pool.stats().opened < 500 || since.elapsed() < Duration::from_secs(5) {
                let mut lease = pool.acquire().await.expect("no caller fails");
                lease.execute("select 1").await.expect("answered");
                lease.close();
            }
        };
        join_all((0..16).map(|_| one())).await;
        over.store(true, Relaxed);
    };
    let (changes, ()) = tokio::join!(rotate, work);
    let stats = pool.stats();
    assert!(
        changes >= 5 && stats.opened >= 500,
        "{changes} changes, {stats:?}"
    );
    assert_eq!(stats.connect_failed, 0);
    let refused = refusals.load(Relaxed);
    assert!(refused > 0, "what was kept was refused");
    println!(
        "{} connections opened, {changes} passwords, {refused} refusals",
        stats.opened
    );
}

#[tokio::test]
async fn a_refused_password_is_asked_for_again_as_long_as_there_is_a_new_one() {
    let (_owner, config) = role("renewed", "third").await;
    let given = Arc::new(Mutex::new(Vec::new()));
    let log = given.clone();
    let with = move |passwords: [&'static str; 3], config: Config| {
        let log = log.clone();
        Pool::new(config.credentials(move |refused| {
            let log = log.clone();
            async move {
                log.lock().await.push(refused);
                let password = passwords[refused.min(2) as usize].to_owned();
                Ok(Credentials {
                    user: Some("renewed".to_owned()),
                    password,
                })
            }
        }))
    };
    let pool = with(["first", "second", "third"], config.clone());
    pool.acquire().await.expect("the third is right");
    assert_eq!(*given.lock().await, [0, 1, 2]);

    let part = pool.sqlx_pool(1).await.expect("a part");
    part.execute("select 1")
        .await
        .expect("it has the credentials too");

    given.lock().await.clear();
    let pool = with(["first", "first", "third"], config.clone());
    let error = connect_error(pool.acquire().await.expect_err("refused"));
    assert!(
        error.contains("the password for `renewed` is not valid"),
        "{error}"
    );
    // Each attempt asks twice: the same once more would be refused once more.
    let asked = given.lock().await;
    assert!(asked.chunks(2).all(|one| one == [0, 1]), "{asked:?}");
    drop(asked);

    let broken = Pool::new(config.credentials(|_| async { Err("the vault is sealed".into()) }));
    let error = broken.acquire().await.expect_err("no credentials");
    assert!(matches!(&error, Error::Connect(_)), "{error:?}");
    assert!(error.to_string().contains("the vault is sealed"), "{error}");
}
