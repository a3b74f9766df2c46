//! The control connection: one beside the pool, for what a full pool must not delay, such as cancelling statements.
//!
//! It is opened when it is needed, has one user at a time, and is closed by the janitor when it has been idle. Where the
//! limit follows the fleet it stays, and its name tells the others what this instance may have open.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqlSafeStr};
use tokio::time::timeout;

use crate::error::Error;
use crate::fleet::{Fleet, Session};
use crate::pool::connect;
use crate::pool::state::{Control, Shared};

/// Longest wait for its answer. Nothing that runs here takes long on a server that is well.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(10);

/// Asks for a sign of life.
pub(crate) async fn ping(pool: &Shared) -> Result<(), Error> {
    run(pool, "").await.map(drop)
}

/// Tells the fleet what this pool may have open, and asks what the others have.
pub(crate) async fn ask_fleet(pool: &Shared, claim: u32) -> Result<Fleet, Error> {
    pool.claim.store(claim, Relaxed);
    let name = pool.instance.name_of(Session::Claiming(claim));
    let question = pool.instance.question();
    let sql = format!("set application_name = '{name}'; {question}");
    let row = run(pool, &sql).await?.pop();
    let row = row.ok_or(sqlx::Error::RowNotFound)?;
    Ok(Fleet::read(&row)?)
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
    run(pool, &sql).await.map(drop)
}

async fn run(pool: &Shared, sql: &str) -> Result<Vec<PgRow>, Error> {
    let mut kept = pool.control.lock().await;
    // Taken out while it is in use: whoever gives up half-way takes it along, and the next one opens another.
    let generation = pool.state().generation;
    if let Some(mut control) = kept.take()
        && control.generation == generation
        && let Ok(rows) = ask(&mut control.connection, sql).await
    {
        control.used = Instant::now();
        *kept = Some(control);
        return Ok(rows);
    }
    let mut opened = connect::open_control(pool).await?;
    let rows = ask(&mut opened.inner, sql).await?;
    *kept = Some(Control {
        connection: opened.inner,
        used: Instant::now(),
        generation: opened.generation,
    });
    Ok(rows)
}

async fn ask(connection: &mut PgConnection, sql: &str) -> Result<Vec<PgRow>, Error> {
    let answer = async {
        match sql {
            "" => connection.ping().await.map(|()| Vec::new()),
            _ => {
                let sql = AssertSqlSafe(sql.to_owned()).into_sql_str();
                sqlx::raw_sql(sql).fetch_all(connection).await
            }
        }
    };
    let answer = timeout(ANSWER_TIMEOUT, answer).await;
    answer
        .map_err(|_| Error::NoAnswer(ANSWER_TIMEOUT))?
        .map_err(Error::from)
}

/// Closes the connection if nobody has used it for a while, or at once. One that speaks for its instance stays.
pub(crate) async fn close(pool: &Shared, at_once: bool) {
    if pool.follows() && !at_once {
        return;
    }
    let Ok(mut kept) = pool.control.try_lock() else {
        return;
    };
    if let Some(control) = kept.take_if(|control| at_once || control.used.elapsed() > IDLE) {
        let _ = timeout(ANSWER_TIMEOUT, control.connection.close()).await;
    }
}
