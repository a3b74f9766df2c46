//! A name with several addresses: where the first one stays silent, another one is taken.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{Either, join_all, select};
use futures_util::stream::FuturesUnordered;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::pool::relay::{LogIn, connect_over};
use crate::pool::servers::Servers;

/// Whom the others do not wait for any longer.
const HEAD_START: Duration = Duration::from_millis(250);

/// Opens a connection by the name, which is all that most need. sqlx takes one address after the other and waits for each, so
/// one that is late is helped by what another one says.
pub(crate) async fn connect(
    servers: &Servers,
    options: &PgConnectOptions,
) -> Result<PgConnection, sqlx::Error> {
    if !is_name(options) {
        return options.connect().await;
    }
    // What was said at another host, or before, is no reason of this attempt.
    servers.tell(String::new());
    let mut named = pin!(options.connect());
    if let Ok(ended) = timeout(HEAD_START, &mut named).await {
        return match ended {
            Err(sqlx::Error::Io(error)) => Err(with_reasons(options, error).await.into()),
            ended => ended,
        };
    }
    let other = pin!(other(servers, options));
    let (place, stream) = match select(named, other).await {
        Either::Left((ended, _)) => return ended,
        Either::Right((None, named)) => return named.await,
        Either::Right((Some(reached), still)) => {
            named = still;
            reached
        }
    };
    // Most likely it is the one that sqlx is at; a name server may have given it the addresses in another order, though.
    if place == 0
        && let Ok(ended) = timeout(HEAD_START, &mut named).await
    {
        return ended;
    }
    // The host's name is still the one that TLS asks for.
    let other = pin!(connect_over(stream, options.clone(), LogIn::BySqlx));
    match select(named, other).await {
        Either::Left((Ok(connection), _)) | Either::Right((Ok(connection), _)) => Ok(connection),
        Either::Left((Err(_), other)) => other.await,
        Either::Right((Err(error), _)) => Err(error),
    }
}

/// A stream to whichever address answers.
pub(crate) async fn open(options: &PgConnectOptions) -> io::Result<TcpStream> {
    let addresses = addresses(options).await?;
    let (_, stream) = race(&addresses, |_, _| ()).await?;
    Ok(stream)
}

fn is_name(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let socket = options.get_socket().is_some() || host.starts_with('/');
    !socket && host.parse::<IpAddr>().is_err()
}

async fn addresses(options: &PgConnectOptions) -> io::Result<Vec<SocketAddr>> {
    let found = lookup_host((options.get_host(), options.get_port())).await?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// The address that answers, and its place among those of the name.
async fn other(servers: &Servers, options: &PgConnectOptions) -> Option<(usize, TcpStream)> {
    let addresses = addresses(options).await.ok()?;
    if addresses.len() < 2 {
        return None;
    }
    let mut reasons = vec!["no answer".to_owned(); addresses.len()];
    servers.tell(list(&addresses, &reasons));
    let first = race(&addresses, |place, error| {
        reasons[place] = error.to_string();
        servers.tell(list(&addresses, &reasons));
    });
    let reached = first.await.ok()?;
    servers.tell(String::new());
    Some(reached)
}

/// The first address that answers, each with a head start before the next one.
async fn race(
    addresses: &[SocketAddr],
    mut failed: impl FnMut(usize, &io::Error),
) -> io::Result<(usize, TcpStream)> {
    let start = |(place, address): (usize, SocketAddr)| async move {
        (place, TcpStream::connect(address).await)
    };
    let mut next = addresses.iter().copied().enumerate();
    let mut running = FuturesUnordered::new();
    running.extend(next.next().map(start));
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    loop {
        match timeout(HEAD_START, running.next()).await {
            Ok(Some((place, Ok(stream)))) => {
                stream.set_nodelay(true)?;
                return Ok((place, stream));
            }
            Ok(Some((place, Err(error)))) => {
                failed(place, &error);
                last = error;
                running.extend(next.next().map(start));
            }
            Ok(None) => return Err(last),
            Err(_) => running.extend(next.next().map(start)),
        }
    }
}

/// The error of a name with several addresses names each of them with its own.
async fn with_reasons(options: &PgConnectOptions, error: io::Error) -> io::Error {
    // What rustls says is about the one that answered.
    if matches!(error.kind(), io::ErrorKind::InvalidData) {
        return error;
    }
    let addresses = match addresses(options).await {
        Ok(addresses) if addresses.len() > 1 => addresses,
        _ => return error,
    };
    let ask = |address: &SocketAddr| timeout(HEAD_START, TcpStream::connect(*address));
    let answers = join_all(addresses.iter().map(ask)).await;
    let reasons: Vec<String> = answers
        .into_iter()
        .map(|answer| match answer {
            Ok(Ok(_)) => "it answers".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        })
        .collect();
    io::Error::new(
        error.kind(),
        format!("{error} ({})", list(&addresses, &reasons)),
    )
}

fn list(addresses: &[SocketAddr], reasons: &[String]) -> String {
    let each = addresses.iter().zip(reasons);
    let each: Vec<String> = each
        .map(|(address, why)| format!("{address}: {why}"))
        .collect();
    each.join(", ")
}
