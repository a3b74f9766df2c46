//! One connection beside the pool, for what a full pool must not delay: cancelling statements and readiness.

use std::time::{Duration, Instant};

use sqlx::{Connection, Executor, PgConnection, SqlStr};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::deadline::within;
use crate::error::Error;
use crate::pool::Inner;

/// Opened when it is needed, one user at a time, closed by the janitor when it has been idle.
#[derive(Default)]
pub(crate) struct Side(Mutex<Option<(PgConnection, Instant)>>);

/// Longest wait for its answer. Nothing that runs here takes long on a server that is well.
const PATIENCE: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(10);

impl Side {
    /// Runs `sql`, or only asks for a sign of life.
    pub(crate) async fn run(&self, pool: &Inner, sql: Option<SqlStr>) -> Result<(), Error> {
        let mut kept = self.0.lock().await;
        // Taken out while it is in use: whoever gives up half-way takes it along, and the next one dials anew.
        if let Some((mut connection, _)) = kept.take()
            && ask(&mut connection, sql.clone()).await.is_ok()
        {
            *kept = Some((connection, Instant::now()));
            return Ok(());
        }
        let mut connection = pool.dial_with(&pool.options()).await?;
        ask(&mut connection, sql).await?;
        *kept = Some((connection, Instant::now()));
        Ok(())
    }

    /// Closes the connection if nobody has used it for a while, or at once.
    pub(crate) async fn rest(&self, at_once: bool) {
        let Ok(mut kept) = self.0.try_lock() else {
            return;
        };
        if let Some((connection, _)) = kept.take_if(|(_, used)| at_once || used.elapsed() > IDLE) {
            let _ = timeout(PATIENCE, connection.close()).await;
        }
    }
}

async fn ask(connection: &mut PgConnection, sql: Option<SqlStr>) -> Result<(), Error> {
    let answer = async {
        match sql {
            Some(sql) => connection.execute(sql).await.map(drop),
            None => connection.ping().await,
        }
    };
    let answer = within(Some(PATIENCE), answer).await?;
    answer.map_err(Error::from)
}
