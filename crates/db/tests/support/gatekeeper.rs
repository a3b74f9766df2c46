//! A proxy in front of PostgreSQL that treats each new connection by the mode of the moment and leaves the old ones be.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use db::Pool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long a connection waits at [`Mode::Slow`]: longer than the shortest patience of an attempt to reconnect, which is half a second.
const SLOW: Duration = Duration::from_millis(700);

/// What a new connection meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The server.
    Pass,
    /// The server's answer when it has no room: 53300.
    Full,
    /// A closed port.
    Refuse,
    /// The server, after a while.
    Slow,
    /// The server, until the pool's first question after the handshake, which nobody answers.
    Mute,
}

#[derive(Clone)]
pub(crate) struct Gatekeeper {
    port: u16,
    state: Arc<State>,
}

struct State {
    mode: Mutex<Mode>,
    muted: AtomicU64,
}

impl Gatekeeper {
    /// A gatekeeper for the server at `port`, who lets everybody pass.
    pub(crate) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let state = Arc::new(State {
            mode: Mutex::new(Mode::Pass),
            muted: AtomicU64::new(0),
        });
        let gatekeeper = Self {
            port: listener.local_addr().expect("an address").port(),
            state: state.clone(),
        };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mode = *state.mode.lock().unwrap_or_else(PoisonError::into_inner);
                tokio::spawn(admit(client, port, mode, state.clone()));
            }
        });
        gatekeeper
    }

    /// A pool on a fresh database behind a gatekeeper, with these parameters in its URL.
    pub(crate) async fn pool(parameters: &str) -> (Self, Pool) {
        let (server, url) = (local_postgres::shared(), local_postgres::database());
        let gatekeeper = Self::start(server.port()).await;
        let url = url.replace(
            &format!(":{}/", server.port()),
            &format!(":{}/", gatekeeper.port),
        );
        // Without TLS, so that the mute one can read along.
        let pool = super::pool_at(&url, &format!("sslmode=disable&{parameters}"));
        (gatekeeper, pool)
    }

    /// New connections meet this from now on.
    pub(crate) fn set(&self, mode: Mode) {
        *self
            .state
            .mode
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = mode;
    }

    /// How many connections had their first question ignored.
    pub(crate) fn muted(&self) -> u64 {
        self.state.muted.load(SeqCst)
    }
}

async fn admit(mut client: TcpStream, port: u16, mode: Mode, state: Arc<State>) {
    match mode {
        Mode::Refuse => return,
        Mode::Full => return no_room(client).await,
        Mode::Slow => tokio::time::sleep(SLOW).await,
        Mode::Pass | Mode::Mute => {}
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let up = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            let said = &buffer[..read];
            if mode == Mode::Mute && said.windows(14).any(|word| word == b"pg_backend_pid") {
                state.muted.fetch_add(1, SeqCst);
                std::future::pending::<()>().await;
            }
            if to_server.write_all(said).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
    };
    tokio::select! { () = up => {}, () = down => {} }
}

/// Reads the start-up message and answers it with an ErrorResponse.
async fn no_room(mut client: TcpStream) {
    let _ = client.read(&mut [0; 4096]).await;
    let fields = b"SFATAL\0VFATAL\0C53300\0Msorry, too many clients already\0\0";
    let length = u32::try_from(fields.len() + 4).expect("a short message");
    let message = [b"E", &length.to_be_bytes()[..], fields].concat();
    let _ = client.write_all(&message).await;
}
