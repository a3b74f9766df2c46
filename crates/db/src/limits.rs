//! Limits for one kind of work, where those of the pool do not fit.

use std::time::Duration;

/// What the work of one [`Pool::with`](crate::Pool::with) may take, in the place of the pool's settings. `None` leaves a
/// setting as it is, [`Duration::MAX`] is no limit.
///
/// ```
/// # use std::time::Duration;
/// # fn example(pool: &db::Pool) {
/// // Something optional: now or not at all, and not for long.
/// let extra = pool.with(db::Limits {
///     wait: Some(Duration::ZERO),
///     statement: Some(Duration::from_millis(200)),
///     ..Default::default()
/// });
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Longest wait for a connection, in the place of `pool_timeout`. Prisma's `maxWait`.
    pub wait: Option<Duration>,
    /// Longest statement, in the place of `statement_timeout`, and of `socket_timeout`, which is a second more.
    pub statement: Option<Duration>,
    /// Longest wait for a lock, in the place of `lock_timeout`.
    pub lock: Option<Duration>,
    /// Longest pause inside a transaction, in the place of `idle_in_transaction_session_timeout`.
    pub pause: Option<Duration>,
    /// Longest transaction, from its begin to its commit: none by default. Prisma's `timeout`. Each statement has what is
    /// left of it, and what comes later is [`Error::TransactionTimeout`](crate::Error::TransactionTimeout).
    pub transaction: Option<Duration>,
}

/// The server's error comes first: it says more, and the connection stays.
const GRACE: Duration = Duration::from_secs(1);

impl Limits {
    /// The client's limit for a statement, in the place of this one.
    pub(crate) fn socket_timeout(&self, setting: Option<Duration>) -> Option<Duration> {
        match self.statement {
            None => setting,
            Some(Duration::MAX) => None,
            Some(limit) => Some(limit.saturating_add(GRACE)),
        }
    }

    /// These, and where they say nothing those.
    pub(crate) fn or(&self, those: &Self) -> Self {
        Self {
            wait: self.wait.or(those.wait),
            statement: self.statement.or(those.statement),
            lock: self.lock.or(those.lock),
            pause: self.pause.or(those.pause),
            transaction: self.transaction.or(those.transaction),
        }
    }

    /// What the server has to be told, for a transaction (`set local`) or until the connection is given back (`set`).
    pub(crate) fn sql(&self, set: &str) -> Option<String> {
        let settings = [
            ("statement_timeout", self.statement),
            ("lock_timeout", self.lock),
            ("idle_in_transaction_session_timeout", self.pause),
        ];
        let told = settings.into_iter().filter_map(|(setting, limit)| {
            // The server's own way to say "no limit", also for what is longer than it can say.
            let limit = limit?.as_millis();
            let limit = if limit > i32::MAX as u128 {
                0
            } else {
                limit.max(1)
            };
            Some(format!("{set} {setting} = {limit}"))
        });
        let told: Vec<_> = told.collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}
