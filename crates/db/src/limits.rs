//! What the server allows, and who is on it.

use sqlx::Row;
use sqlx::postgres::PgRow;

/// Everything in one statement. `reserved_connections` exists from PostgreSQL 16 on.
pub(crate) const QUESTIONS: &str = "
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
           exists (select from pg_prepared_statements where name ^@ 'sqlx_s_')";

pub(crate) struct Answers {
    pub(crate) version: String,
    pub(crate) most: i32,
    pub(crate) reserved: i32,
    pub(crate) sessions: i32,
    pub(crate) role: i32,
    pub(crate) database: i32,
    pub(crate) statement_timeout: String,
    pub(crate) tls: bool,
    pub(crate) port: Option<i32>,
    pub(crate) idle_session_timeout: i32,
    /// Whether this very statement got to the server under the name that sqlx gave it.
    pub(crate) named_by_us: bool,
}

impl Answers {
    pub(crate) fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
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
        })
    }

    /// Four fifths of what the server gives to ordinary roles: the rest is for deployments and for psql.
    pub(crate) fn budget(&self) -> i32 {
        let limits = [self.role, self.database]
            .into_iter()
            .filter(|limit| *limit >= 0);
        limits.fold(self.most - self.reserved, i32::min) * 4 / 5
    }
}
