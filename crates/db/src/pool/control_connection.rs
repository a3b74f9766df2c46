//! The control connection: one beside the pool, for what a full pool must not delay, such as cancelling statements.
//!
//! It is opened when it is needed, has one user at a time, and is closed by the janitor when it has been idle.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqlSafeStr};
use tokio::time::timeout;

use crate::error::Error;
use crate::pool::connect;
use crate::pool::state::Shared;

/// Longest wait for its answer. Nothing that runs here takes long on a server that is well.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(10);

/// Asks for a sign of life.
pub(crate) async fn ping(pool: &Shared) -> Result<(), Error> {
    run(pool, "").await
}

/// Asks the server to stop what the session runs. Best effort: a failure is logged for those who look closely.
pub(crate) async fn cancel(pool: &Shared, backend: &str) {
    let sql = format!("select pg_cancel_backend(pid) from pg_stat_activity where {backend}");
    if let Err(error) = run(pool, &sql).await {
        tracing::debug!("a statement could not be cancelled: {error}");
    }
}

/// Asks the server to end the sessions that the condition names.
pub(crate) async fn terminate(pool: &Shared, backends: &str) -> Result<(), Error> {
    let sql = format!("select pg_terminate_backend(pid) from pg_stat_activity where {backends}");
    run(pool, &sql).await
}

async fn run(pool: &Shared, sql: &str) -> Result<(), Error> {
    let mut kept = pool.control.lock().await;
    // Taken out while it is in use: whoever gives up half-way takes it along, and the next one opens another.
    if let Some((mut connection, _)) = kept.take()
        && ask(&mut connection, sql).await.is_ok()
    {
        *kept = Some((connection, Instant::now()));
        return Ok(());
    }
    let mut connection = connect::open(pool).await?;
    ask(&mut connection, sql).await?;
    *kept = Some((connection, Instant::now()));
    Ok(())
}

async fn ask(connection: &mut PgConnection, sql: &str) -> Result<(), Error> {
    let answer = async {
        match sql {
            "" => connection.ping().await,
            _ => {
                let sql = AssertSqlSafe(sql.to_owned()).into_sql_str();
                connection.execute(sql).await.map(drop)
            }
        }
    };
    let answer = timeout(ANSWER_TIMEOUT, answer).await;
    answer
        .map_err(|_| Error::NoAnswer(ANSWER_TIMEOUT))?
        .map_err(Error::from)
}

/// Closes the connection if nobody has used it for a while, or at once.
pub(crate) async fn close(pool: &Shared, at_once: bool) {
    let Ok(mut kept) = pool.control.try_lock() else {
        return;
    };
    if let Some((connection, _)) = kept.take_if(|(_, used)| at_once || used.elapsed() > IDLE) {
        let _ = timeout(ANSWER_TIMEOUT, connection.close()).await;
    }
}
