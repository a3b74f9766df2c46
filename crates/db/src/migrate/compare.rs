//! How the migrations of a database compare with those of a program.

use std::borrow::Cow;

use sqlx::migrate::{AppliedMigration, MigrateError, Migration, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

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
    /// Behind a pooler: the database lacks some only as one session of the pooler's sees it, which another client has left in a
    /// state of its own.
    Unclear {
        /// What is the matter with that session, and what to do.
        session: String,
    },
}

/// How what was applied, in the order of versions, compares with what the migrator has.
pub(super) fn compare(
    migrator: &Migrator,
    applied: &[AppliedMigration],
) -> Result<Schema, MigrateError> {
    let needed = needed(migrator)?;
    for AppliedMigration { version, checksum } in applied {
        let known = needed.iter().find(|needed| needed.version == *version);
        if let Some(changed) = known.filter(|known| known.checksum != *checksum) {
            return Err(changed_since(changed, checksum));
        }
    }
    let is_ours = |version| needed.iter().any(|needed| needed.version == version);
    let is_applied = |version| applied.iter().any(|applied| applied.version == version);
    let foreign = applied.iter().map(|applied| applied.version);
    let mut foreign = foreign.filter(|version| !is_ours(*version)).peekable();
    let missing = needed.iter().find(|needed| !is_applied(needed.version));
    let last = needed.last().map(|needed| needed.version);
    match (foreign.peek().copied(), missing) {
        (None, None) => Ok(Schema::Current),
        (None, Some(missing)) => Ok(Schema::Older {
            missing: named(missing),
        }),
        // What a newer program needs comes after what this one knows, and this one's is all there.
        (Some(first), None) if Some(first) > last => Ok(Schema::Newer {
            newest: foreign.last().unwrap_or(first),
        }),
        (Some(first), missing) => Err(another_line(first, missing.copied(), migrator)),
    }
}

/// What a program needs, in the order of versions. Two with one version are an error: one of them would never be applied.
fn needed(migrator: &Migrator) -> Result<Vec<&Migration>, MigrateError> {
    let up = |migration: &&Migration| !migration.migration_type.is_down_migration();
    let mut needed: Vec<_> = migrator.iter().filter(up).collect();
    needed.sort_by_key(|migration| migration.version);
    let twice = needed
        .windows(2)
        .find(|pair| pair[0].version == pair[1].version);
    match twice {
        None => Ok(needed),
        Some(pair) => Err(refused(format!(
            "two migrations have the version {}: {} and {}; give the one that has not been released another version. \
             Nothing was applied",
            pair[0].version,
            file(pair[0]),
            file(pair[1])
        ))),
    }
}

/// It was applied with another text. Or with the same one, and an editor or Git has changed the ends of its lines.
fn changed_since(changed: &Migration, applied: &[u8]) -> MigrateError {
    let sql = changed.sql.as_str();
    let unix = sql.replace("\r\n", "\n");
    let windows = unix.replace('\n', "\r\n");
    let was = if *checksum(changed, &unix) == *applied {
        "LF"
    } else if *checksum(changed, &windows) == *applied {
        "CRLF"
    } else {
        return MigrateError::VersionMismatch(changed.version);
    };
    let is = match sql {
        _ if sql == unix => "LF",
        _ if sql == windows => "CRLF",
        _ => "both kinds",
    };
    let file = file(changed);
    refused(format!(
        "migration {} was applied with {was} at the ends of its lines, and this program was built from one with {is}; nothing \
         else differs. Give {file} {was} again: Git changes it by core.autocrlf, unless .gitattributes says \
         `*.sql text eol=lf` (then `git add --renormalize .`, and check the files out anew)",
        changed.version
    ))
}

/// As sqlx makes it, of a migration with another text.
fn checksum(of: &Migration, sql: &str) -> Cow<'static, [u8]> {
    let sql = AssertSqlSafe(sql.to_owned()).into_sql_str();
    let (description, kind) = (of.description.clone(), of.migration_type);
    Migration::new(of.version, description, kind, sql, of.no_tx).checksum
}

/// The database has a line of migrations that is neither this one nor its continuation.
fn another_line(foreign: i64, missing: Option<&Migration>, migrator: &Migrator) -> MigrateError {
    let ours = match missing {
        Some(missing) => format!(
            "{}, which is its first that is missing, was not",
            named(missing)
        ),
        None => "all of its own were, some of them later".to_owned(),
    };
    let table = &migrator.table_name;
    refused(format!(
        "the database has another line of migrations than this program: migration {foreign} was previously applied but is missing \
         in this program, and {ours}. Nothing was changed. If that is another program's, keep the two apart: with `schema=` in the \
         URL, which gives this one a schema of its own, or with a table of its own for its migrations in the place of {table} \
         (`migrate.table-name` in sqlx.toml, `table_name` of the Migrator). If it is the same program's on another branch, bring \
         both lines together, or take a fresh database"
    ))
}

/// The error in our own words.
pub(super) fn refused(why: String) -> MigrateError {
    MigrateError::Source(why.into())
}

/// Version and description.
fn named(migration: &Migration) -> String {
    let Migration {
        version,
        description,
        ..
    } = migration;
    format!("{version} ({description})")
}

/// The file's name, as sqlx reads version, description and kind from it.
fn file(migration: &Migration) -> String {
    let name = migration.description.replace(' ', "_");
    let suffix = migration.migration_type.suffix();
    format!("{}_{name}{suffix}", migration.version)
}
