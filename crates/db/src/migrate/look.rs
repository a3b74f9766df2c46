//! Which migrations a database has, as one session sees it.

use sqlx::migrate::{AppliedMigration, Migrator};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgExecutor, Row};

use crate::error::{Error, code_of};
use crate::migrate::compare::{Schema, compare};

/// How they compare, and the last version that was applied.
pub(super) async fn look(
    database: impl PgExecutor<'_>,
    migrator: &Migrator,
) -> Result<(Schema, Option<i64>), Error> {
    if migrator.migrations.is_empty() {
        return Ok((Schema::Current, None));
    }
    let sql = question(migrator);
    let rows = match sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(database).await {
        Ok(rows) => rows,
        Err(error) if is_table_missing(&error) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    judge(migrator, &rows)
}

pub(super) fn question(migrator: &Migrator) -> String {
    let table = &migrator.table_name;
    format!("select version, checksum from {table} where success order by version")
}

/// Whether nobody has ever migrated, as far as the session sees the tables.
pub(super) fn is_table_missing(error: &sqlx::Error) -> bool {
    code_of(error).as_deref() == Some("42P01")
}

pub(super) fn judge(migrator: &Migrator, rows: &[PgRow]) -> Result<(Schema, Option<i64>), Error> {
    let applied = rows.iter().map(|row| {
        let checksum: Vec<u8> = row.try_get(1)?;
        Ok(AppliedMigration {
            version: row.try_get(0)?,
            checksum: checksum.into(),
        })
    });
    let applied: Vec<_> = applied.collect::<Result<_, sqlx::Error>>()?;
    let last = applied.last().map(|applied| applied.version);
    Ok((compare(migrator, &applied)?, last))
}
