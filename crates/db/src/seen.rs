//! How far a client has to see: what it wrote, it reads, also on a replica.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// How far one client has to see in what was written: a position in PostgreSQL's write-ahead log (LSN), which the client
/// carries from one request to the next as a token. Inside [`with_seen`](crate::with_seen) nothing is read on a replica that has not come so far.
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

    /// Whether something was written inside [`with_seen`](crate::with_seen).
    #[must_use]
    pub fn has_written(&self) -> bool {
        self.wrote.load(SeqCst)
    }

    /// How far it has to see; `None` if only the primary will do.
    pub(crate) fn needed(&self) -> Option<u64> {
        (!self.has_written()).then(|| self.position.load(SeqCst))
    }

    /// It has written, or may have.
    pub(crate) fn wrote(&self) {
        self.wrote.store(true, SeqCst);
    }

    /// The position that was asked for after the write.
    pub(crate) fn reached(&self, position: u64) {
        self.position.fetch_max(position, SeqCst);
        self.wrote.store(false, SeqCst);
    }
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
