//! Migrations, safe to run from every instance at once.

mod compare;
mod confirm;
mod look;

use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor, Row};
use tokio::time::Instant;

use crate::error::Error;
use crate::migrate::compare::refused;
use crate::migrate::confirm::confirm;
use crate::migrate::look::look;

pub use crate::migrate::compare::Schema;
use crate::pool::{Pool, Sessions, proof};

/// How long an instance waits for another one that migrates.
const DEADLINE: Duration = Duration::from_secs(60);
/// The advisory lock of whoever migrates: "reservoi" in ASCII, one for each database.
const LOCK: i64 = 0x7265_7365_7276_6f69;

impl Pool {
    /// Applies the migrations that the database does not have yet, on a connection of its own without
    /// `statement_timeout`. Instances that start together take turns.
    ///
    /// A database that has later migrations as well is left as it is: while a newer program replaces an older one, both
    /// have to start. One that has other migrations and lacks some of these is another program's, and is left as it is too.
    ///
    /// A database called `postgres`, `template0` or `template1` gets its first migrations from [`Pool::migrate_any`] only: it is
    /// more often a URL without a name than what was meant.
    ///
    /// sqlx's own lock is left alone: it waits inside a statement, which `create index concurrently` in turn waits for.
    ///
    /// ```ignore
    /// static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");
    /// pool.migrate(&MIGRATOR).await?;
    /// ```
    ///
    /// # Errors
    /// [`Error::Migrate`] when a migration fails or does not match the database, [`Error::Connect`] when there is no
    /// connection.
    pub async fn migrate(&self, migrator: &Migrator) -> Result<(), Error> {
        self.migrate_where(migrator, false).await
    }

    /// As [`Pool::migrate`], also in a database called `postgres`, `template0` or `template1`.
    ///
    /// # Errors
    /// Those of [`Pool::migrate`].
    pub async fn migrate_any(&self, migrator: &Migrator) -> Result<(), Error> {
        self.migrate_where(migrator, true).await
    }

    async fn migrate_where(&self, migrator: &Migrator, anywhere: bool) -> Result<(), Error> {
        let mut connection = self.open_session().await?;
        connection.execute("set statement_timeout = 0").await?;
        let result = apply(&mut connection, migrator, anywhere).await;
        let _ = tokio::time::timeout(Duration::from_secs(1), connection.close()).await;
        result
    }

    /// A session of its own, by `DIRECT_URL` where the pool's URL leads to a pooler.
    async fn open_session(&self) -> Result<PgConnection, Error> {
        let connection = self.open_beside().await?;
        // Where nothing could be found out, the URL that was given for this is the better one.
        let doubtful =
            proof::known(&self.0) == Some(Sessions::Unknown) && self.config().direct().is_some();
        if self.has_sessions().await? && !doubtful {
            return Ok(connection);
        }
        if let Some(mut config) = self.config().direct() {
            config.hooks = self.config().hooks.clone();
            let direct = Self::new(config);
            let connection = direct.open_beside().await?;
            if direct.has_sessions().await? {
                return Ok(connection);
            }
        }
        // The lock would stay with a session of the pooler's and keep everybody else out for ever.
        Err(failed(
            "migrations need a session of their own, which a pooler such as PgBouncer does not give: set DIRECT_URL to a URL \
             of the server itself, or migrate with one as DATABASE_URL and start the services with MIGRATE=false"
                .to_owned(),
        ))
    }

    /// How the migrations of the database compare with those of this migrator: one query on the pool, also through
    /// PgBouncer. Behind a pooler, where a session may be as another client has left it, what the database lacks is asked for
    /// once more together with the state of the session, and by `DIRECT_URL`.
    ///
    /// # Errors
    /// [`Error::Migrate`] if two of the migrator's have one version; if the database has one with another text; or if it has
    /// some that are not the migrator's, unless it has all of the migrator's too and those are later. Those of
    /// [`Pool::acquire`], or the server's, if it does not let the query run.
    pub async fn schema(&self, migrator: &Migrator) -> Result<Schema, Error> {
        match look(self, migrator).await?.0 {
            Schema::Older { .. } if self.0.is_pooled() => confirm(self, migrator).await,
            schema => Ok(schema),
        }
    }
}

async fn apply(
    connection: &mut PgConnection,
    migrator: &Migrator,
    anywhere: bool,
) -> Result<(), Error> {
    let (Schema::Older { .. }, last) = look(&mut *connection, migrator).await? else {
        // Not even the lock: a newer program may hold it for long, or have failed half-way.
        return Ok(());
    };
    if last.is_none() && !anywhere {
        is_asked_for(connection).await?;
    }
    locked(connection, migrator).await
}

/// Nobody means the databases that every server has, as long as nobody says so.
async fn is_asked_for(connection: &mut PgConnection) -> Result<(), Error> {
    let row = connection.fetch_one("select current_database()").await;
    let name: String = row.and_then(|row| row.try_get(0)).map_err(Error::from)?;
    if !matches!(&*name, "postgres" | "template0" | "template1") {
        return Ok(());
    }
    Err(refused(format!(
        "the database is {name:?}, which every server has for its own purposes, and nothing was changed: name another one at the \
         end of the URL, as in postgres://host/shop (`create database shop` makes it); or, if this one is meant, set MIGRATE=any \
         (in code: Pool::migrate_any)"
    ))
    .into())
}

async fn locked(connection: &mut PgConnection, migrator: &Migrator) -> Result<(), Error> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let row = sqlx::query("select pg_try_advisory_lock($1)")
            .bind(LOCK)
            .fetch_one(&mut *connection)
            .await
            .map_err(Error::from)?;
        if row.try_get(0).map_err(Error::from)? {
            break;
        }
        if Instant::now() > deadline {
            return Err(failed(format!(
                "another instance has been migrating for more than {DEADLINE:?}; look for its session in pg_stat_activity"
            )));
        }
        tokio::time::sleep(Duration::from_millis(50).mul_f64(0.5 + fastrand::f64())).await;
    }
    // Somebody else may have migrated meanwhile, also a program of another origin.
    if !matches!(
        look(&mut *connection, migrator).await?,
        (Schema::Older { .. }, _)
    ) {
        return Ok(());
    }
    let migrator = Migrator {
        migrations: migrator.migrations.clone(),
        table_name: migrator.table_name.clone(),
        create_schemas: migrator.create_schemas.clone(),
        locking: false,
        // Looked at just now: there are none.
        ignore_missing: true,
        ..*migrator
    };
    // The lock ends with the connection, also when this future is dropped.
    Ok(migrator.run_direct(None, connection, false).await?)
}

fn failed(why: String) -> Error {
    Error::Sqlx(sqlx::Error::InvalidArgument(why))
}
