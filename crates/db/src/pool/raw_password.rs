//! Logs in with a password that SASLprep does not allow, such as one with a tab. PostgreSQL and libpq take it as it is, and sqlx
//! does not send it: it is asked for the plain text, on its way to the server, and the server gets SCRAM.

use std::io::{self, ErrorKind};

use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

/// Kinds of the server's question for a password.
const CLEARTEXT: u32 = 3;
const SASL: u32 = 10;

/// Longer is no message of a log-in.
const LONGEST: usize = 64 * 1024;

/// Carries the beginning of a session up to where the password is accepted, or something else is asked.
pub(crate) async fn log_in<S>(server: &mut S, client: &mut UnixStream) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let startup = read_body(client).await?;
    send(server, None, &startup).await?;
    let (tag, body) = read(server).await?;
    if (tag, kind(&body)) != (b'R', Some(SASL)) {
        return send(client, Some(tag), &body).await;
    }
    send(client, Some(b'R'), &CLEARTEXT.to_be_bytes()).await?;
    let (_, password) = read(client).await?;
    let password = password.strip_suffix(&[0]).unwrap_or(&password);
    let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
    let first = scram.message();
    let length = u32::try_from(first.len()).map_err(io::Error::other)?;
    let first = [SCRAM_SHA_256.as_bytes(), &[0], &length.to_be_bytes(), first].concat();
    send(server, Some(b'p'), &first).await?;
    let (tag, body) = read(server).await?;
    if tag != b'R' {
        return send(client, Some(tag), &body).await;
    }
    scram.update(&body[4..])?;
    send(server, Some(b'p'), scram.message()).await?;
    let (tag, body) = read(server).await?;
    if tag != b'R' {
        return send(client, Some(tag), &body).await;
    }
    // The server has to know it too.
    scram.finish(&body[4..])
}

fn kind(body: &[u8]) -> Option<u32> {
    let (kind, _) = body.split_first_chunk()?;
    Some(u32::from_be_bytes(*kind))
}

async fn read<S: AsyncRead + Unpin>(from: &mut S) -> io::Result<(u8, Vec<u8>)> {
    let tag = from.read_u8().await?;
    let body = read_body(from).await?;
    match tag == b'R' && body.len() < 4 {
        true => Err(ErrorKind::InvalidData.into()),
        false => Ok((tag, body)),
    }
}

async fn read_body<S: AsyncRead + Unpin>(from: &mut S) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await? as usize;
    if !(4..=LONGEST).contains(&length) {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length - 4];
    from.read_exact(&mut body).await?;
    Ok(body)
}

async fn send<S: AsyncWrite + Unpin>(to: &mut S, tag: Option<u8>, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 4).map_err(io::Error::other)?;
    let tag = tag.as_slice();
    to.write_all(&[tag, &length.to_be_bytes(), body].concat())
        .await?;
    to.flush().await
}
