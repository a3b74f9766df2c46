//! Which of several servers the pool works with, and how far it has seen the history of the database come.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Mutex, Once, PoisonError};

/// A standby that is promoted begins a new timeline, so that of two servers that take writes the one with the lower number
/// has been left behind.
#[derive(Debug)]
pub(crate) struct Servers {
    /// The place of the host that was right last, counted from 1; 0 as long as none was.
    last: AtomicU32,
    /// The highest timeline that was seen, 0 where nobody asks for it.
    timeline: AtomicU32,
    /// What the addresses of a name have said, while none has answered.
    addresses: Mutex<String>,
    /// Done once the log has said that the certificate is not read, and that connections are not encrypted.
    said: [Once; 2],
}

impl Default for Servers {
    fn default() -> Self {
        Self {
            last: AtomicU32::default(),
            timeline: AtomicU32::default(),
            addresses: Mutex::default(),
            said: [Once::new(), Once::new()],
        }
    }
}

impl Servers {
    /// Keeps what the addresses of a name have said, for the error of a timeout.
    pub(crate) fn tell(&self, addresses: String) {
        *self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// That, if there is something.
    pub(crate) fn addresses(&self) -> Option<String> {
        let addresses = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Some(addresses.clone()).filter(|text| !text.is_empty())
    }

    /// Says that the certificate is not read, but only the first time.
    pub(crate) fn say_unread(&self, say: impl FnOnce()) {
        self.said[0].call_once(say);
    }

    /// Says that connections are not encrypted, but only the first time.
    pub(crate) fn say_plain(&self, say: impl FnOnce()) {
        self.said[1].call_once(say);
    }

    /// The place of the host that was right last, or the first one.
    pub(crate) fn last(&self) -> usize {
        self.last.load(SeqCst).saturating_sub(1) as usize
    }

    /// Whether no server has gone further than this timeline. A standby has none of its own: 0.
    pub(crate) fn is_current(&self, timeline: u32) -> bool {
        timeline == 0 || timeline >= self.timeline.load(SeqCst)
    }

    /// The highest timeline that was seen.
    pub(crate) fn timeline(&self) -> u32 {
        self.timeline.load(SeqCst)
    }

    /// The host at this place was right. Says whether that is another server than before.
    pub(crate) fn found(&self, place: usize, timeline: u32) -> bool {
        let before = self.timeline.fetch_max(timeline, SeqCst);
        // Another one was seen since this one was asked: its connection is not used.
        if timeline != 0 && timeline < before {
            return false;
        }
        let place = u32::try_from(place + 1).unwrap_or(u32::MAX);
        let last = self.last.swap(place, SeqCst);
        last != 0 && (last != place || before != 0 && timeline > before)
    }
}
