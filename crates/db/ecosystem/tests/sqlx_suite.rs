//! The tests that sqlx has of its connection, with a lease of the pool in its place.

#![allow(
    unused_imports,
    dead_code,
    deprecated,
    clippy::all,
    reason = "the tests are sqlx's"
)]

#[path = "support/sqlx_test.rs"]
mod sqlx_test;

mod postgres {
    include!(concat!(env!("OUT_DIR"), "/postgres.rs"));
}

mod error {
    include!(concat!(env!("OUT_DIR"), "/error.rs"));
}

mod query_builder {
    include!(concat!(env!("OUT_DIR"), "/query_builder.rs"));
}
