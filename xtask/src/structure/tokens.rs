//! A source file as words and signs, without comments, literals and what is compiled for tests only.

use std::iter::Peekable;
use std::str::Chars;

/// A word or a sign. `::` is one sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// The tokens of a file, but for the items under `#[cfg(test)]` and `#[test]`.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let mut reader = Reader {
        rest: source.chars().peekable(),
        line: 1,
        found: Vec::new(),
    };
    while reader.read_one() {}
    without_tests(reader.found)
}

/// The index of the bracket that closes the one at `open`, or the last index.
pub(crate) fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len().saturating_sub(1)
}

/// Whether the token at `index` is this text.
pub(crate) fn is(tokens: &[Token], index: usize, text: &str) -> bool {
    tokens.get(index).is_some_and(|token| token.text == text)
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
    found: Vec<Token>,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let character = self.rest.next()?;
        self.line += usize::from(character == '\n');
        Some(character)
    }

    fn next_is(&mut self, wanted: char) -> bool {
        self.rest.peek() == Some(&wanted)
    }

    fn push(&mut self, text: impl Into<String>) {
        self.found.push(Token {
            text: text.into(),
            line: self.line,
        });
    }

    /// Reads a token or what is left out; false at the end.
    fn read_one(&mut self) -> bool {
        let Some(first) = self.next() else {
            return false;
        };
        match first {
            '/' if self.next_is('/') => self.skip_line(),
            '/' if self.next_is('*') => self.skip_comment(),
            '"' => self.skip_string(),
            '\'' => self.skip_character(),
            ':' if self.next_is(':') => {
                self.next();
                self.push("::");
            }
            _ if first.is_whitespace() => {}
            _ if is_word(first) => self.read_word(first),
            _ => self.push(first),
        }
        true
    }

    fn read_word(&mut self, first: char) {
        let mut word = String::from(first);
        while let Some(character) = self.rest.next_if(|character| is_word(*character)) {
            word.push(character);
        }
        let raw = matches!(word.as_str(), "r" | "br" | "cr");
        match self.rest.peek() {
            Some('"') if raw => self.skip_raw_string(),
            Some('#') if raw => self.skip_raw_string(),
            // A byte string: its quotes come next.
            Some('"' | '\'') if matches!(word.as_str(), "b" | "c") => {}
            _ => self.push(word),
        }
    }

    fn skip_line(&mut self) {
        while self.next().is_some_and(|character| character != '\n') {}
    }

    fn skip_comment(&mut self) {
        let (mut depth, mut before) = (1, ' ');
        self.next();
        while let (true, Some(character)) = (depth > 0, self.next()) {
            before = match (before, character) {
                ('*', '/') => {
                    depth -= 1;
                    ' '
                }
                ('/', '*') => {
                    depth += 1;
                    ' '
                }
                _ => character,
            };
        }
    }

    fn skip_string(&mut self) {
        while let Some(character) = self.next() {
            match character {
                '\\' => drop(self.next()),
                '"' => return,
                _ => {}
            }
        }
    }

    /// After `r`: the string ends with a quote and as many `#` as there were before it. `r#word` is a word.
    fn skip_raw_string(&mut self) {
        let mut hashes = 0;
        while self.rest.next_if_eq(&'#').is_some() {
            hashes += 1;
        }
        if !self.next_is('"') {
            return;
        }
        self.next();
        let mut left = None;
        while left != Some(0) {
            left = match (self.next(), left) {
                (None, _) => return,
                (Some('"'), _) => Some(hashes),
                (Some('#'), Some(left)) => Some(left - 1),
                _ => None,
            };
        }
    }

    /// After a `'`: a character, or the name of a lifetime.
    fn skip_character(&mut self) {
        match self.next() {
            Some('\\') => {
                self.next();
                while self.next().is_some_and(|character| character != '\'') {}
            }
            Some(_) if self.next_is('\'') => drop(self.next()),
            _ => while self.rest.next_if(|character| is_word(*character)).is_some() {},
        }
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        if is_attribute(&tokens, index) && is_for_tests(&tokens, index) {
            index = end_of_item(&tokens, index) + 1;
        } else {
            kept.push(tokens[index].clone());
            index += 1;
        }
    }
    kept
}

fn is_attribute(tokens: &[Token], index: usize) -> bool {
    is(tokens, index, "#") && is(tokens, index + 1, "[")
}

fn is_for_tests(tokens: &[Token], index: usize) -> bool {
    let inside = &tokens[index + 2..closing(tokens, index + 1)];
    let has = |text| inside.iter().any(|token| token.text == text);
    let first = inside.first().map(|token| token.text.as_str());
    first == Some("test") || first == Some("cfg") && has("test") && !has("not")
}

/// The index of the last token of the item whose first attribute is at `index`.
fn end_of_item(tokens: &[Token], mut index: usize) -> usize {
    while is_attribute(tokens, index) {
        index = closing(tokens, index + 1) + 1;
    }
    while index < tokens.len() && !is(tokens, index, ";") {
        let end = closing(tokens, index);
        if is(tokens, index, "{") {
            return end;
        }
        index = end + 1;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_literals_and_tests_are_left_out() {
        let source = r####"
//! crate::in_doc
use a::b; // crate::in_comment
/* crate::outer /* nested */ crate::still */
fn f<'a>(x: &'a str) -> char {
    let _ = ("crate::in_string \" }", r#"crate::raw "quoted" }"#, b"x", 'x', '\'', '}');
    c
}
#[cfg(test)]
#[path = "x.rs"]
mod tests;
#[cfg(test)]
mod more {
    use crate::hidden;
}
#[test]
fn g() {}
last
"####;
        let words: Vec<_> = tokens(source)
            .into_iter()
            .map(|token| token.text)
            .filter(|text| text.starts_with(|first: char| first.is_alphabetic()))
            .collect();
        let expected = "use a b fn f x str char let _ c last".split(' ');
        assert_eq!(
            words,
            expected.filter(|word| *word != "_").collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_token_has_its_line() {
        let found = tokens("// one\n\"two\nthree\" four\n");
        assert_eq!(found[0].line, 3);
    }
}
