//! `&Pool` and `&mut Lease` as sqlx executors: the only file that speaks sqlx's building-block trait.

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Execute, Executor, Postgres, SqlStr};

use crate::deadline::within;
use crate::effect::Effect;
use crate::error::Error;
use crate::lease::Lease;
use crate::pool::Pool;
use crate::shelf::Origin;
use crate::statement::{Statement, Step, stream};

// Only `fetch_many`, `fetch_optional`, `prepare_with` and `describe` are required. The others are written out because
// the trait's own versions pass each row through two boxed streams more.

impl<'p> Executor<'p> for &Pool {
    type Database = Postgres;

    fn execute<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<PgQueryResult, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let (pool, statement) = (self.clone(), Statement::new(query));
        Box::pin(async move {
            let statement = statement?;
            pool.lease_for(&statement.sql)
                .await?
                .execute(statement)
                .await
        })
    }

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let (pool, statement) = (self.clone(), Statement::new(query));
        let sql = statement
            .as_ref()
            .map_or(SqlStr::from_static(""), |statement| statement.sql.clone());
        stream(async move { pool.lease_for(&sql).await }, statement)
    }

    fn fetch_all<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Vec<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let (pool, statement) = (self.clone(), Statement::new(query));
        Box::pin(async move {
            let statement = statement?;
            pool.lease_for(&statement.sql).await?.all(statement).await
        })
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let (pool, statement) = (self.clone(), Statement::new(query));
        Box::pin(async move {
            let statement = statement?;
            pool.lease_for(&statement.sql).await?.first(statement).await
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
        Box::pin(async move { pool.lease_for(&sql).await?.prepared(sql, types).await })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        Box::pin(async move { pool.lease_for(&sql).await?.raw().describe(sql).await })
    }
}

impl<'c> Executor<'c> for &'c mut Lease {
    type Database = Postgres;

    fn execute<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<PgQueryResult, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let statement = Statement::new(query);
        Box::pin(async move { Lease::execute(self, statement?).await })
    }

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        stream(std::future::ready(Ok(self)), Statement::new(query))
    }

    fn fetch_all<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Vec<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let statement = Statement::new(query);
        Box::pin(async move { self.all(statement?).await })
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
        Box::pin(async move { self.first(statement?).await })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        types: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(self.prepared(sql, types))
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        self.raw().describe(sql)
    }
}

impl Pool {
    async fn lease_for(&self, sql: &SqlStr) -> Result<Lease, Error> {
        self.0.lease(Origin::Statement(sql.clone())).await
    }
}

impl Lease {
    async fn execute(&mut self, statement: Statement) -> Result<PgQueryResult, sqlx::Error> {
        let mut result = PgQueryResult::default();
        self.run(statement, |step| result.extend(step.left()))
            .await?;
        Ok(result)
    }

    async fn all(&mut self, statement: Statement) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut rows = Vec::new();
        self.run(statement, |step| rows.extend(step.right()))
            .await?;
        Ok(rows)
    }

    async fn first(&mut self, statement: Statement) -> Result<Option<PgRow>, sqlx::Error> {
        let mut first = None;
        self.run(statement, |step| first = first.take().or(step.right()))
            .await?;
        Ok(first)
    }

    async fn prepared(
        &mut self,
        sql: SqlStr,
        types: &[PgTypeInfo],
    ) -> Result<PgStatement, sqlx::Error> {
        let before = self.started(&sql, Effect::None);
        let limit = self.claim().pool.config.socket_timeout;
        let result = within(limit, self.connection().prepare_with(sql, types))
            .await
            .unwrap_or_else(|error| Err(error.into()));
        self.ended(before, Effect::None, result.as_ref().map(drop));
        result
    }
}
