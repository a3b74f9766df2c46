//! Whose the sessions are, by what no pooler can pass on: two connections that are asked in turn answer from one session each only
//! if that is their own. Nothing is cancelled or ended before.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use futures_util::future::try_join;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row, SqlSafeStr};

use crate::connect_error::ConnectError;
use crate::fleet::Session;
use crate::pool::between::{Kind, Sessions};
use crate::pool::closing::evict;
use crate::pool::first_question::{self, Asked, First, who};
use crate::pool::handshake::tell_parts;
use crate::pool::hosts::reach;
use crate::pool::in_turn::{answer_in_turn, compare};
use crate::pool::opened::Control;
use crate::pool::pooler;
use crate::pool::state::Shared;
use crate::pool::within::within;

/// It ends, also where a pooler has no session left for the question.
const LONGEST: Duration = Duration::from_secs(3);
/// How soon a server has ended the session of a connection that is closed.
const LONGEST_END: Duration = Duration::from_millis(1500);
/// How often nobody else may have answered before those are trusted again that several did: some choose by lot.
const DOUBTS: u32 = 4;

/// Whose the sessions are, which is found out if it is not known.
pub(crate) async fn sessions(pool: &Shared) -> Sessions {
    match known(pool) {
        Some(known) => known,
        None => find_once(pool, Afterwards::Closed).await,
    }
}

/// The same for who has something to cancel, in a task that goes on when nobody waits for it any longer.
pub(crate) async fn sessions_for_cancel(pool: &Arc<Shared>) -> Sessions {
    if let Some(known) = known(pool) {
        return known;
    }
    let pool = pool.clone();
    let found = tokio::spawn(async move { find_once(&pool, Afterwards::Control).await });
    found.await.unwrap_or(Sessions::Unknown)
}

/// One finds it out at a time, and whoever has waited for that knows it then.
async fn find_once(pool: &Shared, afterwards: Afterwards) -> Sessions {
    let _one = pool.between.finding.lock().await;
    match known(pool) {
        Some(known) => known,
        None => Box::pin(find(pool, afterwards)).await,
    }
}

/// The same, if it is known.
pub(crate) fn known(pool: &Shared) -> Option<Sessions> {
    let generation = pool.state().generation;
    pool.between.sessions(generation)
}

/// What becomes of a connection that has helped to find it out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Afterwards {
    Closed,
    /// It is the control connection, which is wanted next.
    Control,
}

/// Finds it out with two connections of its own, and does what follows. Its future is large, and rarely wanted: it is boxed.
async fn find(pool: &Shared, afterwards: Afterwards) -> Sessions {
    let (generation, crowded) = {
        let state = pool.state();
        (state.generation, state.crowded().is_some())
    };
    // The last places are for what works.
    if crowded {
        pool.between.found(generation, Sessions::Unknown);
        return Sessions::Unknown;
    }
    let asked = async {
        let both = try_join(reach(pool, Session::Beside), reach(pool, Session::Beside));
        let (one, other) = both.await.ok()?;
        let (mut one, mut other) = (one.inner, other.inner);
        let sessions = compare(&mut one, &mut other).await.ok()?;
        if sessions == Sessions::Own && pool.follows() {
            find_outlived(pool, &mut one, other).await.ok()?;
        } else {
            let _ = other.close().await;
        }
        match pool.control.try_lock() {
            Ok(mut kept) if afterwards == Afterwards::Control && kept.is_none() => {
                *kept = Some(Control {
                    connection: one,
                    used: Instant::now(),
                    generation,
                });
            }
            _ => drop(one.close().await),
        }
        Some(sessions)
    };
    let sessions = within(pool, LONGEST, pin!(asked)).await.flatten();
    let sessions = sessions.unwrap_or(Sessions::Unknown);
    tracing::debug!("whose the sessions are: {sessions:?}");
    pool.between.found(generation, sessions);
    match sessions {
        Sessions::Shared => are_not_own(pool),
        Sessions::Split => drop(refuse(pool)),
        _ => {}
    }
    sessions
}

/// Connections have each other's sessions: from now on nothing is told them, and nothing is cancelled.
pub(crate) fn are_not_own(pool: &Shared) {
    let news = [Kind::Nothing, Kind::SessionPooler]
        .into_iter()
        .any(|kind| pooler::is(pool, kind, Kind::TransactionPooler));
    if news {
        tracing::info!(
            event = "pooler",
            "a pooler of transactions was found, because connections have each other's sessions: all are opened anew"
        );
        evict(pool);
        tell_parts(pool);
    }
}

/// Whether a session stays when its connection is closed: then the server's list says nothing about the fleet.
async fn find_outlived(
    pool: &Shared,
    one: &mut PgConnection,
    mut other: PgConnection,
) -> Result<(), sqlx::Error> {
    let session = who(&mut other, Asked::Plainly).await?.session;
    other.close().await?;
    let sql = format!("select count(*) from pg_stat_activity where {session}");
    let sql = AssertSqlSafe(sql).into_sql_str();
    let closed = Instant::now();
    loop {
        // That it does not answer says nothing of the session.
        let late = closed.elapsed() > LONGEST_END;
        let row = sqlx::raw_sql(sql.clone()).fetch_one(&mut *one).await?;
        if row.try_get::<i64, _>(0)? == 0 {
            return Ok(());
        }
        if late {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    pool.between.outlived.store(true, Relaxed);
    pooler::set_limit(pool);
    pooler::tell_of_limit(pool);
    Ok(())
}

/// A connection that is used as a server's own: an error if it is seen that several servers answer it. Some choose one for each
/// connection, so each says which answers it.
pub(crate) async fn is_of_one_server(
    pool: &Shared,
    connection: &mut PgConnection,
    first: &First,
) -> Result<(), ConnectError> {
    if pool.between.knows(&first.server) {
        return Ok(());
    }
    let failed = |source| ConnectError::new(&pool.config, source);
    // The first question looks at the role with functions that only the primary may be sent.
    let otherwise = match pool.config.looks_at_role() {
        true => Asked::Plainly,
        false => Asked::AsOfPrimary,
    };
    let again = who(connection, otherwise).await.map_err(failed)?;
    if again.server != first.server && Box::pin(answer_in_turn(connection)).await.map_err(failed)? {
        return Err(refuse(pool));
    }
    pool.between.keep(&again.server);
    Ok(())
}

/// Nothing is asked any more of what has several servers answer.
fn refuse(pool: &Shared) -> ConnectError {
    let error = ConnectError::split(&pool.config);
    if pool.between.doubts.swap(DOUBTS, Relaxed) == 0 {
        tracing::error!(event = "split", "{error}");
        evict(pool);
    }
    error
}

/// An error where several servers have answered, until it was seen often enough that one does.
pub(crate) async fn is_trusted(pool: &Shared) -> Result<(), ConnectError> {
    if pool.between.doubts.load(Relaxed) == 0 {
        return Ok(());
    }
    let _one = pool.between.finding.lock().await;
    let doubts = pool.between.doubts.load(Relaxed);
    let found = Box::pin(find(pool, Afterwards::Closed)).await;
    if matches!(found, Sessions::Own | Sessions::Shared) {
        pool.between.doubts.store(doubts.saturating_sub(1), Relaxed);
    }
    match pool.between.doubts.load(Relaxed) {
        0 => Ok(()),
        _ => Err(ConnectError::split(&pool.config)),
    }
}

/// Finds out what it is that takes no settings when a connection is opened, with this connection. Says whether that is what it was
/// taken for, a pooler of transactions, and it can be used: otherwise the connection is to be opened anew.
pub(crate) async fn is_of_transactions(
    pool: &Shared,
    connection: &mut PgConnection,
) -> Result<bool, ConnectError> {
    let between = &pool.between;
    if between.statements_apart.get().is_some() {
        return Ok(true);
    }
    let _one = between.finding.lock().await;
    if between.statements_apart.get().is_some() || !pool.is_pooled() {
        return Ok(pool.is_pooled());
    }
    let under_our_name = pooler::under_our_name(connection).await;
    if !under_our_name.map_err(|error| ConnectError::new(&pool.config, error))? {
        pooler::check(pool)?;
        if between.statements_apart.set(()).is_ok() {
            pooler::tell(pool);
        }
        return Ok(true);
    }
    let generation = pool.state().generation;
    let other = async {
        let mut other = reach(pool, Session::Beside).await.ok()?.inner;
        Box::pin(compare(connection, &mut other)).await.ok()
    };
    let sessions = within(pool, LONGEST, pin!(other)).await.flatten();
    let mixes = match sessions {
        Some(Sessions::Own) => {
            between.found(generation, Sessions::Own);
            return is_of_sessions(pool).await.map(|()| false);
        }
        Some(Sessions::Split) => return Err(refuse(pool)),
        Some(Sessions::Shared) => {
            "it does not keep the prepared statements of its clients apart, so that one may run another's. Let it do so \
             (max_prepared_statements above 0 in PgBouncer 1.21 or later, 200 by default from 1.24 on; \
             prepared_statements_cache_size above 0 in PgCat), or connect to the server itself"
        }
        Some(Sessions::Unknown) | None => {
            "it does not keep the prepared statements of its clients apart by other names, and whether it gives each connection \
             a session of its own cannot be seen, because a second connection got no answer. With pool_mode = session it \
             needs more sessions (default_pool_size in PgBouncer) than all instances' connection_limit together"
        }
    };
    Err(ConnectError::pooler(&pool.config, mixes))
}

/// Each connection has a session of its own, so that the server answers, or a pooler that keeps one for each.
async fn is_of_sessions(pool: &Shared) -> Result<(), ConnectError> {
    let mut asked = reach(pool, Session::Asking).await;
    let told = match &mut asked {
        Ok(reached) => {
            let first = first_question::ask(pool, &mut reached.inner).await;
            first.is_ok_and(|first| first.backend.is_some())
        }
        Err(_) => false,
    };
    match told {
        true if pooler::is(pool, Kind::TransactionPooler, Kind::Nothing) => {
            pooler::tell_of_none(pool)
        }
        false if pooler::is(pool, Kind::TransactionPooler, Kind::SessionPooler) => {
            pooler::tell_of_sessions(pool);
        }
        _ => {}
    }
    Ok(())
}
