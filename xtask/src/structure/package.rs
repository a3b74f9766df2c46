//! The packages of a tree and what is measured in each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::circles::Imports;
use super::modules::{Import, Modules};
use super::sizes::{Function, functions, lines, median};
use crate::output::Result;
use crate::workspace::find_files;

const LONGEST_FILE: usize = 400;
const LARGEST_MEDIAN: usize = 9;
/// Of fewer functions the median says little: a service has a few handlers, each with its SQL.
const FEWEST_FOR_MEDIAN: usize = 20;

/// A package: its folder, its modules' files and what they import.
pub(crate) struct Package {
    folder: PathBuf,
    files: Vec<(PathBuf, usize)>,
    functions: Vec<Function>,
    imports: BTreeSet<Import>,
}

impl Package {
    /// All packages in `root` with a library or a program.
    pub(crate) fn all(root: &Path) -> Result<Vec<Self>> {
        let mut sources = Vec::new();
        find_files(root, "rs", &mut sources)?;
        let mut manifests = Vec::new();
        find_files(root, "toml", &mut manifests)?;
        let mut folders: Vec<_> = manifests
            .iter()
            .filter(|manifest| manifest.ends_with("Cargo.toml"))
            .filter_map(|manifest| Some(manifest.parent()?.to_owned()))
            .filter(|folder| !first_files(folder).is_empty())
            .collect();
        folders.sort();
        let packages = folders
            .iter()
            .map(|folder| Self::read(folder, &folders, &sources));
        packages.collect()
    }

    fn read(folder: &Path, folders: &[PathBuf], sources: &[PathBuf]) -> Result<Self> {
        // A package may lie within another.
        let is_ours = |file: &&PathBuf| {
            let owner = folders
                .iter()
                .filter(|folder| file.starts_with(folder))
                .max();
            owner.is_some_and(|owner| owner == folder) && !file.starts_with(folder.join("tests"))
        };
        let files = sources
            .iter()
            .filter(is_ours)
            .map(|file| Ok((file.clone(), lines(file)?)));
        let mut package = Self {
            folder: folder.to_owned(),
            files: files.collect::<Result<_>>()?,
            functions: Vec::new(),
            imports: BTreeSet::new(),
        };
        for first_file in first_files(folder) {
            let modules = Modules::read(&first_file)?;
            for file in modules.files() {
                package.functions.extend(functions(file)?);
            }
            package.imports.extend(modules.imports());
        }
        Ok(package)
    }

    /// What breaks a rule, one sentence each.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = self.circles();
        for (file, lines) in self.files.iter().filter(|(_, lines)| *lines > LONGEST_FILE) {
            faults.push(format!(
                "{} has {lines} lines, more than {LONGEST_FILE}",
                file.display()
            ));
        }
        let median = median(&self.functions);
        if median > LARGEST_MEDIAN && self.functions.len() >= FEWEST_FOR_MEDIAN {
            faults.push(format!(
                "half of the functions in {} have {median} lines or more; the median is to be {LARGEST_MEDIAN} at most",
                self.folder.display()
            ));
        }
        faults
    }

    /// Each once: among modules of one file they are the same at both levels.
    fn circles(&self) -> Vec<String> {
        let files = Imports::of_files(self.imports.iter());
        let tops = Imports::of_top_modules(self.imports.iter(), &self.folder.join("src"));
        let circles: BTreeSet<_> = files.circles().into_iter().chain(tops.circles()).collect();
        circles.into_iter().collect()
    }

    /// One line of figures.
    pub(crate) fn figures(&self) -> String {
        let folder = self.folder.display();
        let files = self.figures_of_files();
        let functions = self.figures_of_functions();
        match Imports::of_files(self.imports.iter()).groups().as_slice() {
            [] => format!("{folder}: {files}; {functions}; no circle"),
            groups => format!("{folder}: {files}; {functions}; circles among {groups:?} files"),
        }
    }

    fn figures_of_files(&self) -> String {
        let count = self.files.len();
        let longest = self.files.iter().max_by_key(|(_, lines)| *lines);
        longest.map_or_else(String::new, |(file, lines)| {
            format!("{count} files, longest {lines} ({})", name(file))
        })
    }

    fn figures_of_functions(&self) -> String {
        let (count, median) = (self.functions.len(), median(&self.functions));
        let longest = self.functions.iter().max_by_key(|function| function.lines);
        longest.map_or_else(
            String::new,
            |Function {
                 name: function,
                 file,
                 lines,
             }| {
                format!(
                    "{count} functions, median {median}, longest `{function}` {lines} ({})",
                    name(file)
                )
            },
        )
    }
}

fn first_files(folder: &Path) -> Vec<PathBuf> {
    let names = ["src/lib.rs", "src/main.rs"];
    let files = names.map(|name| folder.join(name));
    files.into_iter().filter(|file| file.exists()).collect()
}

fn name(file: &Path) -> String {
    file.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
