//! Hands sqlx a stream of ours. It opens its own, and to a unix socket as well: so there is one for this connection alone, and
//! a task that carries what is said.

use std::io;
use std::pin::pin;

use futures_util::future::{Either, select};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::net::{UnixListener, UnixStream};

use crate::pool::raw_password;

/// Who speaks first on such a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogIn {
    /// sqlx, as always.
    BySqlx,
    /// What it does not do.
    WithRawPassword,
}

/// Opens a connection over this stream, which leads to the server.
pub(crate) async fn connect_over<S>(
    mut stream: S,
    options: PgConnectOptions,
    log_in: LogIn,
) -> Result<PgConnection, sqlx::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let place = Place::new()?;
    let listener = UnixListener::bind(place.socket(options.get_port()))?;
    // The host stays: it is the name that TLS asks for and checks.
    let options = options.socket(&place.folder);
    let connecting = pin!(options.connect());
    let carrying = Box::pin(async move {
        let mut client = accept(&listener).await?;
        drop((listener, place));
        if log_in == LogIn::WithRawPassword {
            raw_password::log_in(&mut stream, &mut client).await?;
        }
        carry(stream, client).await
    });
    match select(connecting, carrying).await {
        Either::Left((connection, carrying)) => {
            let connection = connection?;
            tokio::spawn(carrying);
            Ok(connection)
        }
        // The server has ended it, which sqlx finds out now.
        Either::Right((_, connecting)) => connecting.await,
    }
}

/// Waits for this process: no other one gets what is meant for it.
async fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
    loop {
        let (client, _) = listener.accept().await?;
        let other = client.peer_cred()?.pid();
        if other.is_none_or(|pid| u32::try_from(pid) == Ok(std::process::id())) {
            return Ok(client);
        }
    }
}

/// Carries both ways until one end has closed: then there is nobody to tell the rest to.
async fn carry<S>(server: S, client: UnixStream) -> io::Result<u64>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut from_server, mut to_server) = split(server);
    let (mut from_client, mut to_client) = client.into_split();
    tokio::select! {
        ended = copy(&mut from_server, &mut to_client) => ended,
        ended = copy(&mut from_client, &mut to_server) => {
            to_server.shutdown().await?;
            ended
        }
    }
}

/// Where the socket is. On Linux it needs no file.
struct Place {
    folder: String,
}

#[cfg(target_os = "linux")]
impl Place {
    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it makes a folder")]
    fn new() -> io::Result<Self> {
        let folder = format!("\0reservoir-{:016x}", fastrand::u64(..));
        Ok(Self { folder })
    }
}

#[cfg(not(target_os = "linux"))]
impl Place {
    fn new() -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let name = format!("reservoir-{:08x}", fastrand::u32(..));
        let folder = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let folder = folder.to_string_lossy().into_owned();
        Ok(Self { folder })
    }
}

#[cfg(not(target_os = "linux"))]
impl Drop for Place {
    fn drop(&mut self) {
        // Best effort: it is empty, and in a folder that is emptied.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Place {
    /// As libpq names it, and sqlx.
    fn socket(&self, port: u16) -> String {
        format!("{}/.s.PGSQL.{port}", self.folder)
    }
}
