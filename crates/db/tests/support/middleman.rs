//! A middleman that speaks just enough of the protocol: it gives its clients a few sessions of the server in turn, and does with
//! their startup settings what some poolers do that no test can start.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use local_postgres::Cluster;
use tokio::io::{self, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

/// What it does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ways {
    /// Sessions at the server.
    pub(crate) sessions: usize,
    pub(crate) turn: Turn,
    /// Whether a client keeps its session until it leaves.
    pub(crate) keeps: bool,
    /// The SQLSTATE with which it refuses `options`, or nothing if it tells them each session of the moment.
    pub(crate) refuses: Option<&'static str>,
    /// Whether it takes `options` and forgets them.
    pub(crate) forgets: bool,
    /// Whether prepared statements have other names at the server.
    pub(crate) renames: bool,
}

impl Default for Ways {
    fn default() -> Self {
        Self {
            sessions: 2,
            turn: Turn::Last,
            keeps: false,
            refuses: None,
            forgets: false,
            renames: true,
        }
    }
}

/// Which of the free sessions is next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    First,
    Last,
    Any,
}

struct State {
    ways: Ways,
    socket: String,
    database: String,
    free: Mutex<Vec<UnixStream>>,
    permits: Arc<Semaphore>,
    clients: AtomicU32,
}

/// Starts it before this server, and gives the URL of the database `postgres` through it.
pub(crate) async fn start(server: &Cluster, ways: Ways) -> String {
    start_at(server, "postgres", ways).await
}

/// The URL of a database of its own through one with a single session, so that prepared statements are found again.
pub(crate) async fn pooler() -> String {
    let url = local_postgres::database();
    let name = url.rsplit('/').next().expect("a name");
    let name = name.split('?').next().expect("a name");
    let ways = Ways {
        sessions: 1,
        refuses: Some("08P01"),
        ..Ways::default()
    };
    start_at(local_postgres::shared(), name, ways).await
}

async fn start_at(server: &Cluster, database: &str, ways: Ways) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let folder = server.socket_folder().display().to_string();
    let state = Arc::new(State {
        ways,
        socket: format!("{folder}/.s.PGSQL.{}", server.port()),
        database: database.to_owned(),
        free: Mutex::default(),
        permits: Arc::new(Semaphore::new(ways.sessions)),
        clients: AtomicU32::new(0),
    });
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let state = state.clone();
            tokio::spawn(async move {
                let _ = serve(client, state).await;
            });
        }
    });
    format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable")
}

/// Its type, and all of it as it is sent.
async fn message(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let kind = stream.read_u8().await?;
    let length = stream.read_u32().await?;
    let mut all = vec![kind];
    all.extend(length.to_be_bytes());
    all.resize(length as usize + 1, 0);
    stream.read_exact(&mut all[5..]).await?;
    Ok((kind, all))
}

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut all = vec![kind];
    all.extend((body.len() as u32 + 4).to_be_bytes());
    all.extend(body);
    all
}

/// What a client says first: its parameters. Nothing if it wants something else.
async fn startup(client: &mut TcpStream) -> io::Result<Option<Vec<(String, String)>>> {
    loop {
        let length = client.read_u32().await?;
        let mut body = vec![0; length as usize - 4];
        client.read_exact(&mut body).await?;
        match body[..4] {
            // TLS, which it has not got.
            [4, 210, 22, 47] => client.write_all(b"N").await?,
            [0, 3, ..] => {
                let text = String::from_utf8_lossy(&body[4..]).into_owned();
                let mut words = text.split('\0').map(str::to_owned);
                let mut pairs = Vec::new();
                while let (Some(key), Some(value)) = (words.next(), words.next()) {
                    pairs.push((key, value));
                }
                return Ok(Some(pairs));
            }
            _ => return Ok(None),
        }
    }
}

/// The `set` for what a client was opened with.
fn settings(parameters: &[(String, String)]) -> String {
    let options = parameters.iter().find(|(key, _)| key == "options");
    let options = options.map_or("", |(_, value)| value);
    let each = options
        .split("-c ")
        .filter_map(|one| one.trim().split_once('='));
    let name = parameters
        .iter()
        .filter(|(key, _)| key == "application_name");
    let name = name.map(|(key, value)| (key.as_str(), value.as_str()));
    let set = each.chain(name).map(|(key, value)| {
        let value = value.replace('\\', "").replace('\'', "''");
        format!("perform set_config('{key}', '{value}', false);")
    });
    format!("do $$ begin {} end $$", set.collect::<String>())
}

async fn serve(mut client: TcpStream, state: Arc<State>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let Some(parameters) = startup(&mut client).await? else {
        return Ok(());
    };
    let has_options = parameters.iter().any(|(key, _)| key == "options");
    if let (true, Some(code)) = (has_options, state.ways.refuses) {
        let text = format!("SFATAL\0VFATAL\0C{code}\0Mcela ne va pas\0\0");
        return client.write_all(&framed(b'E', text.as_bytes())).await;
    }
    let number = state.clients.fetch_add(1, SeqCst);
    let mut hello = framed(b'R', &[0; 4]);
    hello.extend(framed(b'S', b"server_version\x0015.0\0"));
    hello.extend(framed(b'K', &[number.to_be_bytes(), [7; 4]].concat()));
    hello.extend(framed(b'Z', b"I"));
    client.write_all(&hello).await?;
    let settings = match state.ways.refuses {
        None if !state.ways.forgets => settings(&parameters),
        _ => String::new(),
    };
    let mut held = None;
    let served = talk(&mut client, &state, number, &settings, &mut held).await;
    if let Some(mut session) = held.filter(|_| state.ways.keeps) {
        ask(&mut session.0, "discard all").await?;
        state.free.lock().await.push(session.0);
    }
    served
}

type Session = (UnixStream, OwnedSemaphorePermit);

async fn talk(
    client: &mut TcpStream,
    state: &Arc<State>,
    number: u32,
    settings: &str,
    held: &mut Option<Session>,
) -> io::Result<()> {
    let mut gone = false;
    loop {
        let (kind, mut asked) = message(client).await?;
        if kind == b'X' {
            return Ok(());
        }
        if held.is_none() {
            let mut session = take(state).await?;
            ask(&mut session.0, settings).await?;
            *held = Some(session);
        }
        let Some((server, _)) = held.as_mut() else {
            return Ok(());
        };
        if state.ways.renames {
            asked = renamed(kind, &asked, number);
        }
        server.write_all(&asked).await?;
        if !matches!(kind, b'Q' | b'S') {
            continue;
        }
        let status = loop {
            let (kind, answer) = message(server).await?;
            gone |= client.write_all(&answer).await.is_err();
            if kind == b'Z' {
                break answer[5];
            }
        };
        if gone && status != b'I' {
            ask(server, "rollback").await?;
        }
        if (status == b'I' || gone) && !state.ways.keeps {
            let (server, _permit) = held.take().expect("a session");
            state.free.lock().await.push(server);
        }
    }
}

/// One of the free sessions, or a new one.
async fn take(state: &Arc<State>) -> io::Result<Session> {
    let permit = state.permits.clone().acquire_owned().await;
    let permit = permit.map_err(io::Error::other)?;
    let mut free = state.free.lock().await;
    let next = match (state.ways.turn, free.len()) {
        (_, 0) => None,
        (Turn::First, _) => Some(0),
        (Turn::Last, count) => Some(count - 1),
        (Turn::Any, count) => Some(fastrand::usize(..count)),
    };
    if let Some(next) = next {
        return Ok((free.remove(next), permit));
    }
    drop(free);
    let mut server = UnixStream::connect(&state.socket).await?;
    let parameters = format!("user\0postgres\0database\0{}\0\0", state.database);
    let body = [b"\0\x03\0\0", parameters.as_bytes()].concat();
    server.write_all(&framed(0, &body)[1..]).await?;
    while message(&mut server).await?.0 != b'Z' {}
    Ok((server, permit))
}

async fn ask(server: &mut UnixStream, sql: &str) -> io::Result<()> {
    let sql = format!("{sql}\0");
    server.write_all(&framed(b'Q', sql.as_bytes())).await?;
    while message(server).await?.0 != b'Z' {}
    Ok(())
}

/// The same with the client's number before the name of a prepared statement.
fn renamed(kind: u8, message: &[u8], number: u32) -> Vec<u8> {
    let body = &message[5..];
    let at = match (kind, body.first()) {
        (b'P', _) => 0,
        (b'B', _) => body
            .iter()
            .position(|byte| *byte == 0)
            .map_or(0, |end| end + 1),
        (b'D' | b'C', Some(b'S')) => 1,
        _ => return message.to_vec(),
    };
    if body.get(at).is_none_or(|byte| *byte == 0) {
        return message.to_vec();
    }
    let prefix = format!("client_{number}_");
    framed(
        kind,
        &[&body[..at], prefix.as_bytes(), &body[at..]].concat(),
    )
}
