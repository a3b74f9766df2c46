//! What the server allows.

/// What the server allows and what is taken of it, as [`Pool::examine`](crate::Pool::examine) found it.
///
/// ```no_run
/// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
/// pool.examine().await?;
/// if let Some(server) = pool.server() {
///     println!("room for {} more, of {}", server.room, server.usable);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// PostgreSQL's version.
    pub version: String,
    /// `max_connections`.
    pub max_connections: u32,
    /// How many of these the pool's role may have, all instances together: without those reserved for superusers, and no
    /// more than the role's or the database's own limit.
    pub usable: u32,
    /// Four fifths of that: the rest is for deployments and for psql.
    pub budget: u32,
    /// Sessions of clients that were open, but for the pool's own.
    pub others: u32,
    /// How many connections more the pool may take, with the others as they were.
    pub room: u32,
    /// Instances of this role that have a connection open, this one among them. A program without this crate is none.
    pub instances: u32,
    /// What is open or may be at any time: the limit of each instance, and the sessions of everybody else.
    pub taken: u32,
}
