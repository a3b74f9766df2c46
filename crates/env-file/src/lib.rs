//! The file `.env`: read as node's dotenv reads it, so that a value is what stands there.

mod syntax;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::syntax::Variable;

const NAME: &str = ".env";

/// The variables of one file.
#[derive(Clone)]
pub struct EnvFile {
    path: PathBuf,
    variables: Vec<Variable>,
}

/// A file that cannot be read. Its text names the file and the line, never what stands there, which may be a password.
#[derive(Debug)]
pub struct Error {
    path: PathBuf,
    reason: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be read: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for Error {}

impl EnvFile {
    /// Reads `.env` in the current folder, or else in the nearest folder above that has one.
    ///
    /// # Errors
    /// If there is one that cannot be read.
    pub fn find() -> Result<Option<Self>, Error> {
        let Ok(folder) = std::env::current_dir() else {
            return Ok(None);
        };
        let mut candidates = folder.ancestors().map(|folder| folder.join(NAME));
        // A folder of this name is somebody's Python.
        let found = candidates.find(|path| path.is_file());
        found.map(|path| Self::read(&path)).transpose()
    }

    /// Reads this file.
    ///
    /// # Errors
    /// If it cannot be read: the text says in which line.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let failed = |reason| Error {
            path: path.to_owned(),
            reason,
        };
        let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| failed("it is not UTF-8: save it as UTF-8".to_owned()))?;
        let variables = syntax::variables(&text).map_err(failed)?;
        let path = path.to_owned();
        Ok(Self { path, variables })
    }

    /// The value of this variable. The last line wins.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variable(name).map(|variable| &*variable.value)
    }

    /// All variables with their values, in the order of the lines; of two with one name the last counts.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let each = self.variables.iter();
        each.map(|variable| (&*variable.name, &*variable.value))
    }

    /// Sets what the environment does not have yet, and returns what it has set.
    ///
    /// # Errors
    /// None that is known: values were checked when the file was read.
    pub fn load(mut self) -> Result<Self, Error> {
        self.variables
            .retain(|variable| std::env::var_os(&variable.name).is_none());
        let lines: String = self.variables.iter().rev().map(as_dotenvy).collect();
        match dotenvy::from_read_iter(lines.as_bytes()).load() {
            Ok(()) => Ok(self),
            // Its own words would show the line.
            Err(_) => Err(Error {
                path: self.path,
                reason: "a variable cannot be set".to_owned(),
            }),
        }
    }

    /// Where this variable stands, such as `line 3 of /home/ada/shop/.env`.
    pub fn place(&self, name: &str) -> Option<String> {
        let line = self.variable(name)?.line;
        Some(format!("line {line} of {}", self.path.display()))
    }

    fn variable(&self, name: &str) -> Option<&Variable> {
        let mut backwards = self.variables.iter().rev();
        backwards.find(|variable| variable.name == name)
    }
}

/// Names only: values may be secrets.
impl fmt::Debug for EnvFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.variables.iter().map(|variable| &variable.name);
        write!(f, "{} ", self.path.display())?;
        f.debug_list().entries(names).finish()
    }
}

/// A line from which dotenvy reads this very value. Nothing for a name that it does not take (`a-b`, `1st`), and nobody reads.
fn as_dotenvy(Variable { name, value, .. }: &Variable) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit() || c == '.') || name.contains('-') {
        return String::new();
    }
    let mut line = format!("{name}=\"");
    for character in value.chars() {
        match character {
            '\n' => line.push_str("\\n"),
            '\\' | '"' | '$' => line.extend(['\\', character]),
            _ => line.push(character),
        }
    }
    line + "\"\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotenvy_takes_every_value_as_it_is() {
        let values = [
            "pa$word",
            "${HOME}",
            "\\",
            "\\$a",
            "\\n",
            "\"",
            "'",
            "`",
            " a ",
            "#",
            "a # b",
            "a\nb\r\nc\r",
            "",
            "\u{feff}é\u{85}",
        ];
        for value in values {
            let variable = Variable {
                name: "A".to_owned(),
                value: value.to_owned(),
                line: 1,
            };
            let line = as_dotenvy(&variable);
            let read: Vec<_> = dotenvy::from_read_iter(line.as_bytes())
                .map(Result::ok)
                .collect();
            assert_eq!(read, [Some(("A".to_owned(), value.to_owned()))], "{line:?}");
        }
    }
}
