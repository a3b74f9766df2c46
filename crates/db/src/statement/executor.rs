//! `&Pool` and `&mut Connection` as sqlx executors: the only file that speaks sqlx's building-block trait.

use std::future::ready;
use std::pin::pin;
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
#[cfg(feature = "macros")]
use sqlx::Describe;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Execute, Executor, Postgres, SqlStr};

use crate::error::Error;
use crate::pool::{Connection, LEASES, Origin, Pool, acquire, within};
use crate::session_effect::SessionEffect;
use crate::statement::answer::{Answer, Step};
use crate::statement::rows::Rows;
use crate::statement::run::{Statement, run, run_on_pool};

// Only `fetch_many`, `fetch_optional`, `prepare_with` and `describe` are required. `execute` is written out because the
// trait's own version passes its result through two boxed streams more. Futures and streams hold a clone of the pool, as
// those of sqlx's own pool do, so that they can outlive the reference.

impl<'p> Executor<'p> for &Pool {
    type Database = Postgres;

    fn execute<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<PgQueryResult, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let statement = match Statement::new(query) {
            Ok(statement) => statement,
            Err(error) => return refused(error),
        };
        Box::pin(async move {
            let mut result = PgQueryResult::default();
            run_on_pool(&pool, &statement, &mut result).await?;
            Ok(result)
        })
    }

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let (pool, statement) = (self.clone(), Statement::new(query));
        Box::pin(Rows::of(|mut rows| async move {
            run_on_pool(&pool, &statement?, &mut rows).await
        }))
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let statement = match Statement::new(query) {
            Ok(statement) => statement,
            Err(error) => return refused(error),
        };
        Box::pin(async move {
            let mut row = None;
            run_on_pool(&pool, &statement, &mut row).await?;
            Ok(row)
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        types: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        Box::pin(async move {
            prepare(
                &mut acquire(&pool.0, pool.1.as_deref(), Origin::Statement(sql.clone())).await?,
                sql,
                types,
            )
            .await
        })
    }

    #[cfg(feature = "macros")]
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        Box::pin(async move {
            acquire(&pool.0, pool.1.as_deref(), Origin::Statement(sql.clone()))
                .await?
                .lend()
                .describe(sql)
                .await
        })
    }
}

impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Postgres;

    fn execute<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<PgQueryResult, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let statement = Statement::new(query);
        Box::pin(async move {
            let mut result = PgQueryResult::default();
            run_on_lease(self, &statement?, &mut result).await?;
            Ok(result)
        })
    }

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let statement = Statement::new(query);
        Box::pin(Rows::of(|mut rows| async move {
            run_on_lease(self, &statement?, &mut rows).await
        }))
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let statement = Statement::new(query);
        Box::pin(async move {
            let mut row = None;
            run_on_lease(self, &statement?, &mut row).await?;
            Ok(row)
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        types: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(prepare(self, sql, types))
    }

    #[cfg(feature = "macros")]
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        self.lend().describe(sql)
    }
}

/// What sqlx could not encode. It is told here, so that a future does not hold its statement twice.
fn refused<'e, T: Send + 'e>(error: sqlx::Error) -> BoxFuture<'e, Result<T, sqlx::Error>> {
    Box::pin(ready(Err(error)))
}

/// Runs a statement on a lease or in a transaction. One that a replica fails in sends the next of them to the primary.
async fn run_on_lease(
    connection: &mut Connection,
    statement: &Statement,
    answer: &mut impl Answer,
) -> Result<(), sqlx::Error> {
    let pool = connection.pool();
    let ran = run(&pool, connection, statement, answer).await;
    let Some(replica) = &pool.replica else {
        return ran;
    };
    let strain = &replica.health.strain;
    ran.map(|()| strain.answered(LEASES)).map_err(|error| {
        let error = Error::from(error);
        strain.failed(LEASES, &error);
        error.into()
    })
}

async fn prepare(
    connection: &mut Connection,
    sql: SqlStr,
    types: &[PgTypeInfo],
) -> Result<PgStatement, sqlx::Error> {
    let after = connection.started(&sql, SessionEffect::None);
    let limit = connection.socket_timeout.unwrap_or(Duration::MAX);
    let pool = connection.pool();
    let prepared = connection.inner().prepare_with(sql, types);
    let prepared = within(&pool, limit, pin!(prepared)).await;
    let prepared = prepared.unwrap_or_else(|| Err(Error::StatementTimeout(limit).into()));
    connection.ended(after, prepared.as_ref().map(drop));
    prepared
}
