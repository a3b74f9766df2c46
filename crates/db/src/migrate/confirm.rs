//! Whether what a session of a pooler lacks is lacking in the database.

use sqlx::migrate::Migrator;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, Row};

use crate::error::Error;
use crate::migrate::compare::Schema;
use crate::migrate::look::{is_table_missing, judge, look, question};
use crate::pool::Pool;

/// What decides which tables a session sees, as it is and as a new session has it. Not by the view of the settings, which can be
/// written to: a session that was asked by it would be made as new afterwards.
const STATE: &str = "\
    select current_setting('search_path') as path, \
           (select reset_val from pg_catalog.pg_show_all_settings() where name = 'search_path') as usual, \
           current_user::text as role, \
           session_user::text as login";

/// Asks again, in one transaction and so on one session, for the state of that session and for its migrations. A session that
/// another client has left otherwise is no witness; then the server is asked by `DIRECT_URL`.
pub(super) async fn confirm(pool: &Pool, migrator: &Migrator) -> Result<Schema, Error> {
    let mut transaction = pool.begin().await?;
    let state = sqlx::raw_sql(STATE).fetch_one(&mut *transaction).await?;
    let sql = AssertSqlSafe(question(migrator));
    let rows = match sqlx::raw_sql(sql).fetch_all(&mut *transaction).await {
        Err(error) if is_table_missing(&error) => Vec::new(),
        rows => rows?,
    };
    transaction.rollback().await?;
    let schema = judge(migrator, &rows)?.0;
    match strange(&state)? {
        Some(session) if matches!(schema, Schema::Older { .. }) => {
            match directly(pool, migrator).await {
                Some(older @ Schema::Older { .. }) => Ok(older),
                _ => Ok(Schema::Unclear { session }),
            }
        }
        _ => Ok(schema),
    }
}

/// What the server itself says, if there is a way to it.
async fn directly(pool: &Pool, migrator: &Migrator) -> Option<Schema> {
    let direct = Pool::new(pool.config().direct()?);
    let mut connection = direct.open_beside().await.ok()?;
    let looked = look(&mut connection, migrator).await;
    let _ = connection.close().await;
    looked.ok().map(|(schema, _)| schema)
}

/// What is the matter with a session that is not as it was born.
fn strange(state: &PgRow) -> Result<Option<String>, sqlx::Error> {
    let [path, usual, role, login] = [0, 1, 2, 3].map(|index| state.try_get::<String, _>(index));
    let (path, usual, role, login) = (path?, usual?, role?, login?);
    let other = match (path == usual, role == login) {
        (true, true) => return Ok(None),
        (false, _) => format!("search_path = '{path}' in the place of '{usual}'"),
        (true, false) => format!("the role {role} in the place of {login}"),
    };
    Ok(Some(format!(
        "a session of the pooler has {other}, as another client has left it, so statements may not find their tables there: \
         end such sessions (PgBouncer: `RECONNECT`), and have each made as new after its use (PgBouncer: \
         server_reset_query_always = 1)"
    )))
}
