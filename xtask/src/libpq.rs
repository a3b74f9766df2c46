//! libpq's variables, as a service started here would find them: those of the environment, and of `.env` what that has not.

use std::process::Command;

use env_file::EnvFile;

use crate::workspace;

/// Each with its value.
pub(crate) fn variables() -> Vec<(String, String)> {
    let ours = |name: &str| name.starts_with("PG") && !name.starts_with("PG_");
    // A file that cannot be read is an error of whoever needs it.
    let file = EnvFile::read(&workspace::root().join(".env")).ok();
    let of_file = file.iter().flat_map(EnvFile::variables);
    let of_file = of_file.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let set = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut all: Vec<(String, String)> = set.filter(|(name, _)| ours(name)).collect();
    for (name, value) in of_file.filter(|(name, _)| ours(name)) {
        if std::env::var_os(&name).is_none() {
            all.retain(|(known, _)| *known != name);
            all.push((name, value));
        }
    }
    all
}

/// Keeps them from a program that works with a private server. Where they are empty they count for nothing, and `.env` does not
/// set them again.
pub(crate) fn keep_from(command: &mut Command) {
    for (name, _) in variables() {
        match name.as_str() {
            // The driver takes an empty one for the name of a file; without TLS it looks at neither.
            "PGSSLCERT" | "PGSSLKEY" => command.env_remove(name),
            _ => command.env(name, ""),
        };
    }
}
