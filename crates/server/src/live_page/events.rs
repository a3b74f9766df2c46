//! `/pool/events`: first the last ten minutes, then an event for each second, until the service stops.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::HeaderName;
use axum::response::sse::{Event, Sse};
use futures_util::stream::{self, Stream};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::metrics::history::{COLUMNS, History, holder};

/// So many holders are listed, longest first.
const LISTED: usize = 50;

/// What visitors of the page follow.
pub(super) struct Events {
    service: &'static str,
    pool: db::Pool,
    history: Arc<History>,
    /// The text of the newest event and its number: made by the first visitor who wants it, for all.
    newest: Mutex<(u64, Arc<str>)>,
}

impl Events {
    pub(super) fn new(service: &'static str, pool: db::Pool, history: Arc<History>) -> Self {
        Self {
            service,
            pool,
            history,
            newest: Mutex::new((0, Arc::from(""))),
        }
    }

    /// The last ten minutes, and what does not change.
    fn first(&self) -> String {
        let settings: Vec<_> = self
            .pool
            .config()
            .settings()
            .into_iter()
            .map(|one| json!([one.key, one.value, one.from, one.meaning]))
            .collect();
        let mut event = self.now();
        event["service"] = json!(self.service);
        event["settings"] = json!(settings);
        event["columns"] = json!(COLUMNS);
        event["samples"] = self.history.samples();
        event.to_string()
    }

    /// The newest sample.
    fn next(&self, number: u64) -> Arc<str> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.0 != number {
            let mut event = self.now();
            event["sample"] = self.history.newest();
            *newest = (number, event.to_string().into());
        }
        newest.1.clone()
    }

    fn now(&self) -> Value {
        let stats = self.pool.stats();
        let holders = self.pool.holders();
        let holders: Vec<_> = holders.iter().take(LISTED).map(holder).collect();
        json!({ "pool": self.history.pool_object(&stats), "holders": holders })
    }
}

/// The stream of one visitor. It ends when the service stops, so that no open page holds that up.
pub(super) async fn follow(
    State(events): State<Arc<Events>>,
) -> (
    [(HeaderName, &'static str); 1],
    Sse<impl Stream<Item = Result<Event, Infallible>>>,
) {
    let mut ticks = events.history.follow();
    ticks.mark_changed();
    let first = Event::default().event("first").data(events.first());
    let first = first.retry(std::time::Duration::from_secs(1));
    let events = Sse::new(stream::unfold(
        (events, ticks, Some(first)),
        async |(events, mut ticks, first)| {
            let number = number(&mut ticks, first.is_some()).await?;
            let event = first.unwrap_or_else(|| Event::default().data(events.next(number)));
            Some((Ok(event), (events, ticks, None)))
        },
    ));
    // nginx would keep the events back until it has a buffer of them.
    (
        [(HeaderName::from_static("x-accel-buffering"), "no")],
        events,
    )
}

/// The number of the newest sample, once there is another one; nothing once there will be no more.
async fn number(ticks: &mut watch::Receiver<Option<u64>>, at_once: bool) -> Option<u64> {
    if !at_once {
        ticks.changed().await.ok()?;
    }
    *ticks.borrow_and_update()
}
