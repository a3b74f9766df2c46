//! Who holds a connection, and how to name them in a log.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::SqlStr;
use tokio::task;

use crate::pool::opened::{Opened, Running};
use crate::work::Work;

/// Where a lease was taken.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// By `acquire` or `begin`, at this place in the code.
    Code(&'static Location<'static>),
    /// By a statement on the pool itself.
    Statement(SqlStr),
}

/// Who asks for a connection.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    pub(crate) origin: Origin,
    /// What it does, if it has said so.
    pub(crate) work: Option<Arc<Work>>,
    /// How long it waits at most: `pool_timeout`, or its own limit.
    pub(crate) pool_timeout: Option<Duration>,
}

/// Who holds a connection.
pub(crate) struct Holder {
    pub(crate) demand: Demand,
    pub(crate) since: Instant,
    /// What it runs or ran last, if it was taken in the code.
    pub(crate) running: Option<Running>,
    /// The task that took it, until that task gives it back.
    pub(crate) task: Option<task::Id>,
    pub(crate) backend: Option<Arc<str>>,
    /// Whether the log has named it as held too long.
    pub(crate) reported: bool,
}

/// Who holds a connection, for how long and for what. Statements are without their arguments.
///
/// ```
/// # fn example(pool: &db::Pool) {
/// if let Some(longest) = pool.holders().first() {
///     println!("{longest} has had one for {:?}", longest.held);
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// The name of the [`Work`], such as the route.
    pub work: Option<String>,
    /// The place in the code that took it by `acquire` or `begin`.
    pub place: Option<String>,
    /// What runs on it, or ran last.
    pub statement: Option<String>,
    /// For how long.
    pub held: Duration,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            work,
            place,
            statement,
            ..
        } = self;
        let who = match (work, place) {
            (Some(work), Some(place)) => format!("{work} at {place}"),
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (None, None) => String::new(),
        };
        match statement {
            Some(statement) if who.is_empty() => write!(f, "`{statement}`"),
            Some(statement) => write!(f, "{who}, running `{statement}`"),
            None => f.write_str(&who),
        }
    }
}

impl Holder {
    pub(crate) fn held(&self) -> Held {
        let (place, sql) = match &self.demand.origin {
            Origin::Code(place) => {
                let running = self.running.as_ref();
                let sql = running.and_then(|running| running.text().clone());
                (Some(place.to_string()), sql)
            }
            Origin::Statement(sql) => (None, Some(sql.clone())),
        };
        let work = self.demand.work.as_ref();
        Held {
            work: work.and_then(|work| work.named()).map(str::to_owned),
            place,
            statement: sql.map(|sql| on_one_line(sql.as_str())),
            held: self.since.elapsed(),
        }
    }

    pub(crate) fn describe(&self) -> String {
        self.held().to_string()
    }
}

/// SQL on one line, short enough for a log.
pub(crate) fn on_one_line(sql: &str) -> String {
    let mut line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(200) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// A connection that was taken for a caller.
pub(crate) struct Taken {
    pub(crate) connection: Opened,
    /// Where the state keeps its holder.
    pub(crate) holder: usize,
    /// The caller's task holds another one.
    pub(crate) nested: Option<Nested>,
}

/// A task that holds a connection asks for another.
pub(crate) struct Nested {
    /// What it holds, if that is worth a line in the log, which is so once a second.
    pub(crate) held: Option<String>,
}
