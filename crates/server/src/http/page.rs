//! One page of a list: how long it is, where it starts, and the answer with the way to the next one.
//!
//! Keyset pagination: a cursor is the id of the last row seen, ids grow with time, and the next page is what has a
//! smaller id. Every page costs the same, and rows that are added meanwhile move nothing.

use axum::http::{Uri, header::LINK};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

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

/// Where a page starts: after the row of this id. Opaque to clients.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct Cursor(Uuid);

impl Cursor {
    /// The page has rows with ids below this one.
    #[must_use]
    pub fn id(self) -> Uuid {
        self.0
    }
}

impl Default for Cursor {
    /// The first page: every id made from a time is below.
    fn default() -> Self {
        Self(Uuid::max())
    }
}

impl TryFrom<String> for Cursor {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let id = Uuid::try_parse(&text)
            .ok()
            .filter(|id| id.simple().to_string() == text);
        id.map(Self)
            .ok_or("must be the next_cursor of an earlier page")
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
    /// The page that answers `uri`, made of [`Limit::rows`] rows or as many as there were; `id` names a row's key.
    pub fn new(mut rows: Vec<T>, limit: Limit, uri: &Uri, id: impl Fn(&T) -> Uuid) -> Self {
        let shown = usize::try_from(limit.0).unwrap_or(rows.len());
        let more = rows.len() > shown;
        rows.truncate(shown);
        let next_cursor = rows
            .last()
            .filter(|_| more)
            .map(|last| id(last).simple().to_string());
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
