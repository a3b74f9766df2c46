//! The reservation service over HTTP, each test with a database of its own.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

mod bodies;
mod book;
mod cost;
mod list;
mod locked;
mod moments;
mod overlap;
mod paths;
mod queries;
mod race;
mod rejection;
mod reservations;
mod start;
mod window;
