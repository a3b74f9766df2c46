//! How much is known to be well with a connection that somebody has.

/// In what state a connection is. The order matters: it only gets worse until it is proven well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Condition {
    /// Ready for the next caller.
    Clean,
    /// An answer may still be on its way.
    Unsettled,
    /// A transaction may be open.
    InTransaction,
    /// The session's settings may have changed.
    Changed,
    /// Lent as sqlx's own: nobody knows.
    Lent,
    /// Of no further use.
    Broken,
}
