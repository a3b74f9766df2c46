//! One page of a list: how long it is, where it starts, and the answer with the way to the next one.
//!
//! Keyset pagination: a cursor is the key of the last row seen, and the next page is what comes after that key. Every
//! page costs the same, and rows that are added meanwhile move nothing. The key is what the list is ordered by: an id,
//! newest first, or a moment and an id, earliest first.

use axum::http::{Uri, header::LINK};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::Error;
use crate::http::extract::Json;

/// How many rows a page has: 1 to 100, 20 unless told.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "i64")]
pub struct Limit(i64);

impl Limit {
    /// The rows to ask the database for: one more than the page shows, to know whether another page follows.
    #[must_use]
    pub fn rows(self) -> i64 {
        self.0 + 1
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(20)
    }
}

impl TryFrom<i64> for Limit {
    type Error = &'static str;

    fn try_from(limit: i64) -> Result<Self, Self::Error> {
        (1..=100)
            .contains(&limit)
            .then_some(Self(limit))
            .ok_or("must be 1 to 100")
    }
}

/// What a list is ordered by. The last part is an id, so that no two rows have the same key.
pub trait Key: Copy {
    /// Comes before every row.
    const FIRST: Self;

    /// The key as clients get it.
    fn write(self) -> String;

    /// The key of which `text` was made; other text gives `None`, or a key that is written differently.
    fn read(text: &str) -> Option<Self>;
}

/// Newest first: ids are made from the time and grow with it, and the next page has smaller ones.
impl Key for Uuid {
    const FIRST: Self = Self::max();

    fn write(self) -> String {
        self.simple().to_string()
    }

    fn read(text: &str) -> Option<Self> {
        Self::try_parse(text).ok()
    }
}

/// Earliest first; of rows of one moment, that with the smaller id. Moments are of 1970 or later and have the
/// microseconds that PostgreSQL keeps.
impl Key for (OffsetDateTime, Uuid) {
    const FIRST: Self = (OffsetDateTime::UNIX_EPOCH, Uuid::nil());

    fn write(self) -> String {
        let (moment, id) = self;
        format!(
            "{:016x}{}",
            moment.unix_timestamp_nanos() / 1000,
            id.simple()
        )
    }

    fn read(text: &str) -> Option<Self> {
        let (moment, id) = text.split_at_checked(16)?;
        let microseconds = i128::from(u64::from_str_radix(moment, 16).ok()?);
        let moment = OffsetDateTime::from_unix_timestamp_nanos(microseconds * 1000).ok()?;
        Some((moment, Uuid::try_parse(id).ok()?))
    }
}

/// Where a page starts: after the row with this key. Opaque to clients.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String", bound = "K: Key")]
pub struct Cursor<K = Uuid>(K);

impl Cursor {
    /// The page has rows with ids below this one.
    #[must_use]
    pub fn id(self) -> Uuid {
        self.0
    }
}

impl<K: Key> Cursor<K> {
    /// The page has the rows after this key.
    #[must_use]
    pub fn key(self) -> K {
        self.0
    }

    /// The cursor that a client has sent as the parameter `cursor`, or the first page; for lists whose other parameters
    /// say what they are ordered by. Where they do not, the parameter can be of the type `Cursor`.
    ///
    /// # Errors
    /// A 422 if it is not the cursor of a list in this order.
    pub fn read(parameter: Option<String>) -> Result<Self, Error> {
        parameter
            .map_or(Ok(Self::default()), Self::try_from)
            .map_err(|problem| Error::field("cursor", problem))
    }
}

impl<K: Key> Default for Cursor<K> {
    /// The first page.
    fn default() -> Self {
        Self(K::FIRST)
    }
}

impl<K: Key> TryFrom<String> for Cursor<K> {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        K::read(&text)
            .filter(|key| key.write() == text)
            .map(Self)
            .ok_or("must be the next_cursor of an earlier page of this list")
    }
}

/// The answer to a list: `{"data": […], "next_cursor": "…" | null}` and, where a page follows, its `Link` header.
#[derive(Serialize)]
pub struct Page<T> {
    data: Vec<T>,
    next_cursor: Option<String>,
    #[serde(skip)]
    next_link: Option<String>,
}

impl<T> Page<T> {
    /// The page that answers `uri`, made of [`Limit::rows`] rows or as many as there were; `key` names a row's key.
    pub fn new<K: Key>(mut rows: Vec<T>, limit: Limit, uri: &Uri, key: impl Fn(&T) -> K) -> Self {
        let shown = usize::try_from(limit.0).unwrap_or(rows.len());
        let more = rows.len() > shown;
        rows.truncate(shown);
        let next_cursor = rows.last().filter(|_| more).map(|last| key(last).write());
        let next_link = next_cursor.as_deref().map(|cursor| link(uri, cursor));
        Self {
            data: rows,
            next_cursor,
            next_link,
        }
    }
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(mut self) -> Response {
        let link = self.next_link.take().map(|link| [(LINK, link)]);
        (link, Json(self)).into_response()
    }
}

/// The same list from `cursor` on: every other parameter of `uri` stays.
fn link(uri: &Uri, cursor: &str) -> String {
    let parameters = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(parameters.filter(|(key, _)| key != "cursor"))
        .append_pair("cursor", cursor)
        .finish();
    format!("<{}?{query}>; rel=\"next\"", uri.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_by_its_own_order_only() {
        let id = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_00af);
        let moment = OffsetDateTime::from_unix_timestamp_nanos(1_900_000_000_123_456_000);
        let key = (moment.unwrap(), id);
        let (by_id, by_moment) = (id.write(), key.write());
        assert_eq!(by_moment, format!("0006c00a3914a240{by_id}"));
        let read = |text: &str| Cursor::<(OffsetDateTime, Uuid)>::read(Some(text.to_owned()));
        assert_eq!(read(&by_moment).unwrap().key(), key);
        assert_eq!(Cursor::<Uuid>::read(Some(by_id.clone())).unwrap().id(), id);
        assert!(Cursor::<Uuid>::read(Some(by_moment.clone())).is_err());
        for text in [
            "",
            &by_id,
            &by_moment[1..],
            &by_moment.to_uppercase(),
            &format!("+{}", &by_moment[1..]),
            &format!("{}{by_id}", "f".repeat(16)),
            &format!("ä{}", &by_moment[2..]),
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
