//! Accepts connections, no more than there is room for, and lets them end in good order.
//!
//! axum's own `serve` stops with connections still in the listener's backlog, arms no deadline, takes any number of
//! connections, and waits for them without limit.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::http::activity::{Activity, Order, Phase};
use crate::http::{connection, listener};
use crate::settings::Limits;

/// The pause after an accept that failed for want of file descriptors or memory, and until room is looked for again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Tasks that were cut off get this long to answer and to notice.
const ABORT_TIMEOUT: Duration = Duration::from_millis(100);

/// How the service's last connections ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that ended by themselves after the signal.
    pub drained: usize,
    /// Connections that were cut off at the deadline.
    pub aborted: usize,
}

/// Serves until `shutdown`, then finishes what is running; `shutdown` says until when.
pub(crate) async fn serve(
    listener: TcpListener,
    app: Router,
    limits: Limits,
    shutdown: impl Future<Output = Instant>,
) -> Stopped {
    let mut connections = Connections {
        tasks: JoinSet::new(),
        activities: HashMap::new(),
        app,
        limits,
    };
    let deadline = accept(&listener, &mut connections, shutdown).await;
    let waiting = listener::close(listener);
    for socket in waiting {
        connections.open(socket);
    }
    connections.order(Order::Drain);
    finish(connections, deadline).await
}

/// Accepts connections until `end`, and returns what that says.
async fn accept<T>(
    listener: &TcpListener,
    connections: &mut Connections,
    end: impl Future<Output = T>,
) -> T {
    let mut end = pin!(end);
    let mut waiting = None;
    loop {
        if let Some(socket) = waiting.take_if(|_| connections.have_room()) {
            connections.open(socket);
        }
        if waiting.is_some() {
            connections.make_room();
        }
        tokio::select! {
            ended = &mut end => {
                waiting.into_iter().for_each(|socket| connections.open(socket));
                return ended;
            }
            () = connections.ended() => {}
            () = sleep(ACCEPT_PAUSE), if waiting.is_some() => {}
            accepted = listener.accept(), if waiting.is_none() => match accepted {
                Ok((socket, _)) => waiting = Some(socket),
                Err(error) if listener::is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!("cannot accept connections: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn finish(mut connections: Connections, deadline: Instant) -> Stopped {
    let before = connections.tasks.len();
    let all = async { while connections.tasks.join_next().await.is_some() {} };
    let drained = timeout_at(deadline, all).await;
    let aborted = connections.tasks.len();
    if drained.is_err() {
        connections.order(Order::Leave);
        let all = async { while connections.tasks.join_next().await.is_some() {} };
        let _ = timeout(ABORT_TIMEOUT, all).await;
        // A task that blocks its thread cannot be cut off: it is left behind.
        let _ = timeout(ABORT_TIMEOUT, connections.tasks.shutdown()).await;
    }
    Stopped {
        drained: before - aborted,
        aborted,
    }
}

/// The open connections.
struct Connections {
    tasks: JoinSet<()>,
    activities: HashMap<Id, Arc<Activity>>,
    app: Router,
    limits: Limits,
}

impl Connections {
    fn open(&mut self, socket: TcpStream) {
        let activity = Arc::new(Activity::new());
        let connection = connection::serve(socket, self.app.clone(), activity.clone(), self.limits);
        let task = self.tasks.spawn(connection);
        self.activities.insert(task.id(), activity);
    }

    /// Waits until one has ended; for ever if there is none.
    async fn ended(&mut self) {
        match self.tasks.join_next_with_id().await {
            Some(ended) => {
                let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                self.activities.remove(&id);
            }
            None => std::future::pending().await,
        }
    }

    fn have_room(&self) -> bool {
        self.tasks.len() < self.limits.max_connections
    }

    /// Ends the connection that has waited longest for its client. One that the service works for is left alone.
    fn make_room(&self) {
        let stayed = |activity: &&Arc<Activity>| activity.order() == Order::Stay;
        let waiting = self
            .activities
            .values()
            .filter(stayed)
            .filter_map(|activity| {
                let (phase, since) = activity.phase();
                (phase != Phase::Busy).then_some((since, activity))
            });
        if let Some((_, longest)) = waiting.min_by_key(|(since, _)| *since) {
            longest.give(Order::Leave);
        }
    }

    fn order(&self, order: Order) {
        for activity in self.activities.values() {
            activity.give(order);
        }
    }
}
