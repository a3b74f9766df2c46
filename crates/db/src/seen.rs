//! How far a client has to see: what it wrote, it reads, also on a replica.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

tokio::task_local! {
    static SEEN: Arc<Seen>;
}

/// How far one client has to see in what was written: a position in PostgreSQL's write-ahead log (LSN), which the client
/// carries from one request to the next as a token. Inside [`with_seen`] nothing is read on a replica that has not come so far.
///
/// ```no_run
/// # use std::sync::Arc;
/// # async fn example(pool: &db::Pool, cookie: &str) -> Result<(), db::Error> {
/// let seen = Arc::new(db::Seen::of_token(cookie));
/// db::with_seen(seen.clone(), async {
///     sqlx::query("insert into customer (name) values ('Ada')").execute(pool).await
/// })
/// .await?;
/// if let Some(token) = pool.token(&seen).await {
///     // give it to the client, who brings it with the next request
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct Seen {
    /// 0 if the client has not written lately.
    position: AtomicU64,
    /// It has written since, and how far that came is not known.
    wrote: AtomicBool,
}

impl Seen {
    /// That of a client with this token, such as `16/B374D848`. Any other text is that of a client that has not written.
    ///
    /// ```
    /// let nothing = db::Seen::of_token("not a token");
    /// assert!(!nothing.has_written());
    /// ```
    #[must_use]
    pub fn of_token(token: &str) -> Self {
        Self {
            position: AtomicU64::new(read_position(token).unwrap_or(0)),
            wrote: AtomicBool::new(false),
        }
    }

    /// Whether something was written inside [`with_seen`].
    #[must_use]
    pub fn has_written(&self) -> bool {
        self.wrote.load(SeqCst)
    }

    /// The position that was asked for after the write.
    pub(crate) fn reached(&self, position: u64) {
        self.position.fetch_max(position, SeqCst);
        self.wrote.store(false, SeqCst);
    }
}

/// Runs `future` for a client that has seen so much: its reads on replicas see no less, and its writes count for the next ones.
///
/// ```no_run
/// # use std::sync::Arc;
/// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
/// let seen = Arc::new(db::Seen::default());
/// let read = sqlx::query("select 1").execute(pool.read());
/// db::with_seen(seen, read).await?;
/// # Ok(()) }
/// ```
pub fn with_seen<F: Future>(seen: Arc<Seen>, future: F) -> impl Future<Output = F::Output> {
    SEEN.scope(seen, future)
}

/// That of the caller.
pub(crate) fn current() -> Option<Arc<Seen>> {
    SEEN.try_with(Arc::clone).ok()
}

/// How far the caller has to see; `None` if only the primary will do.
pub(crate) fn needed() -> Option<u64> {
    let needed = |seen: &Arc<Seen>| (!seen.has_written()).then(|| seen.position.load(SeqCst));
    SEEN.try_with(needed).unwrap_or(Some(0))
}

/// Whether somebody wants to know of the caller's writes.
pub(crate) fn is_wanted() -> bool {
    SEEN.try_with(|seen| !seen.has_written()).unwrap_or(false)
}

/// The caller has written, or may have.
pub(crate) fn wrote() {
    let _ = SEEN.try_with(|seen| seen.wrote.store(true, SeqCst));
}

/// `16/B374D848`, as PostgreSQL writes it.
pub(crate) fn read_position(text: &str) -> Option<u64> {
    let (high, low) = text.trim().split_once('/')?;
    let half = |text: &str| {
        let plain = text.len() <= 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        plain.then(|| u32::from_str_radix(text, 16).ok()).flatten()
    };
    Some(u64::from(half(high)?) << 32 | u64::from(half(low)?))
}

/// The same the other way round.
pub(crate) fn write_position(position: u64) -> String {
    format!("{:X}/{:X}", position >> 32, position & 0xFFFF_FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_postgresql_writes_them() {
        for (text, position) in [
            ("0/0", 0),
            ("16/B374D848", 0x16_B374_D848),
            ("FFFFFFFF/FFFFFFFF", u64::MAX),
        ] {
            assert_eq!(read_position(text), Some(position));
            assert_eq!(write_position(position), text);
        }
        for text in ["", "/", "1/", "+1/2", "1/100000000", "16 B3", "0x1/2"] {
            assert_eq!(read_position(text), None, "{text}");
        }
    }
}
