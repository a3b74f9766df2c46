//! What two commands write into docs/performance.md, and the commit that they measured.

use std::fs;
use std::process::Command;

use crate::output::Result;
use crate::workspace;

const DOCUMENT: &str = "docs/performance.md";

const README: &str = "README.md";
/// What stands before the ratio of a row and that of a list in the README, and behind both.
const RATIOS: [&str; 2] = ["A row by its key takes ", "list of twenty takes "];
const UNIT: &str = " of its CPU";

/// How the line of a table begins whose last column is in the README.
const RATIO: &str = "| ours / plain sqlx |";

/// What the commands write themselves: it makes no program another one.
const OURS: [&str; 3] = [":!docs/performance.md", ":!README.md", ":!xtask/cost"];

/// The commit that is checked out, and whether anything differs from it.
pub(crate) fn commit() -> Result<String> {
    let mut commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changes = [&["status", "--porcelain", "--", "."][..], &OURS].concat();
    if !git(&changes)?.is_empty() {
        commit += " with changes";
    }
    Ok(commit)
}

fn git(arguments: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(workspace::root())
        .output()?;
    if !output.status.success() {
        return Err(format!("git: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Writes what a command has printed in the place of what it printed before.
pub(crate) fn write(command: &str, printed: &str) -> Result<()> {
    let path = workspace::root().join(DOCUMENT);
    let text = fs::read_to_string(&path)?;
    let written = replaced(&text, command, printed);
    let written = written.ok_or_else(|| {
        format!("{DOCUMENT} has no place for what `cargo xtask {command}` printed")
    })?;
    Ok(fs::write(path, written)?)
}

/// Writes the tables of `cargo xtask compare`, and the ratios in the README.
pub(crate) fn write_compared(printed: &str) -> Result<()> {
    let path = workspace::root().join(README);
    let readme = with_ratios(&fs::read_to_string(&path)?, printed);
    let readme =
        readme.ok_or_else(|| format!("{README} has no place for the ratios to plain sqlx"))?;
    write("compare", printed)?;
    Ok(fs::write(path, readme)?)
}

/// The last columns of the lines with our ratio, a row's and a list's, in the README's sentence.
fn with_ratios(readme: &str, printed: &str) -> Option<String> {
    let lines = printed.lines().filter(|line| line.starts_with(RATIO));
    let ratios: Vec<_> = lines
        .filter_map(|line| line.split('|').rev().nth(1))
        .collect();
    let mut readme = readme.to_owned();
    for (start, ratio) in RATIOS.iter().zip(<[&str; 2]>::try_from(ratios).ok()?) {
        let (before, rest) = readme.split_once(start)?;
        let (_, after) = rest.split_once(UNIT)?;
        readme = format!("{before}{start}{}{UNIT}{after}", ratio.trim());
    }
    Some(readme)
}

fn replaced(text: &str, command: &str, printed: &str) -> Option<String> {
    let [begin, end] = ["From here on:", "The end of"]
        .map(|mark| format!("<!-- {mark} what `cargo xtask {command}` printed. -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n\n{printed}\n\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_command_printed_is_replaced() {
        let text = "a\n<!-- From here on: what `cargo xtask cost` printed. -->\nold\n\
                    <!-- The end of what `cargo xtask cost` printed. -->\nb\n";
        let written = replaced(text, "cost", "new").unwrap();
        assert_eq!(written, text.replace("old", "\nnew\n"));
        assert_eq!(replaced(&written, "cost", "new"), Some(written));
        assert_eq!(replaced(text, "compare", "new"), None);
    }

    #[test]
    fn the_readme_has_the_last_columns() {
        let readme =
            "A row by its key takes 0.9 of its CPU, and a\nlist of twenty takes 0.9 of its CPU; so";
        let printed = "| ours / plain sqlx | 1.53 | 0.64 |\n| ours / deadpool | 1 | 2 |\n| ours / plain sqlx | 1 | 0.76 |";
        let written = "A row by its key takes 0.64 of its CPU, and a\nlist of twenty takes 0.76 of its CPU; so";
        assert_eq!(with_ratios(readme, printed).as_deref(), Some(written));
        assert_eq!(with_ratios("", printed), None);
    }
}
