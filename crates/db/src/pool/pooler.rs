//! A pooler between the pool and the server, such as PgBouncer in transaction mode: found without being told, and used
//! as it can be used.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use sqlx::{Executor, PgConnection};

use crate::connect_error::ConnectError;
use crate::duration::seconds;
use crate::pool::closing::resize;
use crate::pool::state::Shared;

/// A pooler was found. An error if it cannot be told a setting that changes what statements mean.
pub(crate) fn found(pool: &Shared) -> Result<(), ConnectError> {
    let config = &pool.config;
    config
        .check_for_pooler()
        .map_err(|error| ConnectError::pooler(config, error))?;
    if pool.is_pooled() {
        return Ok(());
    }
    // Before others take them for what a pooler is told.
    let options = Arc::new(config.options(true));
    *pool.options.lock().unwrap_or_else(PoisonError::into_inner) = options;
    let _ = pool.pooler.set(config.in_transactions());
    set_limit(pool);
    Ok(())
}

/// A limit that follows the fleet becomes the default: from here the fleet cannot be seen.
pub(crate) fn set_limit(pool: &Shared) {
    if pool.config.connection_limit_auto && pool.is_pooled() {
        pool.permits.most_open.store(u32::MAX, Relaxed);
        resize(pool, pool.config.connection_limit);
    }
}

/// Says once what is different then.
fn tell(pool: &Shared) {
    let config = &pool.config;
    let statement = config.socket_timeout.map_or_else(
        || "nothing ends them".to_owned(),
        |limit| format!("socket_timeout ({}) ends them", seconds(limit)),
    );
    let (address, role) = (config.address(), config.username());
    tracing::info!(
        event = "pooler",
        "a pooler such as PgBouncer answers at {address}. The server hears of statement_timeout, lock_timeout and \
         idle_in_transaction_session_timeout only in transactions, where DATABASE_URL sets them; of single statements only \
         {statement}. For all: alter role \"{role}\" set statement_timeout = '5s'"
    );
    if config.connection_limit_auto {
        let limit = config.connection_limit;
        tracing::warn!(
            event = "pooler",
            "behind a pooler connection_limit=auto cannot see what the server has: the limit is {limit}, its default"
        );
    }
    if config.hooks.after_connect.is_some() {
        tracing::warn!(
            event = "pooler",
            "behind a pooler after_connect does not run: what it sets in a session would be others' too"
        );
    }
}

/// Asks once whether the pooler keeps the prepared statements of its clients apart. If it does not, a statement may run
/// another client's. With `pgbouncer=true` there may be no pooler at all, which `is_direct` finds out.
pub(crate) async fn keeps_statements_apart(
    pool: &Shared,
    connection: &mut PgConnection,
    is_direct: impl Future<Output = bool>,
) -> Result<(), ConnectError> {
    if pool.statements_apart.get().is_some() {
        return Ok(());
    }
    let under_our_name = under_our_name(connection).await;
    if under_our_name.map_err(|error| ConnectError::new(&pool.config, error))? && !is_direct.await {
        return Err(ConnectError::pooler(
            &pool.config,
            "it does not keep the prepared statements of its clients apart, so that one may run another's. Use PgBouncer \
             1.21 or later with max_prepared_statements above 0 (200 by default from 1.24 on), or connect to the server itself",
        ));
    }
    if pool.statements_apart.set(()).is_ok() {
        tell(pool);
    }
    Ok(())
}

/// Whether a prepared statement gets to the server under the name that sqlx gave it.
async fn under_our_name(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    const SQL: &str = "select exists (select from pg_prepared_statements where name ^@ 'sqlx_s_')";
    // In a transaction, so that all of it is done in one session.
    connection.execute("begin").await?;
    let asked = sqlx::query_scalar(SQL).fetch_one(&mut *connection).await;
    connection.execute("rollback").await?;
    match asked {
        // There is none of that name, or there is one already: in either case they are not ours alone.
        Err(sqlx::Error::Database(error))
            if matches!(error.code().as_deref(), Some("26000" | "42P05")) =>
        {
            Ok(true)
        }
        asked => asked,
    }
}
