//! The modules of a crate, the names they bind, and the paths they write.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::tokens::{Token, closing, is, tokens};
use crate::output::Result;

/// `["pool", "lease"]` for `crate::pool::lease`; the crate itself is empty.
pub(crate) type Names = Vec<String>;

/// A path as it is written in a module.
struct Written {
    path: Names,
    line: usize,
}

/// A module with all that it says of others. An inline one has the file of the one around it.
#[derive(Default)]
struct Module {
    file: PathBuf,
    /// The paths of its `use` lines, by the name that each gives.
    bound: BTreeMap<String, Names>,
    written: Vec<Written>,
}

/// One file's use of another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Import {
    pub(crate) from: PathBuf,
    pub(crate) to: PathBuf,
    pub(crate) line: usize,
}

/// The modules of a library or a program, from its first file on; what is compiled for tests only is left out.
pub(crate) struct Modules(BTreeMap<Names, Module>);

impl Modules {
    pub(crate) fn read(first_file: &Path) -> Result<Self> {
        let mut modules = Self(BTreeMap::new());
        let folder = first_file.parent().unwrap_or(first_file);
        modules.load(Vec::new(), first_file.to_owned(), folder)?;
        Ok(modules)
    }

    pub(crate) fn files(&self) -> BTreeSet<&Path> {
        let files = self.0.values().map(|module| module.file.as_path());
        files.collect()
    }

    /// Every import between two files.
    pub(crate) fn imports(&self) -> BTreeSet<Import> {
        let mut imports = BTreeSet::new();
        for (name, module) in &self.0 {
            for written in &module.written {
                let Some(path) = self.absolute(name, &written.path) else {
                    continue;
                };
                for to in self.resolve(name, &path, 0) {
                    if to != module.file {
                        imports.insert(Import {
                            from: module.file.clone(),
                            to: to.to_owned(),
                            line: written.line,
                        });
                    }
                }
            }
        }
        imports
    }

    /// `folder` is where the files of its children are.
    fn load(&mut self, name: Names, file: PathBuf, folder: &Path) -> Result<()> {
        let source = fs::read_to_string(&file)
            .map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
        self.scan(name, &file, folder, &tokens(&source))
    }

    fn scan(&mut self, name: Names, file: &Path, folder: &Path, tokens: &[Token]) -> Result<()> {
        let module = self.0.entry(name.clone()).or_default();
        module.file = file.to_owned();
        let mut index = 0;
        while index < tokens.len() {
            index = match tokens[index].text.as_str() {
                "mod" if is(tokens, index + 2, ";") => {
                    let (child, folder) = child(&name, folder, &tokens[index + 1].text);
                    let file = file_of(&folder)?;
                    self.load(child, file, &folder)?;
                    index + 3
                }
                "mod" if is(tokens, index + 2, "{") => {
                    let (child, folder) = child(&name, folder, &tokens[index + 1].text);
                    let end = closing(tokens, index + 2);
                    self.scan(child, file, &folder, &tokens[index + 3..end])?;
                    end + 1
                }
                // But not the `use<…>` of a type.
                "use" if !is(tokens, index + 1, "<") => self.scan_use(&name, tokens, index + 1),
                _ => self.scan_path(&name, tokens, index),
            };
        }
        Ok(())
    }

    /// Reads up to the `;` of a `use`.
    fn scan_use(&mut self, name: &Names, tokens: &[Token], start: usize) -> usize {
        let mut end = start;
        while end < tokens.len() && !is(tokens, end, ";") {
            end += 1;
        }
        let mut leaves = Vec::new();
        read_use(&tokens[start..end], &[], &mut leaves);
        let module = self.0.entry(name.clone()).or_default();
        for (bound, written) in leaves {
            module.bound.insert(bound, written.path.clone());
            module.written.push(written);
        }
        end + 1
    }

    /// Reads `a::b::c` in code; a word alone is no path.
    fn scan_path(&mut self, name: &Names, tokens: &[Token], start: usize) -> usize {
        let mut end = start + 1;
        if is(tokens, end, "::") && (start == 0 || !is(tokens, start - 1, "::")) {
            let mut path = vec![tokens[start].text.clone()];
            while is(tokens, end, "::") && tokens.get(end + 1).is_some_and(is_name) {
                path.push(tokens[end + 1].text.clone());
                end += 2;
            }
            let line = tokens[start].line;
            let module = self.0.entry(name.clone()).or_default();
            module.written.push(Written { path, line });
        }
        end
    }

    /// The path from the crate on, of one that is written in `module`; `None` if it leads to another crate.
    fn absolute(&self, module: &Names, written: &[String]) -> Option<Names> {
        let (first, rest) = written.split_first()?;
        let mut path = module.clone();
        match first.as_str() {
            "crate" => path.clear(),
            "self" => {}
            "super" => {
                path.pop()?;
                if rest.first().is_some_and(|next| next == "super") {
                    return self.absolute(&path, rest);
                }
            }
            child => {
                path.push(child.to_owned());
                if !self.0.contains_key(&path) {
                    return None;
                }
            }
        }
        path.extend_from_slice(rest);
        Some(path)
    }

    /// The files that have what `path` leads to. Where a module passes on what another defines, that is the other's
    /// file, and for those outside also the module's own.
    fn resolve(&self, from: &Names, path: &[String], depth: usize) -> Vec<&Path> {
        let known = (0..=path.len()).rev();
        let Some(length) = known.into_iter().find(|n| self.0.contains_key(&path[..*n])) else {
            return Vec::new();
        };
        let (at, rest) = path.split_at(length);
        let module = &self.0[at];
        let passed_on = rest.first().and_then(|name| module.bound.get(name));
        let target = passed_on.and_then(|written| self.absolute(&at.to_vec(), written));
        match target {
            Some(mut target) if depth < 8 => {
                target.extend_from_slice(&rest[1..]);
                let mut files = self.resolve(from, &target, depth + 1);
                if !from.starts_with(at) {
                    files.push(&module.file);
                }
                files
            }
            _ => vec![&module.file],
        }
    }
}

fn is_name(token: &Token) -> bool {
    token
        .text
        .starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn child(parent: &Names, folder: &Path, name: &str) -> (Names, PathBuf) {
    let mut names = parent.clone();
    names.push(name.to_owned());
    (names, folder.join(name))
}

fn file_of(folder: &Path) -> Result<PathBuf> {
    let candidates = [folder.with_extension("rs"), folder.join("mod.rs")];
    let found = candidates.into_iter().find(|file| file.exists());
    found.ok_or_else(|| format!("there is no file for the module {}", folder.display()).into())
}

/// Reads what stands between `use` and `;`, braces included, into one path for each name.
fn read_use(tokens: &[Token], before: &[String], leaves: &mut Vec<(String, Written)>) {
    let mut path = before.to_vec();
    let mut bound = None;
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        match token.text.as_str() {
            "{" => {
                let end = closing(tokens, index);
                for part in split_at_commas(&tokens[index + 1..end]) {
                    read_use(part, &path, leaves);
                }
                return;
            }
            "as" => {
                bound = tokens.get(index + 1).map(|token| token.text.clone());
                break;
            }
            "self" if !path.is_empty() => {}
            _ if is_name(token) => path.push(token.text.clone()),
            _ => {}
        }
        index += 1;
    }
    let (Some(token), Some(last)) = (tokens.first(), path.last()) else {
        return;
    };
    // What `*` gives has no name here; the file it comes from is known all the same.
    let is_glob = tokens.last().is_some_and(|token| token.text == "*");
    let bound = bound.unwrap_or_else(|| if is_glob { "*".into() } else { last.clone() });
    let line = token.line;
    leaves.push((bound, Written { path, line }));
}

fn split_at_commas(tokens: &[Token]) -> Vec<&[Token]> {
    let mut parts = Vec::new();
    let (mut start, mut index) = (0, 0);
    while index < tokens.len() {
        match tokens[index].text.as_str() {
            "{" => index = closing(tokens, index),
            "," => {
                parts.push(&tokens[start..index]);
                start = index + 1;
            }
            _ => {}
        }
        index += 1;
    }
    parts.push(&tokens[start..]);
    parts
}
