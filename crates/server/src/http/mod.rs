//! HTTP: connections, what is done around every request, and what handlers read and answer with.

pub(crate) mod accept;
mod activity;
mod body;
mod connection;
pub(crate) mod extract;
pub(crate) mod listener;
pub(crate) mod middleware;
pub(crate) mod page;
mod stream;
pub(crate) mod writes;
