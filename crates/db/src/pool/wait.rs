//! A caller's wait for a connection, from the moment in which it asked.

use std::time::{Duration, Instant};

use tracing::Span;

use crate::error::Error;
use crate::pool::state::Shared;
use crate::{caller, spans};

/// A caller's wait for a connection, counted as its task's however it ends.
pub(crate) struct Wait {
    pub(crate) asked: Instant,
    over: bool,
    /// None as long as nothing had to be waited for.
    span: Span,
}

impl Wait {
    pub(crate) fn new(asked: Instant) -> Self {
        Self {
            asked,
            over: false,
            span: Span::none(),
        }
    }

    /// The span of the wait, which begins now if it has not begun.
    pub(crate) fn span(&mut self, pool: &Shared) -> Span {
        if self.span.is_none() {
            self.span = spans::wait(&pool.config);
        }
        self.span.clone()
    }

    pub(crate) fn end(&mut self) -> Duration {
        self.over = true;
        let time = self.asked.elapsed();
        caller::waited(time);
        time
    }

    pub(crate) fn failed(&mut self, error: &Error) {
        self.end();
        spans::failed(
            &self.span,
            match error {
                Error::PoolTimeout(_) => "timeout",
                Error::Overloaded { .. } => "overloaded",
                Error::Connect(_) => "connect",
                Error::Closed => "closed",
                _ => "_OTHER",
            },
        );
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if !self.over {
            self.end();
            spans::failed(&self.span, "cancelled");
        }
    }
}
