//! Runs a command with `DATABASE_URL` set to a new, empty database, which is gone when the command has ended.
//!
//! ```console
//! $ cargo run -p local-postgres --example run -- cargo run -p db --example doctor
//! ```

use std::process::{Command, exit};

fn main() {
    let mut words = std::env::args_os().skip(1);
    let Some(program) = words.next() else {
        eprintln!("usage: run COMMAND [ARGUMENT]…");
        exit(2);
    };
    let mut command = Command::new(&program);
    command
        .args(words)
        .env("DATABASE_URL", local_postgres::database());
    // Another cargo below would build anew what depends on those that this one has set.
    for (name, _) in std::env::vars_os() {
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(b"CARGO_PKG_") || bytes.starts_with(b"CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    match command.status() {
        Ok(status) => exit(status.code().unwrap_or(1)),
        Err(error) => {
            eprintln!("cannot run {}: {error}", program.display());
            exit(127)
        }
    }
}
