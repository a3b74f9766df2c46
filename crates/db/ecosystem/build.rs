//! Takes the tests that sqlx has of its connections to PostgreSQL out of its package, and puts a lease of the pool in the
//! connection's place. What is changed is what changes for everybody: `&mut conn` is `&mut *lease`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const CHANGES: [(&str, &str); 18] = [
    ("#[sqlx_macros::test]", "#[tokio::test]"),
    ("use sqlx_test::", "use crate::sqlx_test::"),
    ("= sqlx_test::", "= crate::sqlx_test::"),
    ("    sqlx_test::", "    crate::sqlx_test::"),
    ("(&mut conn)", "(&mut *conn)"),
    // Where the server is.
    (
        "std::env::var(\"DATABASE_URL\").unwrap()",
        "crate::sqlx_test::url()",
    ),
    ("dotenvy::var(\"DATABASE_URL\")?", "crate::sqlx_test::url()"),
    ("env::var(\"DATABASE_URL\")?", "crate::sqlx_test::url()"),
    ("use std::env;", ""),
    // A listener of sqlx's own wants a pool of sqlx's own.
    (
        "let pool = pool::<Postgres>()",
        "let pool = crate::sqlx_test::part()",
    ),
    (
        "use crate::sqlx_test::{new, pool, setup_if_needed}",
        "use crate::sqlx_test::{new, setup_if_needed}",
    ),
    // Those that open a connection of their own.
    (
        "PgConnection::connect(url.as_ref()).await?",
        "Box::new(PgConnection::connect(url.as_ref()).await?)",
    ),
    (
        "PgConnection::connect_with(&options).await?",
        "Box::new(PgConnection::connect_with(&options).await?)",
    ),
    // Ours takes options and no text: the one of sqlx is asked.
    (
        "conn.begin_with(\"SELECT * FROM tweet\")",
        "Connection::begin_with(&mut **conn, \"SELECT * FROM tweet\")",
    ),
    // Would look for a database when it is compiled.
    ("sqlx::query!", "sqlx::query"),
    ("extern crate time_ as time;", ""),
    (
        "use crate::sqlx_test::{new, test_decode_type, test_prepared_type, test_type};",
        "use crate::sqlx_test::new;",
    ),
    // Inner attributes cannot come from a file that is included.
    ("#![", "// #!["),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let tests = sqlx().join("tests/postgres");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for name in ["postgres.rs", "error.rs", "query_builder.rs", "types.rs"] {
        let text = fs::read_to_string(tests.join(name)).expect("sqlx's package has its tests");
        let change = |text: String, (from, to): &(&str, &str)| text.replace(from, to);
        let text = CHANGES.iter().fold(text, change);
        fs::write(out.join(name), text).expect("written");
    }
    fs::copy(tests.join("setup.sql"), out.join("setup.sql")).expect("copied");
}

/// The folder of the package as cargo has downloaded it.
fn sqlx() -> PathBuf {
    let mut metadata = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    metadata.args(["metadata", "--format-version", "1", "--offline"]);
    // Those of other platforms have not been downloaded where nobody needed them.
    let platform = env::var_os("TARGET").expect("cargo sets it");
    metadata.arg("--filter-platform").arg(platform);
    let output = metadata.output().expect("cargo runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let end = text
        .find("/sqlx-0.9.0/Cargo.toml\"")
        .expect("sqlx 0.9.0 is a dependency");
    let start = text[..end].rfind('"').expect("a string") + 1;
    Path::new(&text[start..end]).join("sqlx-0.9.0")
}
