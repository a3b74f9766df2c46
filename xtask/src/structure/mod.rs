//! `cargo xtask structure`: what imports what, how long files and functions are, and what ARCHITECTURE.md names.

mod circles;
mod document;
mod modules;
mod package;
mod sizes;
mod tokens;

use std::path::Path;

use self::package::Package;
use crate::output::{Result, say};
use crate::workspace;

const HELP: &str = "\
Checks the source of every package of the workspace and prints its figures:
imports between files, and between the folders at the top of a package, make no circle;
a file has 400 lines at most; half of the functions have 9 lines or fewer. Tests are not counted.
The functions that ARCHITECTURE.md names are where it says.

cargo xtask structure";

pub(crate) fn run(options: &[String]) -> Result<()> {
    match options {
        [] => {}
        [option] if option == "--help" => {
            say(HELP);
            return Ok(());
        }
        _ => return Err(format!("`structure` takes no options.\n\n{HELP}").into()),
    }
    // So that the paths printed begin there.
    std::env::set_current_dir(workspace::root())?;
    let (figures, mut faults) = check(Path::new(""))?;
    faults.extend(document::faults(Path::new(""))?);
    figures.iter().for_each(say);
    if faults.is_empty() {
        return Ok(());
    }
    Err(format!("{} faults:\n{}", faults.len(), faults.join("\n")).into())
}

/// The figures of the tree in `root`, and what breaks a rule.
fn check(root: &Path) -> Result<(Vec<String>, Vec<String>)> {
    let packages = Package::all(root)?;
    let figures = packages.iter().map(Package::figures).collect();
    let faults = packages.iter().flat_map(Package::faults).collect();
    Ok((figures, faults))
}

#[cfg(test)]
mod temporary;
#[cfg(test)]
mod tests;
