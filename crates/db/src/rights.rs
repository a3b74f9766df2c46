//! What the pool's role lacks in its schema and its database, each with the statement that mends it.

use sqlx::Row;

use crate::error::{Error, code_of};
use crate::pool::Pool;

/// The schema that unqualified names mean: the first that is there and open to the role, else the first that is asked for.
const QUESTION: &str = "
    select quote_ident(current_user), quote_ident(current_database()), quote_ident(wanted.name), n.oid is not null,
           coalesce(has_schema_privilege(n.oid, 'usage'), false),
           coalesce(has_schema_privilege(n.oid, 'create'), false),
           has_database_privilege(current_database(), 'create'),
           (select string_agg(quote_ident(c.relname), ', ' order by c.relname) from pg_class c
             where c.relnamespace = n.oid and c.relkind in ('r', 'p') and c.relname <> '_sqlx_migrations'
               and not has_table_privilege(c.oid, 'select'))
      from (select coalesce(current_schema(),
                            (select trim(both ' \"' from name)
                               from unnest(string_to_array(current_setting('search_path'), ',')) with ordinality as t(name, place)
                              where name not like '%$user%' order by place limit 1),
                            'public')::name as name) as wanted
      left join pg_namespace n on n.nspname = wanted.name";

impl Error {
    /// Whether the role may not do what was asked, or there is no schema to do it in.
    #[must_use]
    pub fn is_of_rights(&self) -> bool {
        use sqlx::migrate::MigrateError::{Execute, ExecuteMigration};
        let error = match self {
            Self::Sqlx(error) => error,
            Self::Migrate(Execute(error) | ExecuteMigration(error, _)) => error,
            _ => return false,
        };
        matches!(code_of(error).as_deref(), Some("42501" | "3F000"))
    }
}

impl Pool {
    /// What the role lacks to use its schema or, if it is `to_migrate`, to make tables in it and extensions in its database,
    /// with the statement that the owner has to run. Nothing if nothing is lacking.
    ///
    /// ```no_run
    /// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
    /// if let Some(lacking) = pool.lacking_rights(true).await? {
    ///     eprintln!("{lacking}"); // role app may not create in schema public: grant usage, create on schema public to app
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`Pool::acquire`], or the server's.
    pub async fn lacking_rights(&self, to_migrate: bool) -> Result<Option<String>, Error> {
        let row = sqlx::query(QUESTION)
            .fetch_one(self)
            .await
            .map_err(Error::from)?;
        let name = |index: usize| row.try_get::<String, _>(index).map_err(Error::from);
        let is = |index: usize| row.try_get::<bool, _>(index).map_err(Error::from);
        let (role, database, schema) = (name(0)?, name(1)?, name(2)?);
        let (exists, used, made_in, extended) = (is(3)?, is(4)?, is(5)?, is(6)?);
        let unread: Option<String> = row.try_get(7).map_err(Error::from)?;
        if let (true, true, Some(tables)) = (exists, used, unread) {
            return Ok(Some(format!(
                "role {role} may not read {tables}: grant select, insert, update, delete on all tables in schema {schema} to {role}"
            )));
        }
        let rights = if to_migrate { "usage, create" } else { "usage" };
        Ok(
            match (
                exists,
                used,
                !to_migrate || made_in,
                !to_migrate || extended,
            ) {
                (false, ..) => Some(format!(
                    "schema {schema} does not exist in database {database}: create schema {schema} authorization {role}"
                )),
                (_, false, ..) => Some(format!(
                    "role {role} may not use schema {schema}: grant {rights} on schema {schema} to {role}"
                )),
                (_, _, false, _) => Some(format!(
                    "role {role} may not create in schema {schema}: grant {rights} on schema {schema} to {role}"
                )),
                (.., false) => Some(format!(
                    "role {role} may not create extensions in database {database}: grant create on database {database} to {role}"
                )),
                _ => None,
            },
        )
    }
}
