//! The doctor: what the server allows, what this pool takes of it, and what to change.

pub(crate) mod checks;
mod connections;

use std::fmt;
use std::sync::PoisonError;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};

use crate::config::hosts::Host;
use crate::config::{Config, TargetSessionAttrs};
use crate::error::Error;
use crate::fleet::Fleet;
use crate::pool::Pool;

use crate::doctor::checks::{Check, Verdict};
use crate::doctor::connections::{max_connections, summary};

/// What [`Pool::examine`] found. Printed, it is a line for each fact and each check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What the pool may take and takes, in one line: for the log at start.
    pub summary: String,
    /// Everything else worth knowing.
    pub facts: Vec<String>,
    /// What is wrong and what to do about it. Empty when all is well.
    pub warnings: Vec<String>,
    /// The checklist before production, in the order in which one would go through it. What is wrong is in it too.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether a check says that something has to be changed.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        let changes = |check: &Check| check.verdict == Verdict::Change;
        !self.checks.iter().any(changes)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary)?;
        for fact in &self.facts {
            writeln!(f, "  {fact}")?;
        }
        for check in &self.checks {
            writeln!(f, "  {check}")?;
        }
        Ok(())
    }
}

impl Pool {
    /// Asks the server for its limits and holds the pool's settings against them.
    ///
    /// ```no_run
    /// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
    /// let report = pool.examine().await?;
    /// println!("{report}");
    /// if !report.is_ok() {
    ///     std::process::exit(1);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn examine(&self) -> Result<Report, Error> {
        let failed = |error| Error::from(error);
        let question = AssertSqlSafe(self.0.instance.question());
        let row = sqlx::query(question)
            .fetch_one(self)
            .await
            .map_err(failed)?;
        let fleet = Fleet::read(&row).map_err(failed)?;
        let row = sqlx::query(QUESTIONS)
            .fetch_one(self)
            .await
            .map_err(failed)?;
        let pooled = !self.has_sessions().await?;
        let answers = Answers::read(fleet, pooled, &row).map_err(failed)?;
        let (limit, open) = (
            self.0.permits.whole_limit() as i32,
            self.stats().open as i32,
        );
        // Behind a pooler none of the server's are this pool's own.
        let own = if answers.pooled { 0 } else { limit };
        let limits = answers.fleet.limits(own, open);
        let server = self.0.server.lock();
        *server.unwrap_or_else(PoisonError::into_inner) = Some(limits);
        Ok(report(self.config(), limit, open, &answers))
    }
}

fn report(config: &Config, limit: i32, open: i32, answers: &Answers) -> Report {
    let at_start = at_start(config, limit, answers);
    let changes = at_start.iter().filter(|one| one.verdict == Verdict::Change);
    Report {
        summary: summary(config, limit, open, &answers.fleet, answers.pooled),
        facts: facts(config, limit, answers),
        warnings: changes.map(|check| check.text.clone()).collect(),
        checks: std::iter::once(limit_is_set(config))
            .chain(at_start)
            .chain([role(config, answers)])
            .collect(),
    }
}

/// What is looked at also at each start.
fn at_start(config: &Config, limit: i32, answers: &Answers) -> Vec<Check> {
    let idle = config
        .max_idle_connection_lifetime
        .map_or(u64::MAX, |idle| idle.as_secs());
    let ended = answers.idle_session_timeout > 0 && idle >= answers.idle_session_timeout as u64;
    let ended = ended.then(|| {
        format!(
            "the server ends idle sessions after {} s: set max_idle_connection_lifetime below that",
            answers.idle_session_timeout
        )
    });
    let hosts = config.hosts().len();
    let several = (hosts > 1).then(|| {
        let any = config.target_session_attrs == TargetSessionAttrs::Any;
        let change = any.then(|| {
            format!(
                "DATABASE_URL has {hosts} hosts, and any of them will do: set target_session_attrs=read-write, so that no write \
                 goes to a standby"
            )
        });
        let wanted = config.target_session_attrs;
        Check::unless("hosts", change, format!("{hosts}, of which one has to be {wanted}"))
    });
    let wrong_order = Some(order(config).join("; ")).filter(|text| !text.is_empty());
    let tls = match answers.tls {
        true => "on",
        false => "off, on this machine",
    };
    let kept = "the server does not end them before the pool does";
    let none = || "none, as far as can be seen".to_owned();
    let checks = [
        max_connections(config, limit, &answers.fleet, answers.pooled),
        Check::unless("timeouts", wrong_order, "lock < statement < socket"),
        Check::unless("TLS", security(config, answers), tls),
        Check::unless("idle sessions", ended, kept),
        Check::unless(
            "sessions",
            without_effect(config, answers),
            "UTC and ISO dates, as the driver sets them",
        ),
        Check::unless(
            "pooler",
            pooler(config, answers),
            between(config, answers).unwrap_or_else(none),
        ),
    ];
    several.into_iter().chain(checks).collect()
}

/// Whether somebody has decided how many connections this service may take.
fn limit_is_set(config: &Config) -> Check {
    let settings = config.settings();
    let connection_limit = settings.iter().find(|one| one.key == "connection_limit");
    let (limit, from) = connection_limit.map_or(("", ""), |one| (&one.value, one.from));
    let change = (from == "default").then(|| {
        format!(
            "connection_limit is {limit} because nobody set it: write it into DATABASE_URL, so that a place has its own"
        )
    });
    Check::unless(
        "limit",
        change,
        format!("connection_limit is set, to {limit}"),
    )
}

/// Whether who gets into the service gets the whole server.
fn role(config: &Config, answers: &Answers) -> Check {
    let role = config.username();
    let change = answers.rights.as_ref().map(|rights| {
        format!("{role} {rights}: give the service a role that may only use its own tables")
    });
    Check::unless(
        "role",
        change,
        format!("{role} has no rights beyond its own tables"),
    )
}

fn facts(config: &Config, limit: i32, answers: &Answers) -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // A limit that follows fits by itself, and one behind a pooler is not the server's.
    let formula = (!config.connection_limit_auto && !answers.pooled).then(|| {
        format!(
            "instances × limit ≤ 80 %: up to {} instances of {limit}",
            answers.fleet.budget() / limit.max(1)
        )
    });
    let others = [
        format!(
            "cores × 2 + spindles: {} for a server with this machine's {cores} cores and one disk",
            cores * 2 + 1
        ),
        format!(
            "timeouts: lock {}, statement {}, socket {}, pool {}",
            say(config.lock_timeout),
            say(config.statement_timeout),
            say(config.socket_timeout),
            say(config.pool_timeout)
        ),
    ];
    formula.into_iter().chain(others).collect()
}

/// What somebody on the network could read or pretend.
fn security(config: &Config, answers: &Answers) -> Option<String> {
    if config.tls.unchecked {
        return Some(
            "the server's certificate is not checked, although its authority is named: set sslmode=verify-full or \
             sslaccept=strict"
                .to_owned(),
        );
    }
    let open = !answers.tls && answers.port.is_some() && !is_local(config);
    open.then(|| {
        format!(
            "the connection to {} is not encrypted: set sslmode=verify-full and sslrootcert",
            config.address()
        )
    })
}

/// What somebody has set for each session, and the driver sets otherwise.
fn without_effect(config: &Config, answers: &Answers) -> Option<String> {
    let settings = answers.overridden.as_ref()?;
    let (role, database) = (config.username(), config.database());
    Some(format!(
        "{settings} of the role {role} or the database {database} has no effect here: the driver sets UTC and ISO in each session; \
         convert in SQL (`at time zone`, `to_char`), or set it in Config::after_connect"
    ))
}

/// What has to be set elsewhere, because a pooler in between does not pass it on.
fn pooler(config: &Config, answers: &Answers) -> Option<String> {
    let endless = answers.pooled && answers.statement_timeout == "0";
    endless.then(|| {
        format!(
            "the server ends no statement by itself, because the pooler does not pass statement_timeout on: alter role \
             \"{}\" set statement_timeout = '5s'",
            config.username()
        )
    })
}

/// lock < statement < socket: each deadline has to leave the one inside it the time to speak first.
fn order(config: &Config) -> Vec<String> {
    let nested = [
        (
            "lock_timeout",
            config.lock_timeout,
            "statement_timeout",
            config.statement_timeout,
        ),
        (
            "statement_timeout",
            config.statement_timeout,
            "socket_timeout",
            config.socket_timeout,
        ),
    ];
    let wrong = nested
        .into_iter()
        .filter(|(_, inner, _, outer)| match (inner, outer) {
            (Some(inner), Some(outer)) => inner >= outer,
            (None, Some(_)) => true,
            (_, None) => false,
        });
    wrong
        .map(|(inner, is, outer, than)| {
            let cost = if outer == "socket_timeout" {
                "the connection is lost with each late statement"
            } else {
                "its own error is never seen"
            };
            format!(
                "{inner} ({}) should be shorter than {outer} ({}): {cost}",
                say(is),
                say(than)
            )
        })
        .collect()
}

/// What is between this process and the server, if there is a sign of it.
fn between(config: &Config, answers: &Answers) -> Option<String> {
    if answers.pooled {
        return Some("one such as PgBouncer, which keeps prepared statements apart".to_owned());
    }
    let asked = config.server().and_then(|(_, port)| port);
    let asked = asked.map(i32::from);
    match (answers.port, asked) {
        (Some(port), Some(asked)) if port != asked => Some(format!(
            "a proxy or pooler: the server listens on port {port}, not {asked}"
        )),
        _ => None,
    }
}

fn is_local(config: &Config) -> bool {
    let local = |host: &Host| {
        let address = host.to_string();
        ["localhost:", "127.", "::1:", "/"]
            .iter()
            .any(|local| address.starts_with(local))
    };
    config.hosts().iter().all(local)
}

fn say(limit: Option<Duration>) -> String {
    limit.map_or_else(|| "none".to_owned(), |limit| format!("{limit:?}"))
}

/// What is asked beside the question about the fleet, in one statement.
const QUESTIONS: &str = "
    select current_setting('statement_timeout'),
           coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false),
           inet_server_port(),
           coalesce(extract(epoch from current_setting('idle_session_timeout')::interval)::int, 0),
           (select case when rolsuper then 'is a superuser'
                        else 'has ' || nullif(concat_ws(', ', case when rolcreaterole then 'CREATEROLE' end,
                                                              case when rolcreatedb then 'CREATEDB' end,
                                                              case when rolreplication then 'REPLICATION' end,
                                                              case when rolbypassrls then 'BYPASSRLS' end), '') end
              from pg_roles where rolname = current_user),
           (select string_agg(distinct setting, ', ')
              from pg_db_role_setting, unnest(setconfig) setting
             where setrole in (0, (select oid from pg_roles where rolname = current_user))
               and setdatabase in (0, (select oid from pg_database where datname = current_database()))
               and setting ~* '^(timezone|datestyle|client_encoding)='
               and setting !~* '=(UTC|Etc/UTC|GMT|ISO, MDY|ISO|UTF8)$')";

struct Answers {
    fleet: Fleet,
    statement_timeout: String,
    tls: bool,
    port: Option<i32>,
    idle_session_timeout: i32,
    /// Whether a pooler is between the pool and the server.
    pooled: bool,
    /// What the role may do beyond its own tables, such as `is a superuser`, `has CREATEROLE, BYPASSRLS`.
    rights: Option<String>,
    /// Settings of the role or the database that the driver overrides, such as `TimeZone=Europe/Berlin`.
    overridden: Option<String>,
}

impl Answers {
    fn read(fleet: Fleet, pooled: bool, row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            fleet,
            statement_timeout: row.try_get(0)?,
            tls: row.try_get(1)?,
            port: row.try_get(2)?,
            idle_session_timeout: row.try_get(3)?,
            pooled,
            rights: row.try_get(4)?,
            overridden: row.try_get(5)?,
        })
    }
}

#[cfg(test)]
mod tests;
