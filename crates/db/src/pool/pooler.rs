//! A pooler between the pool and the server, such as PgBouncer in transaction mode: found without being told, and used
//! as it can be used.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use sqlx::{Executor, PgConnection};

use crate::connect_error::ConnectError;
use crate::duration::seconds;
use crate::pool::between::Kind;
use crate::pool::closing::resize;
use crate::pool::state::Shared;

/// What is between is taken for another kind from now on, unless somebody has found it to be something else meanwhile. Says
/// whether it is news.
pub(crate) fn is(pool: &Shared, from: Kind, to: Kind) -> bool {
    // Before others take them for what it is told.
    let options = Arc::new(pool.config.options(to != Kind::Nothing));
    let mut kept = pool.options.lock().unwrap_or_else(PoisonError::into_inner);
    let news = pool.between.change(from, to);
    if news {
        *kept = options;
    }
    drop(kept);
    set_limit(pool);
    news
}

/// An error if a pooler of transactions cannot be told a setting that changes what statements mean.
pub(crate) fn check(pool: &Shared) -> Result<(), ConnectError> {
    let checked = pool.config.check_for_pooler();
    checked.map_err(|error| ConnectError::pooler(&pool.config, error))
}

/// A limit that follows the fleet becomes the default where the fleet cannot be seen.
pub(crate) fn set_limit(pool: &Shared) {
    if pool.config.connection_limit_auto && !pool.follows() {
        pool.permits.most_open.store(u32::MAX, Relaxed);
        resize(pool, pool.config.connection_limit);
    }
}

/// Says what is different behind a pooler of transactions.
pub(crate) fn tell(pool: &Shared) {
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
    tell_of_limit(pool);
    if config.hooks.after_connect.is_some() {
        tracing::warn!(
            event = "pooler",
            "behind a pooler after_connect does not run: what it sets in a session would be others' too"
        );
    }
}

/// Says what is different behind one that gives each connection a session of its own.
pub(crate) fn tell_of_sessions(pool: &Shared) {
    let address = pool.config.address();
    tracing::info!(
        event = "pooler",
        "a pooler that gives each connection a session of its own (pool_mode = session in PgBouncer) answers at {address}: it is used \
         as the server itself, and tells each session its settings once it is open. It needs a session for each of the \
         connection_limit connections of all instances, and a few more: a connection that gets none waits"
    );
    tell_of_limit(pool);
}

/// Says that there is no pooler, where the URL says that there is one.
pub(crate) fn tell_of_none(pool: &Shared) {
    let address = pool.config.address();
    tracing::warn!(
        event = "pooler",
        "no pooler answers at {address}, although DATABASE_URL has pgbouncer=true, but the server itself: it is told its timeouts as \
         always. Take pgbouncer=true out"
    );
}

/// Says that the fleet cannot be seen, if it was to be followed.
pub(crate) fn tell_of_limit(pool: &Shared) {
    if pool.config.connection_limit_auto {
        let limit = pool.config.connection_limit;
        tracing::warn!(
            event = "pooler",
            "behind a pooler connection_limit=auto cannot see what the server has: the limit is {limit}, its default"
        );
    }
}

/// Whether a prepared statement gets to the server under the name that sqlx gave it.
pub(crate) async fn under_our_name(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
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
