//! The functions that ARCHITECTURE.md names, and whether they are there.

use std::fs;
use std::path::{Path, PathBuf};

use super::tokens::{is, tokens};
use crate::output::Result;

const DOCUMENT: &str = "ARCHITECTURE.md";

/// The sections whose lists and tables name a file and functions in it, as in "`pool/acquire.rs` `acquire`".
const SECTIONS: [&str; 3] = [
    "The way of a statement",
    "The way of a setting",
    "The way of a number",
];

/// What a path begins from, if not from the root.
const SHORT_FOR: &str = "crates/db/src";

/// What the document of the tree in `root` names and what is not there, one sentence each.
pub(crate) fn faults(root: &Path) -> Result<Vec<String>> {
    let file = root.join(DOCUMENT);
    let text = fs::read_to_string(&file)
        .map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    let sections = SECTIONS
        .iter()
        .map(|title| check_section(root, &text, title));
    Ok(sections.collect::<Result<Vec<_>>>()?.concat())
}

fn check_section(root: &Path, text: &str, title: &str) -> Result<Vec<String>> {
    let Some(section) = section(text, title) else {
        return Ok(vec![format!("{DOCUMENT} has no section \"{title}\"")]);
    };
    let named: Vec<_> = items(section).iter().flat_map(|item| named(item)).collect();
    if !named.iter().any(|(_, function)| function.is_some()) {
        return Ok(vec![format!("{DOCUMENT} names no function in \"{title}\"")]);
    }
    let mut faults = Vec::new();
    for (file, function) in named {
        faults.extend(fault(root, &file, function.as_deref())?);
    }
    Ok(faults)
}

/// The lines from a heading to the next.
fn section<'a>(text: &'a str, title: &str) -> Option<&'a str> {
    let mut sections = text.split("\n#");
    sections.find(|section| {
        let heading = section.lines().next().unwrap_or_default();
        heading.trim_start_matches('#').trim() == title
    })
}

/// The rows of tables, and the items of numbered lists with the lines that continue them.
fn items(section: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in section.lines() {
        let number = line.trim_start_matches(|first: char| first.is_ascii_digit());
        let is_numbered = number.len() < line.len() && number.starts_with(". ");
        let continues = is_open && line.starts_with(' ');
        is_open = is_numbered || continues;
        match items.last_mut() {
            Some(item) if continues => *item += line,
            _ if is_numbered || line.starts_with('|') => items.push(line.to_owned()),
            _ => {}
        }
    }
    items
}

/// Each file between backticks, and each function after it.
fn named(item: &str) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    let mut file = None;
    for word in item.split('`').skip(1).step_by(2) {
        if word.ends_with(".rs") {
            file = Some(word);
            found.push((word.to_owned(), None));
        } else if let (Some(file), Some(function)) = (file, function(word)) {
            found.push((file.to_owned(), Some(function.to_owned())));
        }
    }
    found
}

/// `acquire` of `acquire`, `acquire()` and `Pool::acquire`; types and whatever else is no name are passed over.
fn function(word: &str) -> Option<&str> {
    let name = word.trim_end_matches("()");
    let name = name.rsplit("::").next().unwrap_or(name);
    let is_name =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    (!name.is_empty() && name.chars().all(is_name)).then_some(name)
}

fn fault(root: &Path, file: &str, function: Option<&str>) -> Result<Option<String>> {
    let Some(path) = find(root, file) else {
        let missing = function.is_none();
        return Ok(missing.then(|| format!("{DOCUMENT} names {file}, which is not there")));
    };
    let Some(function) = function else {
        return Ok(None);
    };
    let tokens = tokens(&fs::read_to_string(path)?);
    let defines = |index| is(&tokens, index, "fn") && is(&tokens, index + 1, function);
    let is_there = (0..tokens.len()).any(defines);
    Ok((!is_there).then(|| format!("{DOCUMENT} names `{function}` in {file}, which is not there")))
}

fn find(root: &Path, file: &str) -> Option<PathBuf> {
    let candidates = [root.join(SHORT_FOR).join(file), root.join(file)];
    candidates.into_iter().find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structure::temporary::Tree;

    const GOOD: &str = "\
# Architecture

## The way of a statement

Prose may say `anything.rs` `at_all`.

1. `pool/acquire.rs` `acquire`: takes `&Pool`, then
   `Slot::wait()` in `pool/gate.rs` `enter`
2. `crates/server/src/lib.rs` `serve`

   A later paragraph.

## The way of a setting

| where | what |
|---|---|
| `pool/gate.rs` | `enter`, `DATABASE_URL` |

### The way of a number

10. `pool/gate.rs` `enter`
";

    fn faults_of(text: &str) -> Vec<String> {
        let tree = Tree::new();
        tree.write(
            "crates/db/src/pool/acquire.rs",
            "pub fn acquire() {}\nfn wait() {}\n",
        );
        tree.write(
            "crates/db/src/pool/gate.rs",
            "// fn gone()\nasync fn enter() {}\n",
        );
        tree.write("crates/server/src/lib.rs", "fn serve() {}\n");
        tree.write(DOCUMENT, text);
        faults(tree.root()).unwrap()
    }

    #[test]
    fn functions_that_are_where_the_document_says_are_no_fault() {
        assert_eq!(faults_of(GOOD), [] as [&str; 0]);
    }

    #[test]
    fn a_file_or_a_function_that_is_gone_is_named() {
        let text = GOOD.replace("Slot::wait()", "Slot::gone()");
        assert_eq!(
            faults_of(&text),
            ["ARCHITECTURE.md names `gone` in pool/acquire.rs, which is not there"]
        );
        let text = GOOD.replace("| `pool/gate.rs` | `enter`", "| `pool/gone.rs` | `enter`");
        assert_eq!(
            faults_of(&text),
            ["ARCHITECTURE.md names pool/gone.rs, which is not there"]
        );
        let text = GOOD.replace("10. `pool/gate.rs` `enter`", "10. `pool/gate.rs` `gone`");
        assert_eq!(
            faults_of(&text),
            ["ARCHITECTURE.md names `gone` in pool/gate.rs, which is not there"]
        );
    }

    #[test]
    fn a_section_that_is_gone_or_names_nothing_is_a_fault() {
        let text = GOOD.replace("The way of a number", "Numbers");
        assert_eq!(
            faults_of(&text),
            ["ARCHITECTURE.md has no section \"The way of a number\""]
        );
        let text = GOOD.replace("| `pool/gate.rs` | `enter`,", "| `pool/gate.rs` |");
        assert_eq!(
            faults_of(&text),
            ["ARCHITECTURE.md names no function in \"The way of a setting\""]
        );
    }
}
