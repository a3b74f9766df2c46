//! One connection in one caller's hands, and the record of whether the next caller may have it as it is.
//!
//! This file decides what is clean. A connection is clean when nothing is on the wire, no transaction is open and the
//! session is as it was born. It is marked otherwise *before* anything is sent and clean again only after the last
//! answer was read, so a future dropped at any point leaves the mark. Only clean connections go straight back.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use sqlx::postgres::PgTransactionManager;
use sqlx::{Connection as _, PgConnection, SqlStr};
use sqlx_core::transaction::TransactionManager;

use crate::caller;
use crate::error::{Error, is_broken, is_conflict, is_stale_plan, loss};
use crate::metrics::CloseReason;
use crate::pool::closing::{close_connections, close_unwanted, discard};
use crate::pool::condition::Condition;
use crate::pool::in_transaction::InTransaction;
use crate::pool::opened::Opened;
use crate::pool::recycle::{Undo, recycle, who_is_lost};
use crate::pool::state::{Permit, Shared};
use crate::pool::within::within;
use crate::said::said;
use crate::session_effect::SessionEffect;
use crate::sqlstate::Loss;

/// The janitor replaces connections while they are idle; one that never is goes when it is so much too old.
const OVERAGE: Duration = Duration::from_secs(30);

/// A connection of the pool, as a [`Lease`](crate::Lease) and a [`Transaction`](crate::Transaction) hand it out.
///
/// `&mut Connection` works wherever sqlx takes an executor, and is what a function takes that runs statements for whoever
/// has a lease or a transaction. What a statement may leave on the session (a setting, a lock, a listener, an open
/// transaction) is undone before the next caller gets the connection.
///
/// ```no_run
/// async fn rename(connection: &mut db::Connection, name: &str) -> Result<(), sqlx::Error> {
///     let update = sqlx::query("update customer set name = $1").bind(name);
///     update.execute(connection).await.map(drop)
/// }
/// # async fn example(pool: &db::Pool) -> Result<(), Box<dyn std::error::Error>> {
/// rename(&mut *pool.acquire().await?, "Ada").await?;
///
/// let mut transaction = pool.begin().await?;
/// rename(&mut transaction, "Grace").await?;
/// transaction.commit().await?;
/// # Ok(()) }
/// ```
///
/// It is sqlx's `PgConnection` too, for a function that wants one. What such a function does cannot be seen, so the
/// connection has to prove afterwards that it is sound, which costs a few round trips in the background; one that does
/// not is closed, as `lent` in the metrics.
pub struct Connection {
    /// Taken out only when the lease ends.
    held: Option<(Opened, Permit)>,
    pub(crate) condition: Condition,
    /// The transaction that this lease is in, if [`Transaction`](crate::Transaction) has begun one.
    /// Boxed, because every statement would carry its size.
    pub(crate) transaction: Option<Box<InTransaction>>,
    /// The caller has waited long enough: cancel what runs without further patience.
    pub(crate) overdue: bool,
    /// The session had ended before the last statement was sent.
    pub(crate) was_over: bool,
    /// What an error said about the other connections.
    pub(crate) loss: Option<Loss>,
    /// Taken for more than the one statement that is known already.
    explicit: bool,
    /// How long its caller waited for it.
    pub(crate) waited: Duration,
    /// When its caller asked, if that was for a single statement and without a wait: that is when the statement begins.
    pub(crate) asked: Option<Instant>,
    /// When the last answer was there.
    pub(crate) answered: Option<Instant>,
    /// Longest wait for an answer.
    pub(crate) socket_timeout: Option<Duration>,
}

impl Connection {
    pub(crate) fn new(permit: Permit, connection: Opened, explicit: bool) -> Self {
        let mut new = Self::gone();
        new.socket_timeout = permit.pool.config.socket_timeout;
        (new.held, new.explicit) = (Some((connection, permit)), explicit);
        new
    }

    /// What is left of one that was taken away.
    pub(crate) fn gone() -> Self {
        Self {
            held: None,
            condition: Condition::Clean,
            transaction: None,
            overdue: false,
            was_over: false,
            loss: None,
            explicit: false,
            waited: Duration::ZERO,
            asked: None,
            answered: None,
            socket_timeout: None,
        }
    }

    /// sqlx's own connection, in the hands of somebody who may do anything with it.
    pub(crate) fn lend(&mut self) -> &mut PgConnection {
        self.condition = self.condition.max(Condition::Lent);
        caller::wrote();
        self.inner()
    }

    #[expect(clippy::expect_used, reason = "only its end takes `held`")]
    pub(crate) fn inner(&mut self) -> &mut PgConnection {
        let held = self.held.as_mut();
        &mut held.expect("it is held until it ends").0.inner
    }

    #[expect(clippy::expect_used, reason = "only its end takes `held`")]
    pub(crate) fn pool(&self) -> Arc<Shared> {
        let held = self.held.as_ref();
        held.expect("it is held until it ends").1.pool.clone()
    }

    /// Marks the connection before a statement is sent. Gives the condition in which the statement leaves it when all
    /// goes well, for [`Connection::ended`].
    pub(crate) fn started(&mut self, sql: &SqlStr, effect: SessionEffect) -> Condition {
        if self.explicit
            && let Some((opened, _)) = &self.held
        {
            *opened.running.text() = Some(sql.clone());
        }
        let left = match (effect, &mut self.transaction) {
            (SessionEffect::None, _) | (SessionEffect::Transaction, Some(_)) => Condition::Clean,
            (SessionEffect::Transaction | SessionEffect::Session, None) => Condition::Changed,
            (SessionEffect::Session, Some(transaction)) => {
                transaction.changed = true;
                Condition::Changed
            }
        };
        let after = self.condition.max(left);
        self.condition = after.max(Condition::Unsettled);
        after
    }

    /// Marks the connection after the last answer to a statement was read, or after it failed.
    pub(crate) fn ended(&mut self, after: Condition, result: Result<(), &sqlx::Error>) {
        self.transaction
            .iter_mut()
            .for_each(|transaction| transaction.answered());
        match result {
            Ok(()) => self.condition = after,
            Err(error) if is_broken(error) => self.condition = Condition::Broken,
            // The server's last word on this statement, ReadyForQuery, is still on its way.
            Err(_) => self.condition = after.max(Condition::Unsettled),
        }
        if let Err(error) = result {
            let read_only = self.transaction.as_ref().is_some_and(|t| t.read_only)
                || self.pool().replica.is_some();
            // That a read-only transaction or a replica cannot write says nothing about the server.
            if is_broken(error) || (loss(error) == Loss::ReadOnly && !read_only) {
                self.loss = Some(loss(error));
            }
            if let Some(transaction) = &mut self.transaction
                && transaction.failed.is_none()
            {
                transaction.failed = Some(said(error));
                transaction.conflict = is_conflict(error) || is_stale_plan(error);
            }
        }
    }

    /// Whether nothing has made all connections anew since it was opened.
    pub(crate) fn is_of_now(&self) -> bool {
        let of_now = |(opened, permit): &(Opened, Permit)| {
            opened.generation == permit.pool.state().generation
        };
        self.held.as_ref().is_some_and(of_now)
    }

    /// An error if what comes now would not be in the transaction that was begun here, because sqlx is less deep in
    /// transactions, or would go to a server whose place another one has taken.
    pub(crate) fn verify(&mut self) -> Result<(), Error> {
        if let Some((opened, permit)) = &self.held
            && !permit.pool.servers.is_current(opened.timeline)
        {
            self.condition = Condition::Broken;
            return Err(Error::Failover);
        }
        let begun = self.transaction.as_ref().map_or(0, |state| state.depth);
        if PgTransactionManager::get_transaction_depth(self.inner()) < begun {
            let why =
                "it was ended on sqlx's own connection, or by a savepoint that could not begin";
            return Err(Error::TransactionFailed(why.to_owned()));
        }
        Ok(())
    }

    /// One round trip, within `socket_timeout`.
    ///
    /// # Errors
    /// [`Error::NoAnswer`] when the time is over, or why the connection is of no further use.
    pub async fn ping(&mut self) -> Result<(), Error> {
        let limit = self.socket_timeout.unwrap_or(Duration::MAX);
        self.ping_within(limit).await
    }

    /// One round trip within `limit`.
    pub(crate) async fn ping_within(&mut self, limit: Duration) -> Result<(), Error> {
        const NOTHING: SqlStr = SqlStr::from_static("");
        let after = self.started(&NOTHING, SessionEffect::None);
        let answer = within(&self.pool(), limit, std::pin::pin!(self.inner().ping())).await;
        let Some(answer) = answer else {
            self.condition = Condition::Broken;
            return Err(Error::NoAnswer(limit));
        };
        self.ended(after, answer.as_ref().copied());
        answer.map_err(Error::from)
    }

    /// Its task may ask for another one: this one is not held up by that.
    pub(crate) fn disown(&self) {
        if let Some((_, permit)) = &self.held {
            permit.disown();
        }
    }

    /// Closes the connection and gives the permit back.
    pub(crate) fn close(mut self) {
        if let Some((connection, mut permit)) = self.held.take() {
            close_unwanted(&mut permit, connection, CloseReason::Lent);
        }
    }

    /// Throws the connection away and keeps the permit.
    #[expect(clippy::expect_used, reason = "only its end takes `held`")]
    pub(crate) fn discard(mut self) -> Permit {
        let held = self.held.take();
        let (connection, mut permit) = held.expect("it is held until it ends");
        discard(&mut permit, connection, self.loss());
        permit
    }

    fn loss(&self) -> Loss {
        self.loss.unwrap_or(Loss::Connection)
    }

    /// Makes an unclean connection clean in the background, with its permit, and gives it back then.
    fn recycle(&self, mut permit: Permit, mut connection: Opened) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return discard(&mut permit, connection, self.loss());
        };
        permit.disown();
        let undo = match self.condition {
            Condition::InTransaction => Undo::Transaction,
            Condition::Changed => Undo::Session,
            Condition::Lent => Undo::Anything,
            _ => Undo::Nothing,
        };
        let (overdue, loss) = (self.overdue, self.loss);
        runtime.spawn(async move {
            let pool = permit.pool.clone();
            let clean = recycle(&pool, &mut connection, undo, overdue).await;
            match who_is_lost(&pool, &mut connection.inner, loss).await {
                None if clean => {
                    pool.metrics.recycled.fetch_add(1, Relaxed);
                    give_back(&mut permit, connection, Instant::now());
                }
                None if undo == Undo::Anything => {
                    close_unwanted(&mut permit, connection, CloseReason::Lent);
                }
                loss => discard(&mut permit, connection, loss.unwrap_or(Loss::Connection)),
            }
        });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some((connection, mut permit)) = self.held.take() else {
            return;
        };
        match self.condition {
            Condition::Clean => {
                // One for a single statement is held until its answer; of another one, its caller says when.
                let ended = self.answered.filter(|_| !self.explicit);
                give_back(&mut permit, connection, ended.unwrap_or_else(Instant::now));
            }
            Condition::Broken => discard(&mut permit, connection, self.loss()),
            _ => self.recycle(permit, connection),
        }
    }
}

/// Makes a clean connection idle, or closes it if it is no longer wanted. Its use ends `now`.
fn give_back(permit: &mut Permit, connection: Opened, now: Instant) {
    let Permit { pool, holding, .. } = permit;
    let mut state = pool.state();
    holding.end(&mut state, now);
    let too_old = |expires: Instant| expires + OVERAGE <= now;
    let reason = if pool.permits.semaphore.is_closed() {
        Some(CloseReason::Shutdown)
    } else if connection.generation != state.generation {
        Some(CloseReason::Failover)
    } else if state.total() >= pool.permits.limit.load(Relaxed) {
        Some(CloseReason::Idle)
    } else if connection.expires.is_some_and(too_old) && state.outage().is_none() {
        Some(CloseReason::Lifetime)
    } else {
        None
    };
    let Some(reason) = reason else {
        state.came_back = Some(now);
        state.idle.push(Opened {
            idle_since: now,
            suspect: false,
            ..connection
        });
        let wanted = state.waiting > 0;
        drop(state);
        if wanted {
            pool.available.notify_one();
        }
        return;
    };
    let lacks_connection = state.lacks_connection();
    drop(state);
    close_connections(pool, vec![connection], reason);
    if lacks_connection {
        pool.available.notify_waiters();
    }
}

impl Deref for Connection {
    type Target = PgConnection;

    #[expect(clippy::expect_used, reason = "only its end takes `held`")]
    fn deref(&self) -> &PgConnection {
        let held = self.held.as_ref();
        &held.expect("it is held until it ends").0.inner
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.lend()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("condition", &self.condition)
            .finish_non_exhaustive()
    }
}
