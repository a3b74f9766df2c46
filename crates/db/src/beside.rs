//! A pool of sqlx's own beside this one.

use std::panic::Location;

use sqlx::PgPool;

use crate::error::Error;
use crate::pool::{Pool, part};

impl Pool {
    /// A pool of sqlx's own that may open `connections` of this pool's limit, for crates that want a [`sqlx::PgPool`]: job
    /// queues, session stores, other libraries on sqlx. This pool's limit is so much lower until either is closed.
    ///
    /// Its connections are opened with the same options: address, credentials, TLS, session settings. They are counted in the
    /// metrics under this pool's name with `/sqlx` behind it, and close with [`Pool::close`]. What sqlx's pool does with them
    /// is its own: what one caller leaves on a session, the next one finds. A connection taken out of it with `detach` is no
    /// longer part of anybody's limit, and after a failover it finds out by itself which of its connections are dead.
    ///
    /// ```no_run
    /// # async fn example(pool: &db::Pool) -> Result<(), Box<dyn std::error::Error>> {
    /// let theirs = pool.sqlx_pool(2).await?;
    /// let mut listener = sqlx::postgres::PgListener::connect_with(&theirs).await?;
    /// listener.listen("orders").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If `connections` is 0 or not below the limit; those of [`acquire`](Self::acquire) while so many are not free.
    pub async fn sqlx_pool(&self, connections: u32) -> Result<PgPool, Error> {
        let part = part::take(&self.0, connections, Location::caller()).await?;
        Ok(part.pool)
    }
}
