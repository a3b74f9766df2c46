//! How long files and functions are.

use std::fs;
use std::path::{Path, PathBuf};

use super::tokens::{Token, closing, is, tokens};
use crate::output::Result;

/// A function with the lines of its body, as clippy's `too_many_lines` counts them: without blank ones and comments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    pub(crate) lines: usize,
}

pub(crate) fn lines(file: &Path) -> Result<usize> {
    Ok(fs::read_to_string(file)?.lines().count())
}

/// The functions of a file, but for tests.
pub(crate) fn functions(file: &Path) -> Result<Vec<Function>> {
    let source = fs::read_to_string(file)?;
    let lines: Vec<_> = source.lines().collect();
    let tokens = tokens(&source);
    let starts = (0..tokens.len()).filter(|index| is(&tokens, *index, "fn"));
    let found = starts.filter_map(|start| {
        let (open, close) = body(&tokens, start)?;
        let inside = lines.get(open.line..close.line - 1).unwrap_or_default();
        Some(Function {
            name: tokens[start + 1].text.clone(),
            file: file.to_owned(),
            lines: inside.iter().filter(|line| is_code(line)).count().max(1),
        })
    });
    Ok(found.collect())
}

/// Of an even number the upper of the two in the middle.
pub(crate) fn median(functions: &[Function]) -> usize {
    let mut lengths: Vec<_> = functions.iter().map(|function| function.lines).collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied().unwrap_or_default()
}

fn is_code(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with("//")
}

/// The brackets of a function's body; `None` for a type such as `fn(u8)` and for a function without a body.
fn body(tokens: &[Token], start: usize) -> Option<(&Token, &Token)> {
    let mut index = start + 1;
    if is(tokens, index, "(") {
        return None;
    }
    while index < tokens.len() && !is(tokens, index, ";") {
        let end = closing(tokens, index);
        if is(tokens, index, "{") {
            return Some((&tokens[index], &tokens[end]));
        }
        index = end + 1;
    }
    None
}
