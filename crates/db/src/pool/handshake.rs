//! One attempt to connect, with the options and the credentials of the moment.

use std::sync::{Arc, PoisonError};

use sqlx::PgConnection;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::config::hooks::Credentials;
use crate::config::hosts::Host;
use crate::connect_error::ConnectError;
use crate::fleet::Session;
use crate::pool::between::Kind;
use crate::pool::dial::dial;
use crate::pool::pooler;
use crate::pool::state::Shared;

/// How often one connection is tried with credentials that were never tried before.
const MOST_ATTEMPTS: u32 = 5;

/// What the next connection is opened with, at the host that was right last.
pub(crate) fn options(pool: &Shared) -> PgConnectOptions {
    options_at(pool, &pool.config.hosts()[pool.servers.last()])
}

fn options_at(pool: &Shared, host: &Host) -> PgConnectOptions {
    let options = pool.options.lock();
    let options = options.unwrap_or_else(PoisonError::into_inner).clone();
    at(host, pool, (*options).clone())
}

fn at(host: &Host, pool: &Shared, options: PgConnectOptions) -> PgConnectOptions {
    let options = match pool.config.hosts() {
        // It may have moved since: the environment is read again after a failure.
        [_] => options,
        _ => host.apply(options),
    };
    match options.get_socket() {
        // As libpq does it: who has the folder is the server, and nobody is in between.
        Some(_) => options.ssl_mode(PgSslMode::Disable),
        None => options,
    }
}

/// The same with the name that says whose the session is, which a pooler in between would have to change with each client.
/// Most poolers do not pass the instance on, by which they are found.
fn named(pool: &Shared, options: PgConnectOptions, session: Session) -> PgConnectOptions {
    let instance = [("pool.instance", pool.instance.id())];
    match (pool.takes_options(), session) {
        (false, Session::Asking) => options.options(instance),
        (false, _) => options,
        (true, _) => options
            .application_name(&pool.instance.name_of(session))
            .options(instance),
    }
}

/// What a connection of the pool is to its instance.
pub(crate) fn session(pool: &Shared) -> Session {
    match pool.follows() {
        true => Session::Following,
        false => Session::Fixed(pool.permits.whole_limit()),
    }
}

/// What sqlx's own pools open their connections with.
pub(crate) fn options_of_part(pool: &Shared) -> PgConnectOptions {
    named(pool, options(pool), session(pool))
}

/// Opens a connection to one of the hosts. Credentials that the server refuses are asked for again, as long as there are new
/// ones.
pub(crate) async fn establish(
    pool: &Shared,
    host: &Host,
    session: Session,
) -> Result<PgConnection, ConnectError> {
    let mut credentials = ask(pool, 0).await?;
    let mut refused = 0;
    loop {
        let told = pool.takes_options();
        let options = options_at(pool, host);
        // Not those that another connection has got meanwhile, which may be older.
        let options = match &credentials {
            Some(credentials) => credentials.apply(options),
            None => options,
        };
        let options = named(pool, options, session);
        let opened = dial(&pool.servers, &pool.config.tls, &options).await;
        let error =
            match opened.map_err(|source| ConnectError::new(&pool.config.only(host), source)) {
                // Perhaps it was told more than it takes.
                Err(error) if told && error.may_be_of_options() => {
                    match Box::pin(told_less(pool, host, credentials.as_ref())).await {
                        Some(connection) => return Ok(connection),
                        None if error.is_authentication() => error,
                        None => return Err(error),
                    }
                }
                Err(error) if error.is_authentication() => error,
                opened => return opened,
            };
        refused += 1;
        credentials = match &credentials {
            None if refused == 1 && read_again(pool) => None,
            Some(last) if refused < MOST_ATTEMPTS => {
                let next = ask(pool, refused).await?;
                if next.as_ref() == Some(last) {
                    return Err(error);
                }
                next
            }
            _ => return Err(error),
        };
    }
}

/// A connection that is told nothing, if it is let in where one that was told something is not. Who takes only what is ours is a
/// server, and what the URL has for it is wrong.
async fn told_less(
    pool: &Shared,
    host: &Host,
    credentials: Option<&Credentials>,
) -> Option<PgConnection> {
    let plain = pool.config.options_now(true);
    let plain = at(
        host,
        pool,
        plain.unwrap_or_else(|| pool.config.options(true)),
    );
    let plain = credentials.map_or(plain.clone(), |credentials| credentials.apply(plain));
    let ours = plain
        .clone()
        .options([("pool.instance", pool.instance.id())]);
    if dial(&pool.servers, &pool.config.tls, &ours).await.is_ok() {
        return None;
    }
    let connection = dial(&pool.servers, &pool.config.tls, &plain).await.ok()?;
    pooler::is(pool, Kind::Nothing, Kind::TransactionPooler);
    Some(connection)
}

/// Asks the provider, if there is one, for its credentials, and keeps them for those who cannot ask.
async fn ask(pool: &Shared, refused: u32) -> Result<Option<Credentials>, ConnectError> {
    let Some(provider) = &pool.config.hooks.credentials else {
        return Ok(None);
    };
    let given = provider(refused).await;
    let given = given.map_err(|error| ConnectError::credentials(&pool.config, error))?;
    keep(pool, given.apply(options(pool)));
    Ok(Some(given))
}

/// The same for the parts of the limit that sqlx's own pools have, which open their connections themselves.
pub(crate) async fn refresh(pool: Arc<Shared>) {
    if let Err(error) = ask(&pool, 0).await {
        tracing::warn!("the pools of sqlx's own keep the credentials that they have: {error}");
    }
}

/// Reads the connection settings again, because the server did not accept the password. Says whether it could.
fn read_again(pool: &Shared) -> bool {
    let options = pool.config.options_now(!pool.takes_options());
    options.map(|options| keep(pool, options)).is_some()
}

fn keep(pool: &Shared, options: PgConnectOptions) {
    *pool.options.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(options);
    tell_parts(pool);
}

/// Has the pools of sqlx's own open their connections with what is right now.
pub(crate) fn tell_parts(pool: &Shared) {
    let options = options_of_part(pool);
    for part in pool.permits.parts().iter() {
        part.pool.set_connect_options(options.clone());
    }
}
