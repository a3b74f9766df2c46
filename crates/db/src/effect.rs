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
        let (first, rest) = first_word(self.start());
        let is =
            |word: &str, names: &[&str]| names.iter().any(|name| word.eq_ignore_ascii_case(name));
        let scoped = || {
            let second = first_word(rest).0;
            is(first, &SCOPED)
                || (is(first, &["set"]) && is(second, &["local", "transaction", "constraints"]))
                || (is(first, &["rollback"]) && is(second, &["to"]))
        };
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
            _ if scoped() => Effect::Transaction,
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
        let sql = self.sql.as_str().as_bytes();
        let ends = |end: usize, word: &[u8]| ends_with(&sql[..end.min(sql.len())], word);
        // By their rarest letters, in one pass: this runs for every statement.
        sql.iter().enumerate().any(|(at, letter)| match letter {
            b'_' => {
                (ends(at, b"set") && ends(at + 7, b"config"))
                    || (ends(at, b"advisory") && ends(at + 5, b"lock"))
            }
            b'p' | b'P' => ends(at, b"tem") && is_temporary(&sql[..at - 3], &sql[at + 1..]),
            _ => false,
        })
    }
}

/// The first word and what follows it.
fn first_word(sql: &str) -> (&str, &str) {
    let letter = |c: &u8| c.is_ascii_alphabetic();
    let start = sql.bytes().position(|c| letter(&c)).unwrap_or(sql.len());
    let length = sql[start..].bytes().take_while(letter).count();
    sql[start..].split_at(length)
}

fn ends_with(sql: &[u8], word: &[u8]) -> bool {
    let end = sql.len().checked_sub(word.len());
    end.is_some_and(|start| sql[start..].eq_ignore_ascii_case(word))
}

/// Whether a `temp` that stands between these makes a table that ends with its session: `into temp`, `into temporary`
/// or `into pg_temp.…`.
fn is_temporary(before: &[u8], after: &[u8]) -> bool {
    let schema = ends_with(before, b"pg_");
    let before = &before[..before.len() - if schema { 3 } else { 0 }];
    let rest = match after.get(..5) {
        Some(rest) if rest.eq_ignore_ascii_case(b"orary") => &after[5..],
        _ => after,
    };
    let is_space = |letter: Option<&u8>| letter.is_some_and(u8::is_ascii_whitespace);
    (schema || is_space(rest.first()))
        && is_space(before.last())
        && ends_with(before.trim_ascii_end(), b"into")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_outlives_a_statement_is_seen_in_its_text() {
        let effect = |sql: &'static str| Statement::new(sqlx::query(sql)).map(|s| s.effect());
        for sql in [
            "select set_config('a.b', '1', false)",
            "select PG_CATALOG.Set_Config('a.b', '1', false)",
            "select pg_advisory_lock(1)",
            "select pg_try_advisory_lock_shared(1)",
            "select 1 as x into temp t",
            "select 1 as x INTO\n\tTEMPORARY t",
            "select 1 as x into pg_temp.t",
            "with a as (insert into b values (1)) select 1 as x into temp t",
        ] {
            assert_eq!(effect(sql).unwrap(), Effect::Session, "{sql}");
        }
        for sql in [
            "select config, lock, temp from settings_config",
            "select pg_advisory_xact_lock(1)",
            "insert into temperature values (1)",
            "insert into temporary_note select temp from pg_temper",
            "select 1 as p_",
            "select _",
            "table temp",
        ] {
            assert_eq!(effect(sql).unwrap(), Effect::None, "{sql}");
        }
    }
}
