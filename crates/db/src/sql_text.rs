//! The text of a statement as it may leave the process: without the values that stand in it.

use std::iter::Peekable;
use std::str::Chars;

use crate::session_effect::{after_comments, words};

/// Longer texts are cut. In bytes.
const LONGEST: usize = 2000;

/// The text on one line, with `?` in the place of each string and number, and without comments. Parameters (`$1`) and names
/// stay.
pub(crate) fn without_values(sql: &str) -> String {
    let mut text = Text {
        rest: sql.chars().peekable(),
        out: String::with_capacity(sql.len().min(LONGEST)),
    };
    while text.out.len() < LONGEST && text.token().is_some() {}
    let whole = text.rest.peek().is_none();
    let mut out = text.out;
    out.truncate(out.trim_end().len());
    if !whole {
        out.push('…');
    }
    out
}

/// What the statement does: its first word in capitals, such as `SELECT`.
pub(crate) fn operation(sql: &str) -> String {
    let first = words(after_comments(sql)).next();
    first.map_or_else(|| "SQL".to_owned(), str::to_ascii_uppercase)
}

struct Text<'s> {
    rest: Peekable<Chars<'s>>,
    out: String,
}

impl Text<'_> {
    /// Takes one token. `None` at the end, and where it cannot be told any more what is a value.
    fn token(&mut self) -> Option<()> {
        match self.rest.next()? {
            c if c.is_whitespace() => self.space(),
            '-' if self.rest.next_if_eq(&'-').is_some() => {
                while self.rest.next_if(|c| !matches!(c, '\n' | '\r')).is_some() {}
                self.space();
            }
            '/' if self.rest.next_if_eq(&'*').is_some() => self.comment()?,
            '\'' => self.string(false)?,
            '"' => self.name()?,
            '$' => self.dollar()?,
            c if c.is_ascii_digit() => self.number(),
            '.' if self.rest.peek().is_some_and(char::is_ascii_digit) => self.number(),
            c if is_word(c) => self.word(c)?,
            c => self.out.push(c),
        }
        Some(())
    }

    fn space(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with(' ') {
            self.out.push(' ');
        }
    }

    /// Comments nest in PostgreSQL.
    fn comment(&mut self) -> Option<()> {
        let mut depth = 1;
        while depth > 0 {
            match self.rest.next()? {
                '*' if self.rest.next_if_eq(&'/').is_some() => depth -= 1,
                '/' if self.rest.next_if_eq(&'*').is_some() => depth += 1,
                _ => {}
            }
        }
        self.space();
        Some(())
    }

    /// A string after its first quote. Where a backslash means nothing by the standard, an old setting
    /// (`standard_conforming_strings`) gives it a meaning: then nobody knows where the string ends.
    fn string(&mut self, escapes: bool) -> Option<()> {
        self.out.push('?');
        loop {
            match self.rest.next()? {
                '\'' if self.rest.next_if_eq(&'\'').is_none() => return Some(()),
                '\\' if escapes => drop(self.rest.next()?),
                '\\' => return None,
                _ => {}
            }
        }
    }

    /// A quoted name, after its first quote. One that does not end is not shown: what comes in it may be anything.
    fn name(&mut self) -> Option<()> {
        let mut name = String::from("\"");
        loop {
            let c = self.rest.next()?;
            name.push(c);
            if c == '"' {
                self.out.push_str(&name);
                return Some(());
            }
        }
    }

    /// `$1`, or a string between two `$tag$`.
    fn dollar(&mut self) -> Option<()> {
        if self.rest.peek().is_some_and(char::is_ascii_digit) {
            self.out.push('$');
            while let Some(digit) = self.rest.next_if(char::is_ascii_digit) {
                self.out.push(digit);
            }
            return Some(());
        }
        let mut end = String::from("$");
        while let Some(c) = self.rest.next_if(|&c| is_word(c) && c != '$') {
            end.push(c);
        }
        self.rest.next_if_eq(&'$')?;
        end.push('$');
        self.out.push('?');
        let mut seen = String::new();
        while !seen.ends_with(&end) {
            seen.push(self.rest.next()?);
        }
        Some(())
    }

    /// A number after its first digit or its point: `12`, `1.5`, `1e-3`, `0xff`, `1_000`.
    fn number(&mut self) {
        self.out.push('?');
        while let Some(c) = self
            .rest
            .next_if(|&c| c.is_ascii_alphanumeric() || "._".contains(c))
        {
            if matches!(c, 'e' | 'E') {
                self.rest.next_if(|c| "+-".contains(*c));
            }
        }
    }

    /// A word; or one of the letters that say of what kind the string is that follows.
    fn word(&mut self, first: char) -> Option<()> {
        let begin = self.out.len();
        self.out.push(first);
        while let Some(c) = self.rest.next_if(|&c| is_word(c)) {
            self.out.push(c);
        }
        if self.rest.peek() != Some(&'\'') {
            return Some(());
        }
        let prefix = self.out[begin..].to_ascii_lowercase();
        self.rest.next();
        self.string(prefix == "e")
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_left_in_the_text() {
        for (sql, shown) in [
            (
                "select *\n  from t\n where id = $1",
                "select * from t where id = $1",
            ),
            (
                "select 'Ada' -- 'Eve'\n, 12, x1 from t2",
                "select ? , ?, x1 from t2",
            ),
            (
                "select 'it''s', E'it\\'s' || u&'d' from t",
                "select ?, E? || u&? from t",
            ),
            ("select $$a$b$$, $x$ $y$ $x$, $12", "select ?, ?, $12"),
            ("/* a /* b */ c */ select 1.5e-3+.5, 0xff", "select ?+?, ?"),
            (
                "select \"a'b\" from \"t\"\"1\"",
                "select \"a'b\" from \"t\"\"1\"",
            ),
            ("select a$b, b.\"c\", 'open", "select a$b, b.\"c\", ?"),
            ("select \"open, 'secret'", "select"),
            ("select 'old\\' , 'secret'", "select ?…"),
            ("insert into t values (-1,2)", "insert into t values (-?,?)"),
            (
                "select größe where a=5and b='x'",
                "select größe where a=? b=?",
            ),
            ("", ""),
        ] {
            assert_eq!(without_values(sql), shown, "{sql}");
        }
        let long = without_values(&"select a, ".repeat(1000));
        assert!(long.len() < 2100 && long.ends_with('…'), "{long}");
    }

    #[test]
    fn an_operation_is_the_first_word() {
        for (sql, name) in [
            ("-- all\nselect 1", "SELECT"),
            ("insert into t", "INSERT"),
            ("", "SQL"),
        ] {
            assert_eq!(operation(sql), name);
        }
    }
}
