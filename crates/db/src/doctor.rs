//! The doctor: what the server allows, what this pool takes of it, and what to change.

pub(crate) mod checks;

use std::fmt;
use std::sync::PoisonError;
use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::config::Config;
use crate::error::Error;
use crate::pool::Pool;
use crate::server_limits::ServerLimits;

use crate::doctor::checks::{Check, Verdict};

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
        let row = sqlx::query(QUESTIONS)
            .fetch_one(self)
            .await
            .map_err(Error::from)?;
        let answers = Answers::read(&row).map_err(Error::from)?;
        let (limit, open) = (self.stats().limit as i32, self.stats().open as i32);
        let limits = answers.limits(limit, open);
        let server = self.0.server.lock();
        *server.unwrap_or_else(PoisonError::into_inner) = Some(limits);
        Ok(report(self.config(), limit, open, &answers))
    }
}

fn report(config: &Config, limit: i32, open: i32, answers: &Answers) -> Report {
    let budget = answers.budget();
    let others = answers.others(open);
    let summary = format!(
        "PostgreSQL {} at {}: this pool takes up to {limit} of the {budget} connections that all instances together may \
         take (80 % of {}); others have {others} open",
        answers.version,
        config.address(),
        answers.most - answers.reserved
    );
    let at_start = at_start(config, limit, others, answers);
    let changes = at_start.iter().filter(|one| one.verdict == Verdict::Change);
    Report {
        summary,
        facts: facts(config, limit, answers),
        warnings: changes.map(|check| check.text.clone()).collect(),
        checks: std::iter::once(limit_is_set(config))
            .chain(at_start)
            .chain([role(config, answers)])
            .collect(),
    }
}

/// What is looked at also at each start.
fn at_start(config: &Config, limit: i32, others: i32, answers: &Answers) -> [Check; 5] {
    let budget = answers.budget();
    let too_many = (limit + others > budget).then(|| {
        format!(
            "{limit} connections here and {others} elsewhere are more than the {budget} there are for all: lower \
             connection_limit or the number of instances, or raise max_connections"
        )
    });
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
    let wrong_order = Some(order(config).join("; ")).filter(|text| !text.is_empty());
    let tls = match answers.tls {
        true => "on",
        false => "off, on this machine",
    };
    let room =
        format!("{limit} here and {others} elsewhere are within the {budget} there are for all");
    let kept = "the server does not end them before the pool does";
    let none = || "none, as far as can be seen".to_owned();
    let pooler = pooler(config, answers).map(str::to_owned);
    [
        Check::unless("max_connections", too_many, room),
        Check::unless("timeouts", wrong_order, "lock < statement < socket"),
        Check::unless("TLS", security(config, answers), tls),
        Check::unless("idle sessions", ended, kept),
        Check::unless(
            "pooler",
            pooler,
            between(config, answers).unwrap_or_else(none),
        ),
    ]
}

/// Whether somebody has decided how many connections this service may take.
fn limit_is_set(config: &Config) -> Check {
    let settings = config.settings();
    let set = settings
        .iter()
        .any(|one| one.key == "connection_limit" && one.from != "default");
    let limit = config.connection_limit;
    let change = (!set).then(|| {
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
    vec![
        format!(
            "instances × limit ≤ 80 %: up to {} instances of {limit}",
            answers.budget() / limit.max(1)
        ),
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
    ]
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

/// What a pooler in between has to be told, or cannot do.
fn pooler(config: &Config, answers: &Answers) -> Option<&'static str> {
    if !config.pgbouncer && is_pooled(config, answers) {
        return Some(
            "behind PgBouncer in transaction mode set pgbouncer=true (PgBouncer 1.21 or later)",
        );
    }
    (config.pgbouncer && answers.named_by_us).then_some(
        "PgBouncer does not keep the clients' prepared statements apart, so one may run another's: use 1.21 or later \
         with max_prepared_statements above 0, or connect to the server itself without pgbouncer=true",
    )
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
            (None, Some(_)) => !config.pgbouncer,
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
    if config.pgbouncer {
        return Some("PgBouncer, as pgbouncer=true says".to_owned());
    }
    if is_pooled(config, answers) {
        return Some("a pooler: it changes what we say to the server".to_owned());
    }
    let asked = config
        .address()
        .rsplit(':')
        .next()
        .and_then(|port| port.parse::<i32>().ok());
    match (answers.port, asked) {
        (Some(port), Some(asked)) if port != asked => Some(format!(
            "a proxy or pooler: the server listens on port {port}, not {asked}"
        )),
        _ => None,
    }
}

/// Every session is told its `statement_timeout` when it starts, and every statement has a name of ours.
fn is_pooled(config: &Config, answers: &Answers) -> bool {
    let untold = config.statement_timeout.is_some() && answers.statement_timeout == "0";
    untold || !answers.named_by_us
}

fn is_local(config: &Config) -> bool {
    let address = config.address();
    ["localhost:", "127.", "::1:", "/"]
        .iter()
        .any(|local| address.starts_with(local))
}

fn say(limit: Option<Duration>) -> String {
    limit.map_or_else(|| "none".to_owned(), |limit| format!("{limit:?}"))
}

/// Everything in one statement. `reserved_connections` exists from PostgreSQL 16 on.
const QUESTIONS: &str = "
    select current_setting('server_version'),
           current_setting('max_connections')::int,
           current_setting('superuser_reserved_connections')::int
             + coalesce(current_setting('reserved_connections', true)::int, 0),
           (select count(*)::int from pg_stat_activity
             where backend_type = 'client backend' and pid <> pg_backend_pid()),
           (select rolconnlimit from pg_roles where rolname = current_user),
           (select datconnlimit from pg_database where datname = current_database()),
           current_setting('statement_timeout'),
           coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false),
           inet_server_port(),
           coalesce(extract(epoch from current_setting('idle_session_timeout')::interval)::int, 0),
           exists (select from pg_prepared_statements where name ^@ 'sqlx_s_'),
           (select case when rolsuper then 'is a superuser'
                        else 'has ' || nullif(concat_ws(', ', case when rolcreaterole then 'CREATEROLE' end,
                                                              case when rolcreatedb then 'CREATEDB' end,
                                                              case when rolreplication then 'REPLICATION' end,
                                                              case when rolbypassrls then 'BYPASSRLS' end), '') end
              from pg_roles where rolname = current_user)";

struct Answers {
    version: String,
    most: i32,
    reserved: i32,
    sessions: i32,
    role: i32,
    database: i32,
    statement_timeout: String,
    tls: bool,
    port: Option<i32>,
    idle_session_timeout: i32,
    /// Whether this very statement got to the server under the name that sqlx gave it.
    named_by_us: bool,
    /// What the role may do beyond its own tables, such as `is a superuser`, `has CREATEROLE, BYPASSRLS`.
    rights: Option<String>,
}

impl Answers {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            version: row.try_get(0)?,
            most: row.try_get(1)?,
            reserved: row.try_get(2)?,
            sessions: row.try_get(3)?,
            role: row.try_get(4)?,
            database: row.try_get(5)?,
            statement_timeout: row.try_get(6)?,
            tls: row.try_get(7)?,
            port: row.try_get(8)?,
            idle_session_timeout: row.try_get(9)?,
            named_by_us: row.try_get(10)?,
            rights: row.try_get(11)?,
        })
    }

    /// What the server gives to this role, all instances together.
    fn usable(&self) -> i32 {
        let limits = [self.role, self.database]
            .into_iter()
            .filter(|limit| *limit >= 0);
        limits.fold(self.most - self.reserved, i32::min)
    }

    /// Four fifths of that: the rest is for deployments and for psql.
    fn budget(&self) -> i32 {
        self.usable() * 4 / 5
    }

    /// Sessions of others, where this pool has so many open.
    fn others(&self, open: i32) -> i32 {
        (self.sessions + 1 - open).max(0)
    }

    fn limits(&self, limit: i32, open: i32) -> ServerLimits {
        let others = self.others(open);
        let count = |number: i32| u32::try_from(number).unwrap_or(0);
        ServerLimits {
            version: self.version.clone(),
            max_connections: count(self.most),
            usable: count(self.usable()),
            budget: count(self.budget()),
            others: count(others),
            room: count(self.budget() - others - limit),
        }
    }
}

#[cfg(test)]
mod tests;
