//! One session with the server: as much of PostgreSQL's protocol as text takes.

use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::Error;

/// Version 3.0 of the protocol.
const PROTOCOL: u32 = 3 << 16;

/// How long a server may take to end a session. Its end is waited for, so that the database can be dropped next.
const PATIENCE: Duration = Duration::from_secs(1);

/// A session of the superuser, ended when it is dropped.
pub(crate) struct Session(BufReader<UnixStream>);

/// A message of the server: its kind and what is in it.
type Message = (u8, Vec<u8>);

impl Session {
    /// Connects to the socket in `folder`.
    pub(crate) fn open(folder: &Path, port: u16, database: &str) -> Result<Self, Error> {
        let stream = UnixStream::connect(folder.join(format!(".s.PGSQL.{port}")))
            .map_err(|error| Error::because("cannot connect to the server", error))?;
        let mut session = Self(BufReader::new(stream));
        let mut startup = PROTOCOL.to_be_bytes().to_vec();
        for word in [
            "user",
            "postgres",
            "database",
            database,
            "application_name",
            "local-postgres",
            "client_encoding",
            "UTF8",
            "",
        ] {
            startup.extend(word.as_bytes());
            startup.push(0);
        }
        session.send(None, &startup)?;
        session.answer()?;
        Ok(session)
    }

    /// Runs one statement. Its rows, a line each, fields separated by `|`.
    pub(crate) fn query(&mut self, statement: &str) -> Result<Vec<String>, Error> {
        if statement.contains('\0') {
            return Err(Error::new("a statement cannot have a zero byte in it"));
        }
        self.send(Some(b'Q'), &[statement.as_bytes(), b"\0"].concat())?;
        self.answer()
    }

    /// All that the server says until it is ready for the next statement.
    fn answer(&mut self) -> Result<Vec<String>, Error> {
        let (mut lines, mut failure) = (Vec::new(), None);
        loop {
            match self.receive() {
                Ok((b'Z', _)) => break,
                Ok((b'D', row)) => lines.push(fields(&row).join("|")),
                // A line of `copy … to stdout`.
                Ok((b'd', line)) => lines.push(text(&line).trim_end_matches('\n').to_owned()),
                Ok((b'E', error)) => failure = Some(explain(&error)),
                Ok((b'R', method)) if method != [0; 4] => {
                    return Err(Error::new(
                        "the server asks for a password on its unix socket",
                    ));
                }
                Ok((b'G', _)) => self.send(Some(b'f'), b"there is no data to copy from\0")?,
                Ok(_) => {}
                // A server that ends a session says why before.
                Err(error) => return Err(failure.unwrap_or(error)),
            }
        }
        failure.map_or(Ok(lines), Err)
    }

    fn send(&mut self, kind: Option<u8>, content: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(content.len() + 4)
            .map_err(|error| Error::because("the statement is too long", error))?;
        let mut message: Vec<u8> = kind.into_iter().collect();
        message.extend(length.to_be_bytes());
        message.extend(content);
        let sent = self.0.get_mut().write_all(&message);
        sent.map_err(|error| Error::because("the server has ended the session", error))
    }

    fn receive(&mut self) -> Result<Message, Error> {
        let fail = |error| Error::because("the server has ended the session", error);
        let mut head = [0; 5];
        self.0.read_exact(&mut head).map_err(fail)?;
        let [kind, length @ ..] = head;
        let mut content = vec![0; (u32::from_be_bytes(length) as usize).saturating_sub(4)];
        self.0.read_exact(&mut content).map_err(fail)?;
        Ok((kind, content))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.send(Some(b'X'), b"");
        let _ = self.0.get_ref().set_read_timeout(Some(PATIENCE));
        while self.0.read(&mut [0; 64]).is_ok_and(|bytes| bytes > 0) {}
    }
}

/// The fields of a row; null is empty.
fn fields(row: &[u8]) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), row.get(2..).unwrap_or_default());
    while let Some((length, after)) = rest.split_first_chunk() {
        // Null has length -1.
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        let (field, after) = after.split_at(length.min(after.len()));
        found.push(text(field));
        rest = after;
    }
    found
}

/// `ERROR:  division by zero` and what the server says besides.
fn explain(error: &[u8]) -> Error {
    let part = |kind: u8| {
        let mut parts = error.split(|byte| *byte == 0);
        parts.find_map(|part| part.strip_prefix(&[kind]).map(text))
    };
    let severity = part(b'S').unwrap_or_default();
    let mut message = format!("{severity}:  {}", part(b'M').unwrap_or_default());
    for (kind, title) in [(b'D', "DETAIL"), (b'H', "HINT"), (b'W', "CONTEXT")] {
        if let Some(part) = part(kind) {
            message.push_str(&format!("\n{title}:  {part}"));
        }
    }
    Error::new(message)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
