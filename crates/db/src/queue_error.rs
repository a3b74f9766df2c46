//! What callers are told who wait for a connection in vain, or who need not begin to wait.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::connect_error::ConnectError;

/// What a caller was turned away for.
///
/// ```
/// # fn example(error: db::Error) {
/// if let db::Error::Overloaded { limit: db::QueueLimit::Length(waiting), .. } = error {
///     eprintln!("{waiting} wait already: find out why");
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueLimit {
    /// The setting `queue_limit`: so many callers wait already.
    Length(u32),
    /// The setting `pool_timeout`: the wait would be longer.
    PoolTimeout(Duration),
    /// The time left until the caller's deadline ([`with_deadline`](crate::with_deadline)): the wait would be longer.
    Deadline(Duration),
    /// The setting `queue_target`: the queue is cut, and the wait was or would be longer.
    Target(Duration),
}

/// The text of [`Error::Overloaded`](crate::Error::Overloaded).
pub(crate) fn overloaded(waiting: u32, expected: Option<Duration>, limit: QueueLimit) -> String {
    let expected = match expected {
        Some(expected) => format!("is {expected:.1?}"),
        None => "is not known yet".to_owned(),
    };
    let limit = match limit {
        QueueLimit::Length(limit) => {
            format!("queue_limit is {limit}: raise it in DATABASE_URL to let more wait")
        }
        QueueLimit::PoolTimeout(limit) => format!("pool_timeout is {limit:.1?}"),
        QueueLimit::Deadline(left) => format!("the caller's deadline was {left:.1?} away"),
        QueueLimit::Target(target) => {
            format!(
                "all have waited for so long that the queue is cut to queue_target, {target:.1?}"
            )
        }
    };
    format!(
        "too many callers wait for a connection ({waiting} waiting): the expected wait {expected}, and {limit}"
    )
}

/// What the pool looked like when a caller had waited for too long.
///
/// ```
/// # fn example(error: db::Error) {
/// if let db::Error::PoolTimeout(timeout) = error {
///     eprintln!("{:?} in vain, {} of {} in use", timeout.waited, timeout.in_use, timeout.limit);
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct PoolTimeout {
    /// How long the caller waited.
    pub waited: Duration,
    /// The setting: `pool_timeout`, or [`Limits::wait`](crate::Limits::wait) in its place. `None` for no limit.
    pub pool_timeout: Option<Duration>,
    /// Whether the caller's deadline ([`with_deadline`](crate::with_deadline)) ended the wait, not `pool_timeout`.
    pub by_deadline: bool,
    /// The setting: `connection_limit`, or what [`Pool::resize`](crate::Pool::resize) has made of it.
    pub limit: u32,
    /// Connections in use.
    pub in_use: u32,
    /// Connections idle.
    pub idle: u32,
    /// Callers still waiting.
    pub waiting: u32,
    /// Who has held a connection longest: the place in the code or the SQL, and for how long.
    pub longest: Option<(String, Duration)>,
    /// The last failure to open a connection, if the database is out of reach.
    pub connect: Option<Arc<ConnectError>>,
    /// What is the matter and what to do about it, as [`Pool::diagnosis`](crate::Pool::diagnosis) says it.
    pub diagnosis: String,
}

impl fmt::Display for PoolTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pool_timeout = match self.pool_timeout {
            Some(limit) => format!("{limit:?}"),
            None => "none".to_owned(),
        };
        let ended = match self.by_deadline {
            true => "The caller's deadline, not pool_timeout, ended the wait. ",
            false => "",
        };
        write!(
            f,
            "Timed out fetching a new connection from the connection pool \
             (Current connection pool timeout: {pool_timeout}, connection limit: {}). \
             {ended}Waited {:.1?}: {} in use, {} idle, {} waiting. {}",
            self.limit, self.waited, self.in_use, self.idle, self.waiting, self.diagnosis
        )
    }
}
