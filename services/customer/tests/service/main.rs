//! The customer service over HTTP, each test with a database of its own.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

mod bodies;
mod configuration;
mod cost;
mod customers;
mod files;
mod list;
mod logs;
mod moments;
mod patch;
mod paths;
mod process;
mod queries;
mod rejection;
mod replicas;
mod shutdown;
mod start;
