//! Many slow clients of one kind, and how each of them ends.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::kinds::Kind;
use crate::survive::times::Times;

/// How long it may take to connect.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

struct SlowClient {
    stream: TcpStream,
    port: u16,
    since: Instant,
}

pub(crate) struct Crowd {
    pub(crate) kind: Kind,
    coming: Receiver<io::Result<SlowClient>>,
    /// Whether all have come.
    pub(crate) complete: bool,
    waiting: Vec<SlowClient>,
    /// How long those that were closed had been open.
    pub(crate) closed: Times,
    /// So many of these were told 408.
    pub(crate) told: u64,
    pub(crate) not_connected: u64,
}

impl Crowd {
    /// They connect one at once after the other, while others do something else.
    pub(crate) fn open(kind: Kind, count: usize, port: u16) -> Self {
        let (sender, coming) = channel();
        thread::spawn(move || {
            let request = kind.request();
            // Ends early when nobody waits for them any more.
            (0..count).all(|_| sender.send(connect(port, &request)).is_ok())
        });
        Self {
            kind,
            coming,
            complete: false,
            waiting: Vec::new(),
            closed: Times::default(),
            told: 0,
            not_connected: 0,
        }
    }

    pub(crate) fn open_count(&self) -> usize {
        self.waiting.len()
    }

    /// Takes in those that have connected.
    pub(crate) fn take_in(&mut self) {
        loop {
            match self.coming.try_recv() {
                Ok(Ok(client)) => self.waiting.push(client),
                Ok(Err(_)) => self.not_connected += 1,
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.complete = true;
                    return;
                }
            }
        }
    }

    /// Takes out those that the service does not hold any more. All had been taken in before it was asked.
    pub(crate) fn take_out(&mut self, held: &HashSet<u16>) {
        let is_held = |client: &SlowClient| held.contains(&client.port);
        let all = std::mem::take(&mut self.waiting).into_iter();
        let (waiting, closed): (Vec<_>, Vec<_>) = all.partition(is_held);
        self.waiting = waiting;
        for client in closed {
            self.closed.record(client.since.elapsed());
            self.told += u64::from(self.kind.is_told() && was_told(&client.stream));
        }
    }
}

fn connect(port: u16, request: &[u8]) -> io::Result<SlowClient> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, LONGEST_WAIT)?;
    // What a service does not take in must not hold us.
    stream.set_nonblocking(true)?;
    let _ = stream.write(request)?;
    Ok(SlowClient {
        port: stream.local_addr()?.port(),
        stream,
        since: Instant::now(),
    })
}

/// Whether 408 came before the end.
fn was_told(mut stream: &TcpStream) -> bool {
    let mut answer = [0; 12];
    let count = stream.read(&mut answer).unwrap_or_default();
    answer[..count] == *b"HTTP/1.1 408"
}
