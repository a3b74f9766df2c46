//! Whether running a statement twice is the same as running it once, judged by its text.

use crate::session_effect::{after_comments, is_one_of, words};

/// Whether it only reads, as far as its text can prove: running it again changes nothing. Anything unusual says no.
/// What a view, an operator, a policy or a computed column calls is not in the text.
pub(crate) fn only_reads(sql: &str) -> bool {
    const CHANGES: &[&str] = &["for", "into", "insert", "update", "delete", "merge", "call"];
    let sql = after_comments(sql);
    // What these may hide is not looked into: quoted names, escapes, a second statement, comments, dollar quotes.
    let hides = ["\"", "\\", ";", "--", "/*"]
        .iter()
        .any(|mark| sql.contains(mark));
    let is_parameter = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    if hides || !sql.split('$').skip(1).all(is_parameter) {
        return false;
    }
    let Some(text) = without_strings(sql) else {
        return false;
    };
    // `(…).name` may call a function of that name.
    if text
        .split(')')
        .skip(1)
        .any(|rest| rest.trim_start().starts_with('.'))
    {
        return false;
    }
    let mut words = words(&text);
    let is_select = words
        .next()
        .is_some_and(|word| word.eq_ignore_ascii_case("select"));
    is_select && !words.any(|word| is_one_of(word, CHANGES)) && calls_only_harmless(&text)
}

/// Built-in functions that change nothing, and words that are followed by a parenthesis without being a function.
const READS: &str = "\
    abs all and any array array_agg as avg between bool_and bool_or bigint by case cast ceil char \
    coalesce concat concat_ws count current_setting date_part date_trunc decimal dense_rank distinct \
    else exists extract filter first_value floor format from greatest having ilike in is join json_agg \
    json_build_object jsonb_agg jsonb_build_object lag last_value lead least left length like limit \
    lower ltrim max md5 min mod not now nullif numeric offset on or over partition position power rank \
    replace right round row row_number row_to_json rtrim select some split_part sqrt string_agg substr \
    substring sum then time timestamp timestamptz to_char to_date to_json to_jsonb to_timestamp trim \
    trunc unnest upper using values varchar when where with within";

fn calls_only_harmless(sql: &str) -> bool {
    sql.match_indices('(').all(|(at, _)| {
        let before = sql[..at].trim_end();
        let name = before.rsplit(|c| !is_word(c)).next().unwrap_or_default();
        let rest = before[..before.len() - name.len()].trim_end();
        match rest.strip_suffix('.') {
            None if name.is_empty() => true,
            Some(schema) if words(schema).last() != Some("pg_catalog") => false,
            _ => READS
                .split(' ')
                .any(|known| name.eq_ignore_ascii_case(known)),
        }
    })
}

/// The text with every plain string emptied, or nothing where a string does not end or is of another kind.
fn without_strings(sql: &str) -> Option<String> {
    let mut text = String::with_capacity(sql.len());
    let mut parts = sql.split('\'');
    text.push_str(parts.next()?);
    loop {
        // What an `e` or `u&` before the quote makes of a string is not known here.
        if parts.next().is_none() {
            return Some(text);
        }
        if text.ends_with(['e', 'E', '&']) && !ends_with_longer_word(&text) {
            return None;
        }
        text.push_str("''");
        text.push_str(parts.next()?);
    }
}

/// Whether the letter at the end belongs to a word of several letters.
fn ends_with_longer_word(text: &str) -> bool {
    text.chars().rev().nth(1).is_some_and(is_word)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || !c.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_surely_reads_may_run_again() {
        for sql in [
            "select 1",
            "/* a */ select id, name from customer where id = $1 and name like 'for %'",
            "SELECT count(*), coalesce(max(a), 0) FROM t WHERE (a, b) > ($1, $2) limit $3",
            "select pg_catalog.lower(name) from t where a in (1, 2) and exists (select from b)",
        ] {
            assert!(only_reads(sql), "{sql}");
        }
        for sql in [
            "",
            "insert into t values (1)",
            "with a as (delete from t returning 1) select * from a",
            "select * from t for update",
            "select nextval('s')",
            "select public.lower('a')",
            "select my_pg_catalog.lower('a')",
            "select \"count\"(1)",
            "select counted()",
            "select counted /* */ ()",
            "select counted -- \n ()",
            "select 1; delete from t",
            "select $$a$$",
            "select e'\\'' || counted() || ''",
            "select 1 into t",
            "select 'a",
            "select größe()",
            "table t",
            "select ('s'::regclass) .nextval",
            "-- a\rinsert into t\nselect 1",
        ] {
            assert!(!only_reads(sql), "{sql}");
        }
    }
}
