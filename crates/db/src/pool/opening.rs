//! One connection: opened, asked who answers it, and told what it could not be told when it was opened.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqlSafeStr};
use tokio::time::timeout;

use crate::connect_error::ConnectError;
use crate::fleet::Session;
use crate::pool::between::Kind;
use crate::pool::first_question::{self, First};
use crate::pool::hosts::{Reached, reach};
use crate::pool::state::Shared;
use crate::pool::{pooler, proof};

/// How often one connection is opened anew because something else was found to be between.
const MOST_KINDS: u32 = 4;

/// Where the control connection has made room, the server needs a moment to end it.
const MOMENT: Duration = Duration::from_millis(20);
const MOMENTS: u32 = 10;
const LONGEST_END: Duration = Duration::from_secs(5);

/// Runs the service's own hook, if it has one.
pub(crate) async fn run_hook(
    pool: &Shared,
    connection: &mut PgConnection,
) -> Result<(), ConnectError> {
    let Some(hook) = pool.after_connect() else {
        return Ok(());
    };
    let hooked = hook(connection).await;
    hooked.map_err(|source| ConnectError::after_connect(&pool.config, source))
}

/// Opens the pool's only connection in the place of the control connection, where there is no room for both.
async fn reach_instead_of_control(
    pool: &Shared,
    session: Session,
    mut error: ConnectError,
) -> Result<Reached, ConnectError> {
    if !pool.state().is_empty() {
        return Err(error);
    }
    let Some(control) = pool.control.lock().await.take() else {
        return Err(error);
    };
    let _ = timeout(LONGEST_END, control.connection.close()).await;
    for _ in 0..MOMENTS {
        match reach(pool, session).await {
            Err(full) if full.is_server_full() => error = full,
            reached => return reached,
        }
        tokio::time::sleep(MOMENT).await;
    }
    Err(error)
}

/// A connection, and what it was asked first. What is between is known with it.
pub(crate) async fn opened(
    pool: &Shared,
    session: Session,
) -> Result<(Reached, First), ConnectError> {
    let failed = |source| ConnectError::new(&pool.config, source);
    proof::is_trusted(pool).await?;
    for _ in 0..MOST_KINDS {
        let before = pool.between.kind();
        let mut reached = match Box::pin(reach(pool, session)).await {
            Err(error) if error.is_server_full() => {
                Box::pin(reach_instead_of_control(pool, session, error)).await?
            }
            reached => reached?,
        };
        let kind = pool.between.kind();
        if kind != Kind::TransactionPooler {
            if kind != before {
                continue;
            }
            let first = match kind {
                Kind::Nothing => reached.first(pool).await.map_err(failed)?,
                _ => {
                    tell(pool, &mut reached.inner).await.map_err(failed)?;
                    let first = first_question::ask(pool, &mut reached.inner).await;
                    first.map_err(failed)?
                }
            };
            if first.backend.is_some() {
                proof::is_of_one_server(pool, &mut reached.inner, &first).await?;
                return Ok((reached, first));
            }
            pooler::is(pool, kind, Kind::TransactionPooler);
        }
        if Box::pin(proof::is_of_transactions(pool, &mut reached.inner)).await? {
            pooler::check(pool)?;
            let first = reached.first.take().unwrap_or_default();
            let none = First {
                backend: None,
                ..first
            };
            return Ok((reached, none));
        }
    }
    let changes = "it takes settings from one connection and not from the next";
    Err(ConnectError::pooler(&pool.config, changes))
}

/// Tells a session what it could not be told when it was opened.
pub(crate) async fn tell(pool: &Shared, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    if pool.between.kind() != Kind::SessionPooler {
        return Ok(());
    }
    let told = AssertSqlSafe(pool.config.tell(pool.instance.id())).into_sql_str();
    sqlx::raw_sql(told).execute(connection).await.map(drop)
}
