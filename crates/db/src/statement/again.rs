//! Whether a statement that failed runs a second time, and what is done before.

use std::io::ErrorKind;
use std::pin::pin;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, Executor, SqlSafeStr, SqlStr};

use crate::control::control;
use crate::error::{
    Error, is_at_wrong_server, is_broken, is_out_of_time, is_timeout, loss, never_ran,
};
use crate::only_reads::only_reads;
use crate::pool::{Condition, Connection, Patience, Pool, who_is_lost, within};
use crate::session_effect::{after_comments, is_one_of, words};
use crate::sqlstate::{Loss, is_end_by_server};

/// Whether a statement that failed before its first row has surely not run, or may run twice. `alone` if it is surely one.
pub(crate) fn may_repeat(
    pool: &Pool,
    connection: &Connection,
    sql: &SqlStr,
    alone: bool,
    error: &sqlx::Error,
) -> bool {
    if is_at_wrong_server(error) {
        return pool.0.config.hosts().len() > 1 && alone;
    }
    let cut_off = is_broken(error) && !is_timeout(error) && !is_out_of_time(error);
    let over = was_over(
        error,
        connection.was_over && alone && !commits_itself(sql.as_str()),
    );
    never_ran(error) || over || cut_off && only_reads(sql.as_str())
}

/// Whether the statement has surely not run, because its session was over. `at_once` says that the end was there at the first
/// look for an answer.
///
/// The server's last word, where an answer belongs, was there before it could have answered: it does not read on after it, and an
/// answer to what is committed comes before it. An end without a word, or with a pooler's, tells nothing, for a server that crashes
/// may have carried out what it read; but what could not be sent to its last byte was not carried out.
fn was_over(error: &sqlx::Error, at_once: bool) -> bool {
    match error {
        sqlx::Error::Io(error) => {
            error.kind() == ErrorKind::BrokenPipe && error.raw_os_error().is_some()
        }
        error => at_once && error.as_database_error().is_some_and(is_end_by_server),
    }
}

/// Whether it may have committed a part of what it does before its session ended.
fn commits_itself(sql: &str) -> bool {
    let first = words(after_comments(sql)).next();
    first.is_some_and(|word| is_one_of(word, &["call", "do"]))
}

/// Before the next attempt, so that it does not get another connection to the same server. That one session takes no writes
/// is not believed of the server.
pub(crate) async fn make_way(pool: &Pool, connection: &mut Connection, error: &sqlx::Error) {
    if !is_at_wrong_server(error) {
        return;
    }
    connection.loss = match is_timeout(error) {
        true => Some(Loss::Server),
        false => who_is_lost(&pool.0, connection.inner(), Some(loss(error))).await,
    };
    let of_others = connection.loss.is_some_and(|loss| loss != Loss::Session);
    // Another caller may have met it before: what was opened since is well.
    if of_others && connection.is_of_now() {
        pool.evict();
    }
}

/// Why a connection broke, as well as that is known.
pub(crate) fn explain(patience: Option<Patience>, error: sqlx::Error) -> sqlx::Error {
    match patience {
        Some(patience) => patience.explain(error),
        None => error,
    }
}

/// Has what was sent prepared anew, after a table changed under it. Says whether it may be sent a second time: where it has ended a
/// transaction, only if it was the `first` there: the transaction is begun again.
pub(crate) async fn prepare_anew(
    connection: &mut Connection,
    (sql, sent, after): (&SqlStr, Instant, Condition),
    first: bool,
) -> Result<bool, sqlx::Error> {
    let pool = connection.pool();
    match pool.is_pooled() {
        true => pool.renewed.renew(sql, sent),
        false => forget_statements(connection, after).await?,
    }
    let Some(transaction) = &connection.transaction else {
        return Ok(true);
    };
    match &transaction.begun {
        Some(begun) if first && connection.condition < Condition::Lent => {
            let begun = begun.clone();
            begin_again(connection, begun).await?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// In one message, so that sqlx and a pooler see the same transaction go on.
async fn begin_again(connection: &mut Connection, begun: SqlStr) -> Result<(), Error> {
    let text = AssertSqlSafe(format!("rollback; {}", begun.as_str())).into_sql_str();
    control(connection, begun.as_str(), async |connection| {
        connection.execute(text).await.map(drop)
    })
    .await?;
    if let Some(transaction) = &mut connection.transaction {
        (transaction.failed, transaction.conflict) = (None, false);
    }
    Ok(())
}

/// Makes the server and sqlx forget their prepared statements.
async fn forget_statements(
    connection: &mut Connection,
    after: Condition,
) -> Result<(), sqlx::Error> {
    let limit = connection.socket_timeout.unwrap_or(Duration::MAX);
    let pool = connection.pool();
    let forgotten = connection.inner().clear_cached_statements();
    let forgotten = within(&pool, limit, pin!(forgotten)).await;
    let result = forgotten.unwrap_or_else(|| Err(Error::StatementTimeout(limit).into()));
    connection.ended(after, result.as_ref().copied());
    result
}
