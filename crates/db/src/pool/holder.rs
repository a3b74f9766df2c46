//! Who holds a connection, and how to name them in a log.

use std::panic::Location;
use std::sync::Arc;
use std::time::Instant;

use sqlx::SqlStr;
use tokio::task;

/// Where a lease was taken.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// By `acquire` or `begin`, at this place in the code.
    Code(&'static Location<'static>),
    /// By a statement on the pool itself.
    Statement(SqlStr),
}

/// Who holds a connection.
pub(crate) struct Holder {
    pub(crate) origin: Origin,
    pub(crate) since: Instant,
    /// What it runs or ran last.
    pub(crate) sql: Option<SqlStr>,
    /// The task that took it, until that task gives it back.
    pub(crate) task: Option<task::Id>,
    pub(crate) backend: Option<Arc<str>>,
    /// Whether the log has named it as held too long.
    pub(crate) reported: bool,
}

impl Holder {
    pub(crate) fn describe(&self) -> String {
        match (&self.origin, &self.sql) {
            (Origin::Code(place), Some(sql)) => {
                format!("{place}, running `{}`", on_one_line(sql.as_str()))
            }
            (Origin::Code(place), None) => place.to_string(),
            (Origin::Statement(sql), _) => format!("`{}`", on_one_line(sql.as_str())),
        }
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
