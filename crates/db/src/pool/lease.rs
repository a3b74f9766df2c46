//! What a caller gets of the pool: a connection, until the lease is dropped.

use std::ops::{Deref, DerefMut};

use crate::pool::connection::Connection;

/// A [`Connection`] of the pool in one caller's hands. Dropping it gives the connection back.
///
/// `&mut *lease` works wherever sqlx takes an executor, as with sqlx's `PoolConnection`.
///
/// ```no_run
/// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
/// let mut lease = pool.acquire().await?;
/// sqlx::query("select 1").execute(&mut *lease).await?;
/// drop(lease); // given back
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Lease(pub(crate) Connection);

impl Lease {
    /// Closes the connection instead of giving it back, for one that is known to be of no further use. The pool opens another
    /// one when it is needed.
    ///
    /// ```no_run
    /// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
    /// let lease = pool.acquire().await?;
    /// lease.close();
    /// # Ok(()) }
    /// ```
    pub fn close(self) {
        self.0.close();
    }

    /// Leaves an empty one behind, for which nothing can be done any more.
    pub(crate) fn take(&mut self) -> Self {
        Self(std::mem::replace(&mut self.0, Connection::gone()))
    }
}

impl Deref for Lease {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

/// A connection that a function has taken from the pool, or was lent by its caller.
///
/// ```no_run
/// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
/// async fn names(mut db: impl db::Acquire) -> Result<Vec<String>, db::Error> {
///     let mut connection = db.acquire().await?; // a lease of a pool, or the transaction's own connection
///     Ok(sqlx::query_scalar("select name from customer").fetch_all(&mut *connection).await?)
/// }
/// names(pool).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a box would be an allocation for each lease that is taken"
)]
pub enum MaybeLease<'c> {
    /// Taken: it goes back when this is dropped.
    Taken(Lease),
    /// Lent by whoever has it.
    Lent(&'c mut Connection),
}

impl Deref for MaybeLease<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match self {
            Self::Taken(lease) => lease,
            Self::Lent(connection) => connection,
        }
    }
}

impl DerefMut for MaybeLease<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        match self {
            Self::Taken(lease) => lease,
            Self::Lent(connection) => connection,
        }
    }
}
