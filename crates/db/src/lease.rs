//! The lease: one connection in one caller's hands, and the record of whether the next caller may have it as it is.
//!
//! This file decides what is clean. A connection is clean when nothing is on the wire, no transaction is open and the
//! session is as it was born. It is marked otherwise *before* anything is sent and clean again only after the last
//! answer was read, so a future dropped at any point leaves the mark. Only clean connections go straight back.

use std::fmt;
use std::mem;
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection, SqlStr};

use crate::claim::Claim;
use crate::deadline::within;
use crate::effect::Effect;
use crate::error::{is_broken, is_conflict, is_failover};
use crate::recover;
use crate::shelf::{Origin, Slot};

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
    /// Handed out raw: nobody knows.
    Raw,
    /// Of no further use.
    Broken,
}

/// An idle connection is trusted for so long; after that it has to answer first.
const TRUSTED: Duration = Duration::from_millis(500);
const PING_TIMEOUT: Duration = Duration::from_millis(250);

/// A connection of the pool in one caller's hands. Dropping it gives it back.
///
/// `&mut Lease` works wherever sqlx takes an executor.
pub struct Lease {
    /// Taken out only when the lease ends.
    held: Option<(Slot, Claim)>,
    pub(crate) condition: Condition,
    /// The transaction that this lease is in, if [`Transaction`](crate::Transaction) has begun one.
    pub(crate) transaction: Option<InTransaction>,
    /// The caller has waited long enough: cancel what runs without further patience.
    pub(crate) overdue: bool,
    failover: bool,
    /// Taken for more than the one statement that is known already.
    explicit: bool,
}

/// What has happened in a transaction so far.
#[derive(Default)]
pub(crate) struct InTransaction {
    /// What the first statement that failed said: the server will not commit.
    pub(crate) failed: Option<String>,
    /// Whether that was a conflict with another transaction, so that running it again may help.
    pub(crate) conflict: bool,
    changed: bool,
    /// Begun so on purpose: a refused write says nothing about the server.
    read_only: bool,
}

impl Lease {
    pub(crate) fn new(claim: Claim, slot: Slot, origin: &Origin) -> Self {
        Self {
            held: Some((slot, claim)),
            condition: Condition::Clean,
            transaction: None,
            explicit: matches!(origin, Origin::Code(_)),
            overdue: false,
            failover: false,
        }
    }

    /// sqlx's own connection, for what executors cannot do, such as `COPY` or `LISTEN`.
    ///
    /// Nobody can know what was done to it, so it is closed afterwards instead of reused.
    pub fn raw(&mut self) -> &mut PgConnection {
        self.condition = self.condition.max(Condition::Raw);
        self.connection()
    }

    #[expect(
        clippy::expect_used,
        reason = "`held` is taken only by `drop` and `discard`, which consume the lease"
    )]
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        let (slot, _) = self
            .held
            .as_mut()
            .expect("a lease holds its connection until it ends");
        &mut slot.connection
    }

    #[expect(
        clippy::expect_used,
        reason = "`held` is taken only by `drop` and `discard`, which consume the lease"
    )]
    pub(crate) fn claim(&self) -> &Claim {
        &self
            .held
            .as_ref()
            .expect("a lease holds its claim until it ends")
            .1
    }

    /// Marks the connection before a statement is sent. [`Lease::ended`] takes the answer.
    pub(crate) fn started(&mut self, sql: &SqlStr, effect: Effect) -> Condition {
        if self.explicit
            && let Some(seat) = self.claim().seat()
            && let Some(holder) = self.claim().pool.shelf().holder(seat)
        {
            holder.sql = Some(sql.clone());
        }
        self.mark(effect)
    }

    fn mark(&mut self, effect: Effect) -> Condition {
        let before = self.condition;
        self.condition = before.max(self.left_by(effect)).max(Condition::Unsettled);
        before
    }

    /// What a statement leaves even when all goes well.
    fn left_by(&mut self, effect: Effect) -> Condition {
        match (effect, &mut self.transaction) {
            (Effect::None, _) | (Effect::Transaction, Some(_)) => return Condition::Clean,
            (Effect::Transaction | Effect::Session, None) => {}
            (Effect::Session, Some(transaction)) => transaction.changed = true,
        }
        Condition::Changed
    }

    /// Marks the connection after the last answer to a statement was read, or after it failed.
    pub(crate) fn ended(
        &mut self,
        before: Condition,
        effect: Effect,
        result: Result<(), &sqlx::Error>,
    ) {
        let after = before.max(self.left_by(effect));
        match result {
            Ok(()) => self.condition = after,
            Err(error) if is_broken(error) => self.condition = Condition::Broken,
            // The server's last word on this statement, ReadyForQuery, is still on its way.
            Err(_) => self.condition = after.max(Condition::Unsettled),
        }
        if let Err(error) = result {
            let asked_for = self.transaction.as_ref().is_some_and(|t| t.read_only);
            self.failover |= is_failover(error) && (is_broken(error) || !asked_for);
            if let Some(transaction) = &mut self.transaction
                && transaction.failed.is_none()
            {
                transaction.failed = Some(error.to_string());
                transaction.conflict = is_conflict(error);
            }
        }
    }

    /// Enters a transaction, before BEGIN is sent.
    pub(crate) fn enter_transaction(&mut self, read_only: bool) {
        self.transaction = Some(InTransaction {
            read_only,
            ..InTransaction::default()
        });
        self.condition = self.condition.max(Condition::InTransaction);
    }

    /// Leaves it, after COMMIT or ROLLBACK was answered.
    pub(crate) fn leave_transaction(&mut self) {
        if let Some(transaction) = self.transaction.take()
            && self.condition < Condition::Raw
        {
            self.condition = match transaction.changed {
                true => Condition::Changed,
                false => Condition::Clean,
            };
        }
    }

    /// One round trip within `limit`.
    pub(crate) async fn ping(&mut self, limit: Duration) -> Result<(), sqlx::Error> {
        let before = self.mark(Effect::None);
        let answer = within(Some(limit), self.connection().ping()).await;
        let result = answer.unwrap_or_else(|error| Err(error.into()));
        self.ended(before, Effect::None, result.as_ref().copied());
        result
    }

    /// Whether the connection is alive: taken on trust when it was used just now.
    pub(crate) async fn answers(&mut self, now: Instant) -> bool {
        let Some((slot, _)) = &mut self.held else {
            return false;
        };
        if !mem::take(&mut slot.suspect) && now.saturating_duration_since(slot.idle_since) < TRUSTED
        {
            return true;
        }
        self.ping(PING_TIMEOUT).await.is_ok()
    }

    /// Throws the connection away and keeps the permit.
    #[expect(
        clippy::expect_used,
        reason = "`held` is taken only by `drop` and `discard`, which consume the lease"
    )]
    pub(crate) fn discard(mut self) -> Claim {
        let (slot, mut claim) = self
            .held
            .take()
            .expect("a lease holds its claim until it ends");
        let pool = claim.pool.clone();
        pool.discard(&mut claim, slot, self.failover);
        claim
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some((slot, mut claim)) = self.held.take() else {
            return;
        };
        let pool = claim.pool.clone();
        match self.condition {
            Condition::Clean => pool.put(&mut claim, slot),
            Condition::Raw => pool.let_go(&mut claim, slot),
            Condition::Broken => pool.discard(&mut claim, slot, self.failover),
            condition => recover::spawn(claim, slot, condition, self.overdue, self.failover),
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("condition", &self.condition)
            .finish_non_exhaustive()
    }
}
