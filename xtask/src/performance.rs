//! What two commands write into docs/performance.md, and the commit that they measured.

use std::fs;
use std::process::Command;

use crate::output::Result;
use crate::workspace;

const DOCUMENT: &str = "docs/performance.md";

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
}
