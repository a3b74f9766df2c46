//! Migrations, safe to run from every instance at once.

use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Row};
use tokio::time::Instant;

use crate::error::Error;
use crate::pool::Pool;

/// How long an instance waits for another one that migrates.
const DEADLINE: Duration = Duration::from_secs(60);
/// The advisory lock of whoever migrates: "reservoi" in ASCII, one for each database.
const LOCK: i64 = 0x7265_7365_7276_6f69;

impl Pool {
    /// Applies the migrations that the database does not have yet, on a connection of its own without
    /// `statement_timeout`. Instances that start together take turns.
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
        if self.config().pgbouncer {
            // The lock would stay with a session of PgBouncer's and keep everybody else out for ever.
            return Err(failed(
                "migrations need a session of their own, which PgBouncer does not give: migrate with a DATABASE_URL of \
                 the server itself, and start the services with MIGRATE=false"
                    .to_owned(),
            ));
        }
        let unlimited = |options: PgConnectOptions| options.options([("statement_timeout", "0")]);
        let mut connection = self.open_beside(unlimited).await?;
        let result = locked(&mut connection, migrator).await;
        let _ = tokio::time::timeout(Duration::from_secs(1), connection.close()).await;
        result
    }

    /// Whether the database has every migration of this migrator: one query on the pool, also through PgBouncer.
    ///
    /// # Errors
    /// Those of [`Pool::acquire`], or the server's, if it does not let the query run.
    pub async fn is_migrated(&self, migrator: &Migrator) -> Result<bool, Error> {
        let up = migrator.iter();
        let up = up.filter(|migration| !migration.migration_type.is_down_migration());
        let needed: Vec<i64> = up.map(|migration| migration.version).collect();
        if needed.is_empty() {
            return Ok(true);
        }
        let sql = format!("select version from {} where success", migrator.table_name);
        let rows = match sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(self).await {
            Ok(rows) => rows,
            Err(error) => {
                let error = Error::from(error);
                let code = error.as_database().and_then(|cause| cause.code());
                // undefined_table: nobody has ever migrated.
                return if code.as_deref() == Some("42P01") {
                    Ok(false)
                } else {
                    Err(error)
                };
            }
        };
        let applied = rows.iter().map(|row| row.try_get(0));
        let applied: Vec<i64> = applied.collect::<Result<_, _>>().map_err(Error::from)?;
        Ok(needed.iter().all(|version| applied.contains(version)))
    }
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
    let migrator = Migrator {
        migrations: migrator.migrations.clone(),
        table_name: migrator.table_name.clone(),
        create_schemas: migrator.create_schemas.clone(),
        locking: false,
        ..*migrator
    };
    // The lock ends with the connection, also when this future is dropped.
    Ok(migrator.run_direct(None, connection, false).await?)
}

fn failed(why: String) -> Error {
    Error::Sqlx(sqlx::Error::InvalidArgument(why))
}
