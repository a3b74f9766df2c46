//! Migrations, safe to run from every instance at once.

use std::time::Duration;

use sqlx::migrate::{AppliedMigration, MigrateError, Migration, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, PgExecutor, Row};
use tokio::time::Instant;

use crate::error::{Error, code_of};
use crate::pool::Pool;

/// How long an instance waits for another one that migrates.
const DEADLINE: Duration = Duration::from_secs(60);
/// The advisory lock of whoever migrates: "reservoi" in ASCII, one for each database.
const LOCK: i64 = 0x7265_7365_7276_6f69;

/// How the migrations of a database compare with those of a program.
///
/// ```no_run
/// # async fn example(pool: &db::Pool, migrator: &sqlx::migrate::Migrator) -> Result<(), db::Error> {
/// if let db::Schema::Older { missing } = pool.schema(migrator).await? {
///     eprintln!("not ready: the database lacks {missing}");
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schema {
    /// They are the same.
    Current,
    /// The database lacks some.
    Older {
        /// The first that it lacks: version and description.
        missing: String,
    },
    /// The database has all of the program's and later ones: a newer program has migrated it.
    Newer {
        /// The version of the last.
        newest: i64,
    },
}

impl Pool {
    /// Applies the migrations that the database does not have yet, on a connection of its own without
    /// `statement_timeout`. Instances that start together take turns.
    ///
    /// A database that has later migrations as well is left as it is: while a newer program replaces an older one, both
    /// have to start.
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
        let mut connection = self.open_session().await?;
        connection.execute("set statement_timeout = 0").await?;
        let result = match look(&mut connection, migrator).await {
            Ok(Schema::Older { .. }) => locked(&mut connection, migrator).await,
            // Not even the lock: a newer program may hold it for long, or have failed half-way.
            Ok(Schema::Current | Schema::Newer { .. }) => Ok(()),
            Err(error) => Err(error),
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), connection.close()).await;
        result
    }

    /// A session of its own, by `DIRECT_URL` where the pool's URL leads to a pooler.
    async fn open_session(&self) -> Result<PgConnection, Error> {
        let connection = self.open_beside().await?;
        if !self.0.is_pooled() {
            return Ok(connection);
        }
        if let Some(mut config) = self.config().direct() {
            config.hooks = self.config().hooks.clone();
            let direct = Self::new(config);
            let connection = direct.open_beside().await?;
            if !direct.0.is_pooled() {
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
    /// PgBouncer.
    ///
    /// # Errors
    /// [`Error::Migrate`] if the database has a migration with another text, or one that is not the migrator's and not
    /// later than all of them. Those of [`Pool::acquire`], or the server's, if it does not let the query run.
    pub async fn schema(&self, migrator: &Migrator) -> Result<Schema, Error> {
        look(self, migrator).await
    }
}

async fn look(database: impl PgExecutor<'_>, migrator: &Migrator) -> Result<Schema, Error> {
    if migrator.migrations.is_empty() {
        return Ok(Schema::Current);
    }
    let table = &migrator.table_name;
    let sql = format!("select version, checksum from {table} where success order by version");
    let rows = match sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(database).await {
        Ok(rows) => rows,
        // undefined_table: nobody has ever migrated.
        Err(error) if code_of(&error).as_deref() == Some("42P01") => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let applied = rows.iter().map(|row| {
        let checksum: Vec<u8> = row.try_get(1)?;
        Ok(AppliedMigration {
            version: row.try_get(0)?,
            checksum: checksum.into(),
        })
    });
    let applied: Vec<_> = applied.collect::<Result<_, sqlx::Error>>()?;
    Ok(compare(migrator, &applied)?)
}

/// How what was applied, in the order of versions, compares with what the migrator has.
fn compare(migrator: &Migrator, applied: &[AppliedMigration]) -> Result<Schema, MigrateError> {
    let up = |migration: &&Migration| !migration.migration_type.is_down_migration();
    let needed: Vec<_> = migrator.iter().filter(up).collect();
    let last = needed.iter().map(|migration| migration.version).max();
    for AppliedMigration { version, checksum } in applied {
        match needed.iter().find(|needed| needed.version == *version) {
            Some(needed) if needed.checksum != *checksum => {
                return Err(MigrateError::VersionMismatch(*version));
            }
            // What a newer program needs comes after what this one knows; anything else is another line of migrations.
            None if Some(*version) < last => return Err(MigrateError::VersionMissing(*version)),
            _ => {}
        }
    }
    let is_applied = |version| applied.iter().any(|applied| applied.version == version);
    if let Some(missing) = needed.iter().find(|needed| !is_applied(needed.version)) {
        let Migration {
            version,
            description,
            ..
        } = missing;
        return Ok(Schema::Older {
            missing: format!("{version} ({description})"),
        });
    }
    let newest = applied.last().map(|applied| applied.version);
    Ok(match newest.filter(|newest| Some(*newest) > last) {
        Some(newest) => Schema::Newer { newest },
        None => Schema::Current,
    })
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
        // Looked at before: they are later ones.
        ignore_missing: true,
        ..*migrator
    };
    // The lock ends with the connection, also when this future is dropped.
    Ok(migrator.run_direct(None, connection, false).await?)
}

fn failed(why: String) -> Error {
    Error::Sqlx(sqlx::Error::InvalidArgument(why))
}
