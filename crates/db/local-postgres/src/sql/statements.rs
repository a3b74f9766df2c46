//! Taking a script of SQL apart: sent as one, its statements would share a transaction.

/// The statements of a script, in order, without those that are nothing but white space.
pub(crate) fn statements(sql: &str) -> Vec<&str> {
    let (mut found, mut start, mut at, mut depth) = (Vec::new(), 0, 0, 0_usize);
    while at < sql.len() {
        let length = token(&sql[at..]);
        match &sql[at..at + length] {
            // Rules have their statements in parentheses.
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            ";" if depth == 0 => {
                found.push(&sql[start..at]);
                start = at + length;
            }
            _ => {}
        }
        at += length;
    }
    found.push(&sql[start..]);
    found.retain(|statement| !statement.trim().is_empty());
    found
}

/// How long the first token is: one in which a semicolon is nothing special, or a single character.
fn token(text: &str) -> usize {
    let Some(first) = text.chars().next() else {
        return 0;
    };
    match first {
        '-' if text.starts_with("--") => text.find('\n').unwrap_or(text.len()),
        '/' if text.starts_with("/*") => comment(text),
        '\'' | '"' => quoted(text, first, false),
        '$' => dollar_quoted(text).unwrap_or(1),
        _ if is_part_of_word(first) => word(text),
        _ => first.len_utf8(),
    }
}

fn is_part_of_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '$') || !character.is_ascii()
}

/// A word, and what it says how to read: in `E'it\'s'` a backslash hides a quote.
fn word(text: &str) -> usize {
    let end = text
        .find(|character| !is_part_of_word(character))
        .unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    if word.eq_ignore_ascii_case("e") && rest.starts_with('\'') {
        return end + quoted(rest, '\'', true);
    }
    end
}

/// To the closing quote; a doubled one begins another piece, which is read next.
fn quoted(text: &str, quote: char, escapes: bool) -> usize {
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        if character == quote {
            return at + 1;
        }
        if escapes && character == '\\' {
            characters.next();
        }
    }
    text.len()
}

/// `$$…$$` or `$tag$…$tag$`.
fn dollar_quoted(text: &str) -> Option<usize> {
    let inside = text[1..].find('$')?;
    let tag = &text[1..=inside];
    if tag.starts_with(|first: char| first.is_ascii_digit()) || !tag.chars().all(is_part_of_word) {
        return None;
    }
    let delimiter = &text[..inside + 2];
    let rest = &text[delimiter.len()..];
    let end = rest
        .find(delimiter)
        .map_or(rest.len(), |at| at + delimiter.len());
    Some(delimiter.len() + end)
}

/// To the end of a comment, which may have others inside.
fn comment(text: &str) -> usize {
    let (mut at, mut depth) = (2, 1);
    while depth > 0 {
        let rest = &text[at..];
        let (open, close) = (rest.find("/*"), rest.find("*/"));
        at += match (open, close) {
            (Some(open), Some(close)) if open < close => {
                depth += 1;
                open + 2
            }
            (_, Some(close)) => {
                depth -= 1;
                close + 2
            }
            (_, None) => return text.len(),
        };
    }
    at
}

#[cfg(test)]
mod tests {
    use super::statements;

    #[test]
    fn a_semicolon_ends_a_statement_only_where_it_is_one() {
        for (script, expected) in [
            ("select 1; select 2;\n", vec!["select 1", " select 2"]),
            ("select 1", vec!["select 1"]),
            (" ;; \n", vec![]),
            ("select 'a;b''c;d'; x", vec!["select 'a;b''c;d'", " x"]),
            (r#"select "a;b"; x"#, vec![r#"select "a;b""#, " x"]),
            (r"select e'it\'s;'; x", vec![r"select e'it\'s;'", " x"]),
            (r"select 'a\'; x", vec![r"select 'a\'", " x"]),
            ("select type'a'; x", vec!["select type'a'", " x"]),
            ("do $$ a; b $$; x", vec!["do $$ a; b $$", " x"]),
            ("do $é1$ a; $$; $é1$; x", vec!["do $é1$ a; $$; $é1$", " x"]),
            ("select $1; select $1", vec!["select $1", " select $1"]),
            ("select a$b; x$c", vec!["select a$b", " x$c"]),
            (
                "select 1 -- it's; so\n; x",
                vec!["select 1 -- it's; so\n", " x"],
            ),
            (
                "select /* a; /* b; */ c; */ 1; x",
                vec!["select /* a; /* b; */ c; */ 1", " x"],
            ),
            (
                "create rule r do (a; b); x",
                vec!["create rule r do (a; b)", " x"],
            ),
            (
                "select 'ü;'; ü; select 'open; x",
                vec!["select 'ü;'", " ü", " select 'open; x"],
            ),
        ] {
            assert_eq!(statements(script), expected, "{script}");
        }
    }
}
