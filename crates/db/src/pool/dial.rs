//! Opens one connection, by the ways that `sslmode` leaves where sqlx's own TLS does not get there.

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, PgConnection};
use tokio::net::UnixStream;

use crate::certificate;
use crate::config::tls::Tls;
use crate::error::code_of;
use crate::pool::addresses;
#[cfg(feature = "tls")]
use crate::pool::own_tls::{self, Check};
use crate::pool::relay::{LogIn, connect_over};
use crate::pool::servers::Servers;
use crate::said::{PASSWORD, said};

/// Opens a connection with these options.
///
/// `verify-ca` holds the certificate against one file alone. `prefer` and `require` check nothing, but rustls reads the certificate to check the handshake: what it cannot read is used
/// without. And `prefer` leaves TLS out, as libpq does, where there is no way to have it, or the server takes nobody with it.
pub(crate) async fn dial(
    servers: &Servers,
    tls: &Tls,
    options: &PgConnectOptions,
) -> Result<PgConnection, sqlx::Error> {
    let opened = match signed(tls, options, LogIn::BySqlx).await {
        Some(opened) => opened,
        None => addresses::connect(servers, options).await,
    };
    let error = match opened {
        Err(error) => error,
        opened => return opened,
    };
    let mode = options.get_ssl_mode();
    let prefers = matches!(mode, PgSslMode::Prefer);
    if is_password_unsendable(&error) {
        return with_raw_password(tls, options).await.unwrap_or(Err(error));
    }
    let failed = is_of_tls(&error);
    if failed
        && (prefers || matches!(mode, PgSslMode::Require))
        && let Some(opened) = unread(tls, options, LogIn::BySqlx).await
    {
        if matches!(&opened, Err(error) if is_password_unsendable(error)) {
            return with_raw_password(tls, options).await.unwrap_or(opened);
        }
        servers.say_unread(|| {
            tracing::warn!(
                "TLS without a look at the certificate of {}, which this sslmode does not check: {}",
                options.get_host(),
                why(&error, options)
            );
        });
        return opened;
    }
    match prefers && (failed || is_turned_away(&error)) {
        true => without_tls(servers, tls, options, error).await,
        false => Err(error),
    }
}

/// A connection without TLS, if that is possible, because it fails so with it.
async fn without_tls(
    servers: &Servers,
    tls: &Tls,
    options: &PgConnectOptions,
    error: sqlx::Error,
) -> Result<PgConnection, sqlx::Error> {
    let plain = options.clone().ssl_mode(PgSslMode::Disable);
    let opened = match plain.connect().await {
        Err(error) if is_password_unsendable(&error) => with_raw_password(tls, &plain).await,
        opened => Some(opened),
    };
    // What went wrong first is what is to be mended.
    let Some(Ok(connection)) = opened else {
        return Err(error);
    };
    servers.say_plain(|| {
        tracing::warn!(
            "the connections to {} are not encrypted, which sslmode=prefer allows, because with TLS it fails: {}",
            options.get_host(),
            why(&error, options)
        );
    });
    Ok(connection)
}

fn why(error: &sqlx::Error, options: &PgConnectOptions) -> String {
    match certificate::fault(error, options.get_host()) {
        Some(fault) => format!("the server's certificate {fault}"),
        None => said(error),
    }
}

#[cfg(feature = "tls")]
fn is_of_tls(error: &sqlx::Error) -> bool {
    certificate::of_rustls(error).is_some()
}

#[cfg(not(feature = "tls"))]
fn is_of_tls(_error: &sqlx::Error) -> bool {
    false
}

/// Whether `pg_hba.conf` has no place for a connection with TLS, or one of the other reasons for which a server takes nobody before
/// it asks for a password: it has one code for all.
fn is_turned_away(error: &sqlx::Error) -> bool {
    code_of(error).as_deref() == Some("28000")
}

/// A connection with the password as it is, if the mode leaves the check of the certificate to us.
async fn with_raw_password(
    tls: &Tls,
    options: &PgConnectOptions,
) -> Option<Result<PgConnection, sqlx::Error>> {
    let raw = LogIn::WithRawPassword;
    if let Some(folder) = options.get_socket() {
        let socket = folder.join(format!(".s.PGSQL.{}", options.get_port()));
        let stream = UnixStream::connect(socket).await.ok()?;
        return Some(connect_over(stream, options.clone(), raw).await);
    }
    let opened = match options.get_ssl_mode() {
        PgSslMode::VerifyCa | PgSslMode::VerifyFull => return signed(tls, options, raw).await,
        PgSslMode::Disable => None,
        _ => unread(tls, options, raw).await,
    };
    if opened.is_some() || matches!(options.get_ssl_mode(), PgSslMode::Require) {
        return opened;
    }
    let stream = addresses::open(options).await.ok()?;
    let options = options.clone().ssl_mode(PgSslMode::Disable);
    Some(connect_over(stream, options, raw).await)
}

fn is_password_unsendable(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Configuration(_)) && said(error).ends_with(PASSWORD)
}

/// A connection whose certificate one of the authorities of the file has signed, if that is what is asked for. sqlx would take
/// one of any authority that browsers trust, for whatever name.
#[cfg(feature = "tls")]
async fn signed(
    tls: &Tls,
    options: &PgConnectOptions,
    log_in: LogIn,
) -> Option<Result<PgConnection, sqlx::Error>> {
    let asked =
        matches!(options.get_ssl_mode(), PgSslMode::VerifyCa) && options.get_socket().is_none();
    let file = tls.authority.as_deref().filter(|_| asked)?;
    let stream = match own_tls::open(tls, Check::Authority(file), options).await {
        Ok(stream) => stream,
        Err(error) => {
            return Some(Err(match error.downcast::<std::io::Error>() {
                Ok(error) => sqlx::Error::Io(*error),
                Err(error) => sqlx::Error::Tls(error),
            }));
        }
    };
    let options = options.clone().ssl_mode(PgSslMode::Disable);
    Some(connect_over(stream, options, log_in).await)
}

/// A connection over TLS of our own whose certificate nobody reads, if that can be had.
#[cfg(feature = "tls")]
async fn unread(
    tls: &Tls,
    options: &PgConnectOptions,
    log_in: LogIn,
) -> Option<Result<PgConnection, sqlx::Error>> {
    let stream = own_tls::open(tls, Check::Nothing, options).await.ok()?;
    let options = options.clone().ssl_mode(PgSslMode::Disable);
    Some(connect_over(stream, options, log_in).await)
}

#[cfg(not(feature = "tls"))]
async fn signed(
    _tls: &Tls,
    _options: &PgConnectOptions,
    _log_in: LogIn,
) -> Option<Result<PgConnection, sqlx::Error>> {
    None
}

#[cfg(not(feature = "tls"))]
async fn unread(
    _tls: &Tls,
    _options: &PgConnectOptions,
    _log_in: LogIn,
) -> Option<Result<PgConnection, sqlx::Error>> {
    None
}
