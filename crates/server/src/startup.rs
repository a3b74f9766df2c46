//! The start: connects and migrates in the background, for as long as it takes, and again if the migrations get lost.

use std::time::{Duration, Instant};

use db::Schema;
use sqlx::migrate::Migrator;

use crate::health::Readiness;
use crate::health::report::Report;
use crate::settings::Settings;

/// The first pause between two attempts; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause: a database that is back is noticed within a second.
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

/// How often the server is asked what it allows and what is taken of it, by a service that uses it.
const EXAMINED_EVERY: Duration = Duration::from_secs(60);

/// What is applied at the start.
#[derive(Clone, Copy)]
pub(crate) struct Migrations {
    pub(crate) migrator: &'static Migrator,
    /// Also in a database called `postgres` or `template1`.
    pub(crate) any: bool,
}

impl Migrations {
    /// None with `MIGRATE=false`.
    pub(crate) fn of(settings: &Settings, migrator: &'static Migrator) -> Option<Self> {
        let any = settings.migrate_any;
        settings.migrate.then_some(Self { migrator, any })
    }
}

/// Makes the service of this name ready, and does so again whenever its database has lost the migrations.
pub(crate) async fn run(
    name: &str,
    pool: db::Pool,
    migrations: Option<Migrations>,
    readiness: Readiness,
) {
    loop {
        start(name, &pool, migrations, &readiness).await;
        tokio::select! {
            () = readiness.lost() => {}
            () = examine(&pool, EXAMINED_EVERY) => {}
        }
        tracing::warn!("the database of {name} has lost its migrations: starting anew");
    }
}

/// Tries until the database answers and is migrated, then says that the service is ready.
async fn start(name: &str, pool: &db::Pool, migrations: Option<Migrations>, readiness: &Readiness) {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut last = None;
    while let Err(report) = attempt(name, pool, migrations, readiness).await {
        if last.as_ref() != Some(&report) {
            tracing::warn!("{name} is not ready yet: {}", report.detail);
            readiness.starting(report.clone());
            last = Some(report);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    readiness.serving();
    let elapsed_ms = started.elapsed().as_millis();
    tracing::info!(elapsed_ms, "{name} is ready after {elapsed_ms} ms");
}

async fn attempt(
    name: &str,
    pool: &db::Pool,
    migrations: Option<Migrations>,
    readiness: &Readiness,
) -> Result<(), Report> {
    if let Some(Migrations { migrator, any }) = migrations {
        let migrated = match any {
            true => pool.migrate_any(migrator).await,
            false => pool.migrate(migrator).await,
        };
        let Err(error) = migrated else {
            // By a session of its own, perhaps at another address: that says nothing of the pool.
            return pool.check().await.map_err(|error| Report::of(&error));
        };
        let advice = match error.is_of_rights() {
            true => rights(pool, true).await,
            false => None,
        };
        return Err(Report::of(&error).with(advice));
    }
    pool.check().await.map_err(|error| Report::of(&error))?;
    match readiness.schema().await {
        Some(Ok(Schema::Older { missing })) => {
            let Report { state, detail } = Report::older(&missing);
            let advice = format!("{detail}, and MIGRATE=false: run `{name} migrate`");
            // What the role may not see is not there for it.
            let unseen = rights(pool, false).await;
            Err(Report::new(state, unseen.unwrap_or(advice)))
        }
        Some(Err(error @ db::Error::Migrate(_))) => Err(Report::of(&error)),
        Some(Err(error)) if error.is_of_rights() => match rights(pool, false).await {
            None => Ok(()),
            advice => Err(Report::of(&error).with(advice)),
        },
        // Also a database that cannot be asked now, or does not let the service read which migrations it has: its other
        // errors say what is wrong.
        _ => Ok(()),
    }
}

/// What the role lacks and how it is granted, if that can be asked.
async fn rights(pool: &db::Pool, to_migrate: bool) -> Option<String> {
    pool.lacking_rights(to_migrate).await.ok().flatten()
}

/// Says in one line what the pool may take of the server and what it takes, and warns of what is wrong. Then it looks
/// again and again, for the numbers and for what is wrong only now, as long as somebody uses the pool: a look is a use too,
/// and would keep the database of an idle service awake.
async fn examine(pool: &db::Pool, every: Duration) {
    let mut known: Option<Vec<String>> = None;
    loop {
        match pool.examine().await {
            Ok(report) => {
                if known.is_none() {
                    tracing::info!("{}", report.summary);
                }
                let known = known.get_or_insert_default();
                for warning in report.warnings {
                    // The same with other numbers is nothing new.
                    let kind = warning.replace(|c: char| c.is_ascii_digit(), "");
                    if !known.contains(&kind) {
                        tracing::warn!("{warning}");
                        known.push(kind);
                    }
                }
            }
            Err(error) => tracing::debug!("the server could not be examined: {error}"),
        }
        let used = pool.stats().acquired;
        tokio::time::sleep(every).await;
        while pool.stats().acquired == used {
            tokio::time::sleep(every).await;
        }
        // Whoever waits already for a connection needs no other one before them.
        while pool.stats().waiting > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::Connection as _;

    const OFTEN: Duration = Duration::from_millis(50);

    async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done().await {
            assert!(Instant::now() < deadline, "not within 20 s: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn an_idle_service_asks_nothing_and_keeps_no_session() {
        let url = local_postgres::database();
        let name = url.rsplit('/').next().unwrap().to_owned();
        let config = format!("{url}?max_idle_connection_lifetime=1");
        let pool = db::Pool::new(db::Config::parse(&config).unwrap());
        let admin = local_postgres::shared().url("postgres");
        let mut admin = sqlx::PgConnection::connect(&admin).await.unwrap();
        let mut sessions = async || -> i64 {
            let open =
                sqlx::query_scalar("select count(*) from pg_stat_activity where datname = $1");
            open.bind(&name).fetch_one(&mut admin).await.unwrap()
        };
        let looking = tokio::spawn({
            let pool = pool.clone();
            async move { examine(&pool, OFTEN).await }
        });
        until("it has looked once", async || pool.server().is_some()).await;
        until("its session is closed", async || sessions().await == 0).await;
        let asked = pool.stats().acquired;
        for _ in 0..20 {
            tokio::time::sleep(OFTEN).await;
            assert_eq!(sessions().await, 0);
        }
        assert_eq!(pool.stats().acquired, asked);
        // It looks again once somebody has used it.
        sqlx::query("select 1").execute(&pool).await.unwrap();
        until("it looks again", async || pool.stats().acquired > asked + 1).await;
        looking.abort();
    }
}
