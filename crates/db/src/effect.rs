//! What a statement leaves behind on its session, judged by its text before it is sent.

use crate::statement::Statement;

/// What a statement leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing but rows.
    None,
    /// Something that ends with its transaction.
    Transaction,
    /// Perhaps a setting, a lock, a listener or an open transaction.
    Session,
}

impl Statement {
    /// Judged by its first words. Unprepared SQL may be several statements; then nothing is known about it.
    pub(crate) fn effect(&self) -> Effect {
        const HARMLESS: [&str; 8] = [
            "select", "insert", "update", "delete", "with", "merge", "values", "table",
        ];
        const SCOPED: [&str; 3] = ["savepoint", "release", "lock"];
        let mut words = self
            .start()
            .split(|c: char| !c.is_ascii_alphabetic())
            .filter(|word| !word.is_empty());
        let (first, second) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let is =
            |word: &str, names: &[&str]| names.iter().any(|name| word.eq_ignore_ascii_case(name));
        let scoped = is(first, &SCOPED)
            || (is(first, &["set"]) && is(second, &["local", "transaction", "constraints"]))
            || (is(first, &["rollback"]) && is(second, &["to"]));
        let several = || {
            self.sql
                .as_str()
                .trim_end()
                .trim_end_matches(';')
                .contains(';')
        };
        match self.arguments {
            None if several() => Effect::Session,
            _ if is(first, &HARMLESS) && !self.lasts() => Effect::None,
            _ if scoped => Effect::Transaction,
            _ => Effect::Session,
        }
    }
    /// Where the statement itself begins, after the comments.
    fn start(&self) -> &str {
        let mut sql = self.sql.as_str().trim_start();
        loop {
            let rest = if let Some(line) = sql.strip_prefix("--") {
                line.split_once('\n').map_or("", |(_, rest)| rest)
            } else if let Some(block) = sql.strip_prefix("/*") {
                match block.split_once("*/") {
                    // Comments nest in PostgreSQL; then nothing is known.
                    Some((comment, rest)) if !comment.contains("/*") => rest,
                    _ => "",
                }
            } else {
                return sql;
            };
            sql = rest.trim_start();
        }
    }

    /// Whether it calls something that outlives it, as far as its text tells.
    fn lasts(&self) -> bool {
        let sql = self.sql.as_str();
        let bytes = sql.as_bytes();
        let around = |at: usize, before: &str, after: &str| {
            let starts = bytes.get(at.saturating_sub(before.len())..at);
            let ends = bytes.get(at + 1..at + 1 + after.len());
            starts.is_some_and(|part| part.eq_ignore_ascii_case(before.as_bytes()))
                && ends.is_some_and(|part| part.eq_ignore_ascii_case(after.as_bytes()))
        };
        // By their underscores, which are few: this runs for every statement.
        let calls = |(at, _)| around(at, "set", "config") || around(at, "advisory", "lock");
        let mut words = sql.split_ascii_whitespace();
        sql.match_indices('_').any(calls)
            || words.any(|word| word.eq_ignore_ascii_case("into"))
                && words.next().is_some_and(is_temporary)
    }
}

/// Whether a table after `into` ends with its session.
fn is_temporary(word: &str) -> bool {
    ["temp", "temporary"]
        .iter()
        .any(|temp| word.eq_ignore_ascii_case(temp))
        || word
            .get(..7)
            .is_some_and(|schema| schema.eq_ignore_ascii_case("pg_temp"))
}
