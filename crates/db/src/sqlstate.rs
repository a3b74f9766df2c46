//! What follows from an error of the server, by its SQLSTATE: the one table of codes, and who reads it.

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

use AtReplica::{Stands, ToPrimary, ToPrimaryForAWhile};
use Client::{Fault, Unavailable};
use Loss::{ReadOnly, Server, Session};
use Refusal::{MayBeCredentials, NoCredentials};
use SessionAfter::{Ends, Stays};
use StatementAfter::{
    Conflict, CutOff, Failed, InTransaction, NeverRan, NotHere, OutOfTime, Prepared,
};

#[cfg(test)]
mod tests;

/// What became of the statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatementAfter {
    /// It failed, and would again.
    Failed,
    /// It was cut off: where the session has ended, one that only reads is run again.
    CutOff,
    /// It was surely not begun, so it is run elsewhere.
    NeverRan,
    /// It took too long, or somebody ended it: nothing is run again.
    OutOfTime,
    /// It lost against another transaction: the whole transaction may be run again.
    Conflict,
    /// It does not fit any more as it was prepared: prepared anew it does.
    Prepared,
    /// It was not accepted, because a transaction is open.
    InTransaction,
    /// It was not carried out, because the session takes no writes.
    NotHere,
}

/// What becomes of the session. One whose error is fatal ends in any case; these end also where somebody in between calls them
/// errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionAfter {
    Stays,
    Ends,
}

/// What an error says about the other connections of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// This session ended; the others may be well.
    Session,
    /// This session takes no writes: whether its server does is to be asked.
    ReadOnly,
    /// The connection failed without a word, as the others may have.
    Connection,
    /// The server went away: the others are of no further use.
    Server,
}

/// What the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// The request, or the program, is wrong.
    Fault,
    /// The database is the trouble: later it may go well.
    Unavailable,
}

/// What a refusal to log in may be about. A pooler has codes of its own for a wrong password, so it is known only what is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    MayBeCredentials,
    NoCredentials,
}

/// What is done where a replica says it, whose primary could be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtReplica {
    /// The primary would say the same.
    Stands,
    /// The primary is asked: the replica lacks what was just made, or takes no writes.
    ToPrimary,
    /// The primary is asked, for a while also the next times: the replica has a lock, a conflict, or trouble of its own, although it is well.
    ToPrimaryForAWhile,
}

type Row = (
    &'static str,
    StatementAfter,
    SessionAfter,
    Loss,
    Client,
    Refusal,
    AtReplica,
);

/// Codes, then classes, then everything else: the first that fits counts. All of PostgreSQL 18's codes of the classes 08, 25,
/// 40, 53 and 57 are here, and what a decision hangs on of the others.
#[rustfmt::skip]
pub(crate) const TABLE: &[Row] = &[
    // Connection exceptions. A server has few of them; poolers use 08P01 for what they say themselves, and foreign tables
    // 08001 for another server that cannot be reached.
    ("08000", CutOff, Stays, Session, Unavailable, MayBeCredentials, Stands), // connection_exception
    ("08001", CutOff, Stays, Session, Unavailable, MayBeCredentials, Stands), // sqlclient_unable_to_establish_sqlconnection
    ("08003", CutOff, Stays, Session, Unavailable, MayBeCredentials, Stands), // connection_does_not_exist
    ("08004", CutOff, Stays, Session, Unavailable, MayBeCredentials, Stands), // sqlserver_rejected_establishment_of_sqlconnection
    ("08006", CutOff, Stays, Session, Unavailable, MayBeCredentials, Stands), // connection_failure
    ("08007", CutOff, Stays, Session, Unavailable, MayBeCredentials, Stands), // transaction_resolution_unknown
    ("08P01", CutOff, Stays, Session, Fault, MayBeCredentials, Stands), // protocol_violation: also a missing argument
    // Invalid transaction states.
    ("25000", Failed, Stays, Session, Fault, NoCredentials, Stands), // invalid_transaction_state
    ("25001", InTransaction, Stays, Session, Fault, NoCredentials, Stands), // active_sql_transaction
    ("25002", Failed, Stays, Session, Fault, NoCredentials, Stands), // branch_transaction_already_active
    ("25003", Failed, Stays, Session, Fault, NoCredentials, Stands), // inappropriate_access_mode_for_branch_transaction
    ("25004", Failed, Stays, Session, Fault, NoCredentials, Stands), // inappropriate_isolation_level_for_branch_transaction
    ("25005", Failed, Stays, Session, Fault, NoCredentials, Stands), // no_active_sql_transaction_for_branch_transaction
    ("25006", NotHere, Stays, ReadOnly, Unavailable, NoCredentials, ToPrimary), // read_only_sql_transaction
    ("25007", Failed, Stays, Session, Fault, NoCredentials, Stands), // schema_and_data_statement_mixing_not_supported
    ("25008", Failed, Stays, Session, Fault, NoCredentials, Stands), // held_cursor_requires_same_isolation_level
    ("25P01", Failed, Stays, Session, Fault, NoCredentials, Stands), // no_active_sql_transaction
    ("25P02", InTransaction, Stays, Session, Fault, NoCredentials, Stands), // in_failed_sql_transaction
    ("25P03", CutOff, Ends, Session, Unavailable, NoCredentials, Stands), // idle_in_transaction_session_timeout
    ("25P04", OutOfTime, Ends, Session, Unavailable, NoCredentials, Stands), // transaction_timeout
    // Transactions that were rolled back.
    ("40000", Conflict, Stays, Session, Unavailable, NoCredentials, ToPrimaryForAWhile), // transaction_rollback
    ("40001", Conflict, Stays, Session, Unavailable, NoCredentials, ToPrimaryForAWhile), // serialization_failure; on a standby it may be fatal
    ("40002", Failed, Stays, Session, Fault, NoCredentials, ToPrimaryForAWhile), // transaction_integrity_constraint_violation
    ("40003", CutOff, Stays, Session, Unavailable, NoCredentials, ToPrimaryForAWhile), // statement_completion_unknown
    ("40P01", Conflict, Stays, Session, Unavailable, NoCredentials, ToPrimaryForAWhile), // deadlock_detected
    // Insufficient resources.
    ("53000", Failed, Stays, Session, Unavailable, NoCredentials, ToPrimaryForAWhile), // insufficient_resources
    ("53100", Failed, Stays, Session, Unavailable, NoCredentials, ToPrimaryForAWhile), // disk_full
    ("53200", Failed, Stays, Session, Unavailable, NoCredentials, ToPrimaryForAWhile), // out_of_memory
    ("53300", Failed, Stays, Session, Unavailable, NoCredentials, ToPrimaryForAWhile), // too_many_connections
    ("53400", Failed, Stays, Session, Unavailable, NoCredentials, ToPrimaryForAWhile), // configuration_limit_exceeded
    // Operator intervention.
    ("57000", CutOff, Stays, Session, Unavailable, NoCredentials, ToPrimary), // operator_intervention
    ("57014", OutOfTime, Stays, Session, Unavailable, NoCredentials, ToPrimaryForAWhile), // query_canceled: statement_timeout, or by somebody
    ("57P01", CutOff, Ends, Session, Unavailable, NoCredentials, ToPrimary), // admin_shutdown: of one session or of the server
    ("57P02", CutOff, Ends, Server, Unavailable, NoCredentials, ToPrimary), // crash_shutdown
    ("57P03", CutOff, Ends, Server, Unavailable, NoCredentials, ToPrimary), // cannot_connect_now
    ("57P04", CutOff, Ends, Session, Unavailable, NoCredentials, ToPrimary), // database_dropped
    ("57P05", NeverRan, Ends, Session, Unavailable, NoCredentials, ToPrimary), // idle_session_timeout: it can be read before any query is sent
    // Of other classes.
    ("0A000", Prepared, Stays, Session, Fault, NoCredentials, ToPrimary), // feature_not_supported: also a plan that does not fit any more
    ("26000", Prepared, Stays, Session, Fault, NoCredentials, Stands), // invalid_sql_statement_name
    ("3D000", Failed, Stays, Session, Fault, NoCredentials, ToPrimary), // invalid_catalog_name
    ("42501", Failed, Stays, Session, Fault, MayBeCredentials, ToPrimary), // insufficient_privilege: another user may have it
    ("55P03", OutOfTime, Stays, Session, Unavailable, NoCredentials, ToPrimaryForAWhile), // lock_not_available: lock_timeout
    // Classes. Settings that a startup names are of 22, 42 and 55, with whatever password. 3F is a schema that is not there, 58 and XX
    // are faults of the machine and of the data.
    ("08", CutOff, Stays, Session, Unavailable, MayBeCredentials, Stands),
    ("22", Failed, Stays, Session, Fault, NoCredentials, Stands),
    ("25", Failed, Stays, Session, Fault, NoCredentials, Stands),
    ("3D", Failed, Stays, Session, Fault, NoCredentials, ToPrimary),
    ("3F", Failed, Stays, Session, Fault, MayBeCredentials, ToPrimary),
    ("40", Failed, Stays, Session, Fault, NoCredentials, ToPrimaryForAWhile),
    ("42", Failed, Stays, Session, Fault, NoCredentials, ToPrimary),
    ("53", Failed, Stays, Session, Unavailable, NoCredentials, ToPrimaryForAWhile),
    ("55", Failed, Stays, Session, Fault, NoCredentials, ToPrimary),
    ("57", CutOff, Stays, Session, Unavailable, NoCredentials, ToPrimary),
    ("58", Failed, Stays, Session, Fault, MayBeCredentials, ToPrimaryForAWhile),
    ("XX", Failed, Stays, Session, Fault, MayBeCredentials, ToPrimaryForAWhile),
    ("", Failed, Stays, Session, Fault, MayBeCredentials, Stands),
];

/// The line of a code, or of its class.
fn row(code: &str) -> &'static Row {
    let fits = |row: &&Row| code.starts_with(row.0);
    let row = TABLE.iter().find(fits);
    row.unwrap_or(&TABLE[TABLE.len() - 1])
}

/// What became of the statement that the server answered so.
pub(crate) fn statement(error: &dyn DatabaseError) -> StatementAfter {
    match row(&error.code().unwrap_or_default()).1 {
        // Also everything else that a server cannot do. The routine has the same name in every language; who leaves it out
        // may mean either.
        Prepared if error.code().as_deref() == Some("0A000") => {
            let error = error.try_downcast_ref::<PgDatabaseError>();
            match error.and_then(PgDatabaseError::routine) {
                Some("RevalidateCachedQuery") | None => Prepared,
                Some(_) => Failed,
            }
        }
        statement => statement,
    }
}

/// Whether the session is over. The server says by the severity whether it goes on.
pub(crate) fn ends(error: &dyn DatabaseError) -> bool {
    is_fatal(error) || row(&error.code().unwrap_or_default()).2 == Ends
}

/// What it says about the other connections, which speak to the same server.
pub(crate) fn loss(error: &dyn DatabaseError) -> Loss {
    match severity(error) {
        // It takes all sessions of the server along.
        Some(PgSeverity::Panic) => Server,
        _ => row(&error.code().unwrap_or_default()).3,
    }
}

/// Whether the client may try again later.
pub(crate) fn is_unavailable(error: &dyn DatabaseError) -> bool {
    ends(error) || row(&error.code().unwrap_or_default()).4 == Unavailable
}

/// Whether a refusal to log in may be about the user or the password.
pub(crate) fn may_be_credentials(code: &str) -> bool {
    row(code).5 == MayBeCredentials
}

/// What is done where a replica says it.
pub(crate) fn at_replica(error: &dyn DatabaseError) -> AtReplica {
    row(&error.code().unwrap_or_default()).6
}

/// Whether a pooler ended the session, not the server, which has none of these codes for a client that keeps to the protocol.
pub(crate) fn is_of_pooler(error: &dyn DatabaseError) -> bool {
    is_fatal(error) && error.code().unwrap_or_default().starts_with("08")
}

/// Whether the server itself has ended the session from outside, which undoes what it has not answered. A pooler's own word may come
/// after the server has carried something out.
pub(crate) fn is_end_by_server(error: &dyn DatabaseError) -> bool {
    is_fatal(error) && error.code().unwrap_or_default().starts_with("57")
}

fn is_fatal(error: &dyn DatabaseError) -> bool {
    matches!(severity(error), Some(PgSeverity::Fatal | PgSeverity::Panic))
}

fn severity(error: &dyn DatabaseError) -> Option<PgSeverity> {
    let error = error.try_downcast_ref::<PgDatabaseError>();
    error.map(PgDatabaseError::severity)
}
