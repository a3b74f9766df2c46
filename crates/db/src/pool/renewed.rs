//! Texts that were found stale behind a pooler, which keeps what it has prepared under its text: another text stands for each of
//! them from then on.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

/// So many are remembered. One that is forgotten is found stale once more.
const MOST: usize = 1000;

/// Nothing as long as none was found.
#[derive(Debug, Default)]
pub(crate) struct Renewed(OnceLock<Mutex<HashMap<SqlStr, Text>>>);

#[derive(Debug)]
struct Text {
    sql: SqlStr,
    since: Instant,
}

impl Renewed {
    /// What is sent for this text.
    pub(crate) fn text(&self, sql: &SqlStr) -> SqlStr {
        let Some(texts) = self.0.get() else {
            return sql.clone();
        };
        let texts = texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.get(sql).map_or(sql, |text| &text.sql).clone()
    }

    /// What was sent for this text at that time is stale.
    pub(crate) fn renew(&self, sql: &SqlStr, sent: Instant) {
        let texts = self.0.get_or_init(Mutex::default);
        let mut texts = texts.lock().unwrap_or_else(PoisonError::into_inner);
        if texts.get(sql).is_some_and(|text| text.since > sent) {
            return;
        }
        if texts.len() >= MOST {
            texts.clear();
        }
        // By chance, as another process, or this one before, may have had the same text. On a line of its own, as the text may
        // end in a comment.
        let text = format!("{}\n/* {:x} */", sql.as_str(), fastrand::u64(..));
        let text = Text {
            // Nothing else than the service's own text, and a number.
            sql: AssertSqlSafe(text).into_sql_str(),
            since: Instant::now(),
        };
        texts.insert(sql.clone(), text);
    }
}
