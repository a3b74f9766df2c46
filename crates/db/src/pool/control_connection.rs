//! The control connection: one beside the pool, for what a full pool must not delay, such as cancelling statements.
//!
//! It is opened when it is needed, has one user at a time, and is closed by the janitor when it has been idle. Where the
//! limit follows the fleet it stays, and its name tells the others what this instance may have open.

use std::pin::pin;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqlSafeStr};
use tokio::time::timeout;

use crate::error::Error;
use crate::fleet::{Fleet, Session};
use crate::pool::connect;
use crate::pool::opened::Control;
use crate::pool::state::Shared;
use crate::pool::within::within;
use crate::seen::read_position;

/// Longest wait for its answer. Nothing that runs here takes long on a server that is well.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(10);

/// Asks for a sign of life.
pub(crate) async fn ping(pool: &Shared) -> Result<(), Error> {
    run(pool, "").await.map(drop)
}

/// How far a server has come in the write-ahead log.
pub(crate) struct Progress {
    pub(crate) standby: bool,
    /// What a standby has replayed, or a primary flushed to disk.
    pub(crate) position: u64,
    /// What a primary has written, also if it is not on disk yet.
    pub(crate) written: u64,
    /// The history that it writes or follows: another one begins with each promotion. Of a standby without a stream it is only
    /// known that it has come so far.
    pub(crate) timeline: i64,
    /// Whether that is the history, and no earlier one.
    pub(crate) is_exact: bool,
}

/// Asks for that.
pub(crate) async fn progress(pool: &Shared) -> Result<Progress, Error> {
    // Which timeline a standby follows is told to members of pg_read_all_stats while there is a stream; otherwise what has
    // reached its disk says how far it is at least, which may be minutes old.
    const SQL: &str = "\
        select standby::text, \
               case when standby then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end::text, \
               case when standby then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end::text, \
               case when standby then coalesce(stream.received_tli, \
                      (select greatest(c.timeline_id, r.min_recovery_end_timeline) from pg_control_checkpoint() c, pg_control_recovery() r)) \
                    else ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int end::text, \
               (not standby or stream.received_tli is not null)::text \
          from pg_is_in_recovery() as standby left join pg_stat_wal_receiver as stream on true";
    let row = run(pool, SQL).await?.pop();
    let row = row.ok_or(sqlx::Error::RowNotFound)?;
    let text = |index: usize| row.try_get_unchecked::<Option<String>, _>(index);
    let position = |text: Option<String>| text.as_deref().and_then(read_position).unwrap_or(0);
    Ok(Progress {
        standby: text(0)?.as_deref() == Some("true"),
        position: position(text(1)?),
        written: position(text(2)?),
        timeline: text(3)?.and_then(|text| text.parse().ok()).unwrap_or(0),
        is_exact: text(4)?.as_deref() == Some("true"),
    })
}

/// How far the primary has come, after everything that was acknowledged before. Who asks while others ask shares the next answer.
pub(crate) async fn position(pool: &Shared) -> Result<u64, Error> {
    let asked = pool.asked.0.load(SeqCst);
    let mut answer = pool.asked.1.lock().await;
    // One that was asked for after this call began.
    if answer.0 > asked {
        return Ok(answer.1);
    }
    let number = pool.asked.0.fetch_add(1, SeqCst) + 1;
    let progress = progress(pool).await?;
    *answer = (number, progress.written);
    Ok(progress.written)
}

/// Tells the fleet what this pool may have open, and asks what the others have.
pub(crate) async fn ask_fleet(pool: &Shared, claim: u32) -> Result<Fleet, Error> {
    pool.claim.store(claim, Relaxed);
    let name = pool.instance.name_of(Session::Claiming(claim));
    let question = pool.instance.question();
    let sql = format!("set application_name = '{name}'; {question}");
    let row = run(pool, &sql).await?.pop();
    let row = row.ok_or(sqlx::Error::RowNotFound)?;
    Ok(Fleet::read(&row)?)
}

/// Asks the server to stop what the session runs. Best effort: a failure is logged for those who look closely.
pub(crate) async fn cancel(pool: &Shared, backend: &str) {
    let sql = format!("select pg_cancel_backend(pid) from pg_stat_activity where {backend}");
    if let Err(error) = run(pool, &sql).await {
        tracing::debug!("a statement could not be cancelled: {error}");
    }
}

/// Asks the server to end the sessions that the condition names.
pub(crate) async fn terminate(pool: &Shared, backends: &str) -> Result<(), Error> {
    let sql = format!("select pg_terminate_backend(pid) from pg_stat_activity where {backends}");
    run(pool, &sql).await.map(drop)
}

async fn run(pool: &Shared, sql: &str) -> Result<Vec<PgRow>, Error> {
    let mut kept = pool.control.lock().await;
    // Taken out while it is in use: whoever gives up half-way takes it along, and the next one opens another.
    let generation = pool.state().generation;
    if let Some(mut control) = kept.take()
        && control.generation == generation
        && let Ok(rows) = ask(pool, &mut control.connection, sql).await
    {
        control.used = Instant::now();
        *kept = Some(control);
        return Ok(rows);
    }
    let mut opened = connect::open_control(pool).await?;
    let rows = ask(pool, &mut opened.inner, sql).await?;
    *kept = Some(Control {
        connection: opened.inner,
        used: Instant::now(),
        generation: opened.generation,
    });
    Ok(rows)
}

async fn ask(pool: &Shared, connection: &mut PgConnection, sql: &str) -> Result<Vec<PgRow>, Error> {
    let answer = async {
        match sql {
            "" => connection.ping().await.map(|()| Vec::new()),
            _ => {
                let sql = AssertSqlSafe(sql.to_owned()).into_sql_str();
                sqlx::raw_sql(sql).fetch_all(connection).await
            }
        }
    };
    let answer = within(pool, ANSWER_TIMEOUT, pin!(answer)).await;
    answer
        .ok_or(Error::NoAnswer(ANSWER_TIMEOUT))?
        .map_err(Error::from)
}

/// Closes the connection if nobody has used it for a while, or at once. One that speaks for its instance stays.
pub(crate) async fn close(pool: &Shared, at_once: bool) {
    if pool.follows() && !at_once {
        return;
    }
    let Ok(mut kept) = pool.control.try_lock() else {
        return;
    };
    if let Some(control) = kept.take_if(|control| at_once || control.used.elapsed() > IDLE) {
        let _ = timeout(ANSWER_TIMEOUT, control.connection.close()).await;
    }
}
