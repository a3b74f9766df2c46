//! HTTP: connections, what is done around every request, and what handlers read and answer with.

pub(crate) mod accept;
mod activity;
mod connection;
pub(crate) mod extract;
pub(crate) mod identity;
pub(crate) mod lines;
pub(crate) mod listener;
pub(crate) mod middleware;
mod own_writes;
pub(crate) mod page;
mod request;
mod stream;
pub(crate) mod writes;
