//! The first question to a new connection: whose session it is, and what its server is.

use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row, SqlSafeStr};

use crate::config::TargetSessionAttrs;
use crate::pool::state::Shared;

/// What tells a session from all others of the server, also from a later one with the same process id, and a server from others.
const SESSION: &str = "format('pid = %s and backend_start = %L', pid, backend_start), \
                       concat_ws(' ', pg_postmaster_start_time(), inet_server_addr(), inet_server_port())";

/// A function, not the view: a middleman that sends reads to standbys may leave out the system's tables, and is to be found.
const OWN: &str = "pg_stat_get_activity(pg_backend_pid())";

/// Whether the server is a standby, whether it refuses writes, and the timeline that it writes.
const ROLE: &str = "pg_is_in_recovery(), current_setting('transaction_read_only') = 'on', \
                    case when pg_is_in_recovery() then 0 \
                         else ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int end";

/// What the answer says.
#[derive(Clone, Debug, Default)]
pub(crate) struct First {
    /// The condition by which `pg_stat_activity` knows the session. `None` if it is one of a pooler's. That it is not is no more
    /// than likely: a pooler may pass on what it is told.
    pub(crate) backend: Option<Arc<str>>,
    pub(crate) server: String,
    pub(crate) role: Role,
}

/// What a server is. Nothing is known of it where nobody looks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Role {
    standby: bool,
    read_only: bool,
    /// 0 on a standby.
    pub(crate) timeline: u32,
}

impl Role {
    /// What it is instead of what is wanted.
    pub(crate) fn unfit_for(self, wanted: TargetSessionAttrs) -> Option<&'static str> {
        use TargetSessionAttrs::{Any, PreferStandby, Primary, ReadOnly, ReadWrite, Standby};
        match (wanted, self.standby, self.read_only) {
            (ReadWrite | Primary, true, _) => Some("is a standby"),
            (ReadWrite, false, true) => Some("takes no writes (default_transaction_read_only)"),
            (ReadOnly, false, false) => Some("takes writes"),
            (Standby | PreferStandby, false, _) => Some("is no standby"),
            (Any | ReadWrite | ReadOnly | Primary | Standby | PreferStandby, ..) => None,
        }
    }
}

/// Asks it. Where the role matters it is part of the same question.
pub(crate) async fn ask(
    pool: &Shared,
    connection: &mut PgConnection,
) -> Result<First, sqlx::Error> {
    let role = match pool.config.looks_at_role() {
        true => ROLE,
        false => "false, false, 0",
    };
    let sql =
        format!("select {SESSION}, current_setting('pool.instance', true), {role} from {OWN}");
    let row = one_row(connection, sql).await?;
    let backend: String = row.try_get_unchecked(0)?;
    let told: Option<String> = row.try_get_unchecked(2)?;
    let timeline: i32 = row.try_get_unchecked(5)?;
    Ok(First {
        backend: (told.as_deref() == Some(pool.instance.id())).then(|| backend.into()),
        server: row.try_get_unchecked(1)?,
        role: Role {
            standby: row.try_get_unchecked(3)?,
            read_only: row.try_get_unchecked(4)?,
            timeline: timeline.cast_unsigned(),
        },
    })
}

/// Who has answered: a session, and the server that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answerer {
    pub(crate) session: String,
    pub(crate) server: String,
}

/// How it is asked who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// As what any standby could answer.
    Plainly,
    /// With a function that may do anything, which only the primary may be sent.
    AsOfPrimary,
}

/// Asks who answers, which is another question than whose the connection is.
pub(crate) async fn who(
    connection: &mut PgConnection,
    asked: Asked,
) -> Result<Answerer, sqlx::Error> {
    let sql = match asked {
        Asked::Plainly => format!("select {SESSION} from {OWN}"),
        Asked::AsOfPrimary => format!("select {SESSION}, pg_is_in_recovery() from {OWN}"),
    };
    let row = one_row(connection, sql).await?;
    Ok(Answerer {
        session: row.try_get_unchecked(0)?,
        server: row.try_get_unchecked(1)?,
    })
}

async fn one_row(connection: &mut PgConnection, sql: String) -> Result<PgRow, sqlx::Error> {
    // Text protocol: a prepared statement would stay on the server for a query that never comes again.
    let sql = AssertSqlSafe(sql).into_sql_str();
    sqlx::raw_sql(sql).fetch_one(connection).await
}
