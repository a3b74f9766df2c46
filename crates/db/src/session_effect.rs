//! What a statement may leave behind on its session, judged by its text before it is sent.

use std::cell::RefCell;

use sqlx::SqlStr;

/// What a statement leaves behind on its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionEffect {
    /// Nothing.
    None,
    /// Something that ends with its transaction.
    Transaction,
    /// Perhaps a setting, a lock, a listener or an open transaction.
    Session,
}

/// Statements that leave nothing on the session, unless they make a temporary table or call one of [`LASTING`].
const HARMLESS: &[&str] = &[
    "select",
    "insert",
    "update",
    "delete",
    "with",
    "merge",
    "values",
    "table",
    "truncate",
    "show",
    "explain",
    "notify",
    "create",
    "alter",
    "drop",
    "comment",
    "grant",
    "revoke",
    "analyze",
    "vacuum",
    "refresh",
    "reindex",
    "cluster",
    "checkpoint",
];
/// Statements whose effect ends with the transaction, alone or with the given second word.
const SCOPED: &[(&str, &[&str])] = &[
    ("savepoint", &[]),
    ("release", &[]),
    ("lock", &[]),
    ("set", &["local", "transaction", "constraints"]),
    ("rollback", &["to"]),
];
/// Functions whose effect stays with the session.
const LASTING: &[&str] = &[
    "set_config",
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
    // An update of this view is a SET.
    "pg_settings",
];
/// What comes before `temp` where it makes a table that ends with the session.
const MAKES: &[&str] = &["into", "create", "replace", "local", "global"];

/// Longer texts are rarely run twice, and are not kept.
const KEPT_LENGTH: usize = 4096;

/// A text that was judged, whether it may be several statements, and the judgement.
type Judged = Option<(SqlStr, bool, SessionEffect)>;

thread_local! {
    /// Each at the place that its address gives. Those of a service are few, and the same ever after.
    static JUDGED: RefCell<[Judged; 64]> = const { RefCell::new([const { None }; 64]) };
}

impl SessionEffect {
    /// [`SessionEffect::of`], which is found out once for a text that stays where it is.
    pub(crate) fn of_text(sql: &SqlStr, several_possible: bool) -> Self {
        let text = sql.as_str();
        let place = (text.as_ptr() as usize >> 4) % 64;
        JUDGED.with_borrow_mut(|judged| {
            // While a text is kept, no other can be at its address.
            if let Some((kept, several, effect)) = &judged[place]
                && std::ptr::eq(kept.as_str(), text)
                && *several == several_possible
            {
                return *effect;
            }
            let effect = Self::of(text, several_possible);
            if text.len() <= KEPT_LENGTH {
                judged[place] = Some((sql.clone(), several_possible, effect));
            }
            effect
        })
    }

    /// Judged by its words. Without arguments it may be several statements; then nothing is known about it.
    pub(crate) fn of(sql: &str, several_possible: bool) -> Self {
        let mut sql = sql.trim_start();
        if sql.starts_with(['-', '/']) {
            sql = after_comments(sql);
        }
        if several_possible && sql.trim_end().trim_end_matches(';').contains(';') {
            return Self::Session;
        }
        let mut words = words(sql);
        let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if is_one_of(first, HARMLESS) {
            return match is_lasting(sql) {
                true => Self::Session,
                false => Self::None,
            };
        }
        let rest = sql.get(first.len()..).unwrap_or_default().trim_start();
        let ends = rest
            .get(second.len()..)
            .unwrap_or_default()
            .starts_with(char::is_whitespace);
        let scoped = SCOPED.iter().any(|(word, then)| {
            first.eq_ignore_ascii_case(word) && (then.is_empty() || ends && is_one_of(second, then))
        });
        match scoped && !has_comment(sql) {
            true => Self::Transaction,
            false => Self::Session,
        }
    }
}

/// Whether it calls a function, or makes a table, that stays with the session.
fn is_lasting(sql: &str) -> bool {
    let mut before = "";
    words(sql).any(|word| {
        let temporary = match word.len() {
            4 => word.eq_ignore_ascii_case("temp"),
            7 if word.eq_ignore_ascii_case("pg_temp") => return true,
            9 => word.eq_ignore_ascii_case("temporary"),
            10.. => return is_one_of(word, LASTING),
            _ => false,
        };
        let makes = temporary && (is_one_of(before, MAKES) || has_comment(sql));
        before = word;
        makes
    })
}

/// Whether words of a comment may be taken for words of the statement.
fn has_comment(sql: &str) -> bool {
    sql.contains("--") || sql.contains("/*")
}

/// Whether it begins or ends a transaction.
pub(crate) fn controls_transaction(sql: &str) -> bool {
    const ALWAYS: &[&str] = &["begin", "start", "commit", "end", "abort", "rollback"];
    let sql = after_comments(sql);
    let mut words = words(sql);
    let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    match is_one_of(first, ALWAYS) {
        true => SessionEffect::of(sql, true) != SessionEffect::Transaction,
        false => {
            first.eq_ignore_ascii_case("prepare") && second.eq_ignore_ascii_case("transaction")
        }
    }
}

/// Its words in order.
pub(crate) fn words(sql: &str) -> impl Iterator<Item = &str> {
    // What is not ASCII belongs to a word: this runs for every statement, and need not know more.
    let between = |c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_';
    sql.split(between).filter(|word| !word.is_empty())
}

pub(crate) fn is_one_of(word: &str, names: &[&str]) -> bool {
    names.iter().any(|name| word.eq_ignore_ascii_case(name))
}

/// Where the statement itself begins.
pub(crate) fn after_comments(sql: &str) -> &str {
    let mut sql = sql.trim_start();
    loop {
        let rest = if let Some(line) = sql.strip_prefix("--") {
            line.split_once(['\n', '\r']).map_or("", |(_, rest)| rest)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_outlives_a_statement_is_seen_in_its_text() {
        for sql in [
            "select set_config('a.b', '1', false)",
            "select PG_CATALOG.Set_Config('a.b', '1', false)",
            "select pg_advisory_lock(1)",
            "select pg_try_advisory_lock_shared(1)",
            "select 1 as x into temp t",
            "select 1 as x INTO\n\tTEMPORARY t",
            "select 1 as x into pg_temp.t",
            "with a as (insert into b values (1)) select 1 as x into temp t",
            "create temp table t ()",
            "create or replace temporary view v as select 1",
            "create local temp table t ()",
            "create table pg_temp.t ()",
            "explain analyze create temp table t as select 1",
            "create /* scratch */ temp table t ()",
            "set /* local */ a.b = 1",
            "set local.x = 1",
            "rollback -- to be safe",
            "update pg_settings set setting = '1' where name = 'a.b'",
            "-- a\rset a.b = 1\n",
            "listen a",
            "set a.b = 1",
            "begin",
            "do $$ begin end $$",
            "",
        ] {
            assert_eq!(
                SessionEffect::of(sql, false),
                SessionEffect::Session,
                "{sql}"
            );
        }
    }

    #[test]
    fn what_leaves_nothing_or_ends_with_its_transaction_is_seen_in_its_text() {
        for sql in [
            "select config, lock, temp from settings_config",
            "select pg_advisory_xact_lock(1)",
            "insert into temperature values (1)",
            "insert into temporary_note select temp from pg_temper",
            "select 1 as p_",
            "select _",
            "table temp",
            "truncate t",
            "/* why */ create table t ()",
            "refresh materialized view v",
        ] {
            assert_eq!(SessionEffect::of(sql, false), SessionEffect::None, "{sql}");
        }
        for sql in ["set local a.b = 1", "rollback to a", "SAVEPOINT a"] {
            assert_eq!(
                SessionEffect::of(sql, false),
                SessionEffect::Transaction,
                "{sql}"
            );
        }
        assert_eq!(
            SessionEffect::of("select 1; set a = 1", true),
            SessionEffect::Session
        );
        assert_eq!(SessionEffect::of("select 1;", true), SessionEffect::None);
    }
}
