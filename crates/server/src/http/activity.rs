//! What a connection is doing, as its own task says it; and what the loop that accepts asks of it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::Context;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

/// Moments are kept as milliseconds since this one.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Who has to act next, and what is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The client: the head of a request.
    Head,
    /// The client: another request, or the reading of the last answer.
    Idle,
    /// The client: the body of a request.
    Body,
    /// The service: the answer.
    Busy,
}

const PHASES: [Phase; 4] = [Phase::Head, Phase::Idle, Phase::Body, Phase::Busy];

/// What the service wants of a connection; a later one replaces an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Order {
    /// Nothing: it may stay.
    Stay,
    /// The service stops: finish what there is.
    Drain,
    /// End now: others need the place, or the time is over.
    Leave,
}

const ORDERS: [Order; 3] = [Order::Stay, Order::Drain, Order::Leave];

/// What one connection is doing.
#[derive(Debug)]
pub(crate) struct Activity {
    /// The phase in the two lowest bits, and since when above them.
    phase: AtomicU64,
    order: AtomicU8,
    /// The connection's task.
    task: AtomicWaker,
    /// The client may still send what nobody wants.
    unread: AtomicBool,
}

impl Activity {
    pub(crate) fn new() -> Self {
        let activity = Self {
            phase: AtomicU64::new(0),
            order: AtomicU8::new(0),
            task: AtomicWaker::new(),
            unread: AtomicBool::new(false),
        };
        activity.enter(Phase::Head);
        activity
    }

    /// A phase begins now.
    pub(crate) fn enter(&self, phase: Phase) {
        let now = START.elapsed().as_millis() as u64;
        self.phase.store(now << 2 | phase as u64, Relaxed);
    }

    /// The service has the request, or the answer is there. Since when, nobody asks: the first bytes of the answer on the wire
    /// begin the wait for the next request.
    pub(crate) fn turn(&self, phase: Phase) {
        let since = self.phase.load(Relaxed) & !3;
        self.phase.store(since | phase as u64, Relaxed);
    }

    /// The phase, and since when.
    pub(crate) fn phase(&self) -> (Phase, Instant) {
        let packed = self.phase.load(Relaxed);
        let since = *START + Duration::from_millis(packed >> 2);
        (PHASES[(packed & 3) as usize], since)
    }

    /// Asks the connection for something, and wakes it up.
    pub(crate) fn give(&self, order: Order) {
        self.order.fetch_max(order as u8, Relaxed);
        self.task.wake();
    }

    /// What is asked of it.
    pub(crate) fn order(&self) -> Order {
        ORDERS[usize::from(self.order.load(Relaxed))]
    }

    /// The same, to the task that is woken up by the next order.
    pub(crate) fn poll_order(&self, context: &Context<'_>) -> Order {
        self.task.register(context.waker());
        self.order()
    }

    /// The client may still be sending when the answer is out.
    pub(crate) fn leaves_unread(&self) {
        self.unread.store(true, Relaxed);
    }

    pub(crate) fn has_unread(&self) -> bool {
        self.unread.load(Relaxed)
    }
}
