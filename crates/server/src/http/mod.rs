//! HTTP: connections, what is done around every request, and what handlers read and answer with.

pub(crate) mod accept;
mod activity;
mod connection;
pub(crate) mod exchange;
pub(crate) mod extract;
mod identity;
mod json;
mod lines;
pub(crate) mod listener;
pub(crate) mod middleware;
mod own_writes;
pub(crate) mod page;
mod request;
pub mod rfc3339;
mod stream;
mod writes;
