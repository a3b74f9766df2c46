//! Giving SQL to the server through its unix socket, which asks for no password: no program is needed for it.

mod session;
mod statements;

pub(crate) use session::Session;
pub(crate) use statements::statements;
