//! Runs a command with `DATABASE_URL` set to a new, empty database, which is gone when the command has ended.
//! With `--standby` first, `STANDBY_URL` is the same database at a server that follows the first one.
//!
//! ```console
//! $ cargo run -p local-postgres --example run -- cargo run -p db --example doctor
//! ```

use std::process::{Command, exit};

use local_postgres::Cluster;

fn main() {
    let mut words = std::env::args_os().skip(1).peekable();
    let standby = words.next_if(|word| word == "--standby").map(|_| {
        let standby = local_postgres::shared().standby();
        standby.unwrap_or_else(|error| fail(2, error))
    });
    let Some(program) = words.next() else {
        fail(2, "usage: run [--standby] COMMAND [ARGUMENT]…");
    };
    let mut command = Command::new(&program);
    let url = local_postgres::database();
    if let Some(standby) = &standby {
        command.env("STANDBY_URL", at(standby, &url));
    }
    command.args(words).env("DATABASE_URL", url);
    // Another cargo below would build anew what depends on those that this one has set.
    for (name, _) in std::env::vars_os() {
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(b"CARGO_PKG_") || bytes.starts_with(b"CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    let ended = command.status();
    // `exit` drops nothing.
    drop(standby);
    match ended {
        Ok(status) => exit(status.code().unwrap_or(1)),
        Err(error) => fail(127, format!("cannot run {}: {error}", program.display())),
    }
}

fn at(server: &Cluster, url: &str) -> String {
    server.url(url.rsplit('/').next().unwrap_or_default())
}

fn fail(code: i32, why: impl std::fmt::Display) -> ! {
    eprintln!("{why}");
    exit(code)
}
