//! The statements that begin and end transactions, sent so that sqlx knows how deep a connection is in them.

use std::pin::pin;
use std::time::Duration;

use sqlx::postgres::PgTransactionManager;
use sqlx::{AssertSqlSafe, Executor, PgConnection, SqlSafeStr, SqlStr};
use sqlx_core::transaction::TransactionManager;

use crate::error::Error;
use crate::metrics::Outcome;
use crate::pool::{Connection, Pool, within};
use crate::session_effect::SessionEffect;
use crate::spans;

/// Sends one of the transaction's own statements, which leave no mark of their own on the session. `text` is what traces say
/// of it.
pub(crate) async fn control(
    connection: &mut Connection,
    text: &str,
    send: impl AsyncFnOnce(&mut PgConnection) -> Result<(), sqlx::Error>,
) -> Result<(), Error> {
    const NOTHING: SqlStr = SqlStr::from_static("");
    let after = connection.started(&NOTHING, SessionEffect::None);
    if let Some(transaction) = &mut connection.transaction {
        transaction.untouched = false;
    }
    let pool = connection.pool();
    let limit = connection.socket_timeout.unwrap_or(Duration::MAX);
    let span = spans::statement(&pool.config, text);
    let sent = within(&pool, limit, pin!(send(connection.inner()))).await;
    let Some(result) = sent else {
        connection.overdue = true;
        spans::ended(&span, &Outcome::Timeout);
        return Err(Error::StatementTimeout(limit));
    };
    if let Err(error) = &result {
        spans::ended(&span, &Outcome::of(error));
    }
    connection.ended(after, result.as_ref().copied());
    result.map_err(Error::from)
}

/// Commits until sqlx is only so deep in transactions: first what was left open inside, on sqlx's own connection.
pub(crate) async fn commit_to(
    connection: &mut PgConnection,
    depth: usize,
) -> Result<(), sqlx::Error> {
    while PgTransactionManager::get_transaction_depth(connection) > depth {
        PgTransactionManager::commit(connection).await?;
    }
    Ok(())
}

impl Connection {
    /// Tells the server the limits of this pool that it has to know, until the connection is given back.
    pub(crate) async fn limit(&mut self, pool: &Pool) -> Result<(), Error> {
        let Some(told) = pool.1.as_deref().and_then(|limits| limits.sql("set")) else {
            return Ok(());
        };
        if pool.0.is_pooled() {
            let instead = "behind a pooler only a transaction can have limits of its own that the server has to know";
            return Err(Error::Sqlx(sqlx::Error::InvalidArgument(
                instead.to_owned(),
            )));
        }
        // Numbers and names of settings, nothing else.
        let told = AssertSqlSafe(told).into_sql_str();
        Ok(self.execute(told).await.map(drop)?)
    }
}
