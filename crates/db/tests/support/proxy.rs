//! A proxy in front of PostgreSQL that counts round trips, delays, swallows and cuts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<State>,
}

struct State {
    turns: AtomicU64,
    connections: AtomicU64,
    client_spoke_last: AtomicBool,
    swallow: AtomicBool,
    cut: Notify,
    delay: Duration,
}

impl Proxy {
    /// A proxy to the server at `port`. Each direction takes `delay`.
    pub(crate) async fn start(port: u16, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let state = Arc::new(State {
            turns: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            client_spoke_last: AtomicBool::new(false),
            swallow: AtomicBool::new(false),
            cut: Notify::new(),
            delay,
        });
        let proxy = Self {
            port: listener.local_addr().expect("an address").port(),
            state: state.clone(),
        };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                state.connections.fetch_add(1, SeqCst);
                tokio::spawn(forward(client, port, state.clone()));
            }
        });
        proxy
    }

    /// `url` by way of this proxy.
    pub(crate) fn url(&self, url: &str, port: u16) -> String {
        url.replace(&format!(":{port}/"), &format!(":{}/", self.port))
    }

    /// How often the client has spoken after the server, or first: the number of round trips.
    pub(crate) fn turns(&self) -> u64 {
        self.state.turns.load(SeqCst)
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> u64 {
        self.state.connections.load(SeqCst)
    }

    /// Swallows every byte from now on, in both directions, without closing anything; or stops doing so.
    pub(crate) fn swallow(&self, on: bool) {
        self.state.swallow.store(on, SeqCst);
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        self.state.cut.notify_waiters();
    }
}

async fn forward(client: TcpStream, port: u16, state: Arc<State>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let cut = state.cut.notified();
    let up = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            if !state.client_spoke_last.swap(true, SeqCst) {
                state.turns.fetch_add(1, SeqCst);
            }
            pass(&mut to_server, &buffer[..read], &state).await;
        }
    };
    let down = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            state.client_spoke_last.store(false, SeqCst);
            pass(&mut to_client, &buffer[..read], &state).await;
        }
    };
    tokio::select! { () = up => {}, () = down => {}, () = cut => {} }
}

async fn pass(to: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8], state: &State) {
    if !state.delay.is_zero() {
        tokio::time::sleep(state.delay).await;
    }
    if !state.swallow.load(SeqCst) {
        let _ = to.write_all(bytes).await;
    }
}
