//! HTTP: connections, what is done around every request, and what handlers read and answer with.

pub(crate) mod accept;
pub(crate) mod extract;
pub(crate) mod middleware;
pub(crate) mod page;
