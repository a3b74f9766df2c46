//! `GET /api/reservations`: newest first or, with `from` or `to`, in the order in which they start.

use axum::extract::State;
use axum::http::Uri;
use serde::Deserialize;
use server::{Cursor, Error, Limit, Page, Query, Result};
use sqlx::query_as;
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use crate::reservation::Reservation;
use crate::timestamp::Timestamp;

/// Newest first; a window of time has an order of its own.
pub(crate) async fn list(
    State(pool): State<db::Pool>,
    uri: Uri,
    Query(filter): Query<Filter>,
) -> Result<Page<Reservation>> {
    if filter.from.is_some() || filter.to.is_some() {
        return in_window(pool.read(), &uri, filter).await;
    }
    // Planned anew at every execution, on purpose: docs/pooling.md, "Lists".
    let reservations = query_as!(
        Reservation,
        "
        select id, customer_id, resource, starts_at, ends_at, party_size, status, created_at, updated_at
        from reservation
        where ($1::uuid is null or customer_id = $1)
            and ($2::text is null or resource = $2)
            and id < $3
        order by id desc
        limit $4
        ",
        filter.customer_id,
        filter.resource,
        Cursor::read(filter.cursor)?.id(),
        filter.limit.rows(),
    )
    .fetch_all(pool.read())
    .await?;
    Ok(Page::new(reservations, filter.limit, &uri, |row| row.id))
}

/// What takes any of the time from `from` until before `to`, in the order in which it starts.
async fn in_window(pool: &db::Pool, uri: &Uri, filter: Filter) -> Result<Page<Reservation>> {
    let (from, to) = (filter.from, filter.to);
    if from.zip(to).is_some_and(|(from, to)| from >= to) {
        return Err(Error::field("to", "must be after from"));
    }
    // An open side ends with the years in which reservations lie: the constraint `reservation_period_range`.
    let window = Window {
        from: from.map_or(OffsetDateTime::UNIX_EPOCH, Timestamp::utc),
        to: to.map_or(Date::MAX.midnight().assume_utc(), Timestamp::utc),
        after: Cursor::read(filter.cursor)?.key(),
        rows: filter.limit.rows(),
    };
    let reservations = match (filter.customer_id, filter.resource) {
        (None, None) => all_in(pool, window).await?,
        (customer, resource) => some_in(pool, customer, resource, window).await?,
    };
    let key = |row: &Reservation| (row.starts_at.utc(), row.id);
    Ok(Page::new(reservations, filter.limit, uri, key))
}

/// The page as each class of lengths (`reservation_lengths`) has it, and of these the first rows: docs/lists.md.
///
/// What of a class takes time after `from` began less than the class's longest length before it. What began just so long
/// before has ended by `from`; so that bound may stand with the id of the cursor, which belongs to another moment.
///
/// The two conditions with 744 hours follow from the others and are for the planner: without bounds that it can weigh it
/// expects to read half of the index. With them one plan, made once, is good for every window.
async fn all_in(pool: &db::Pool, window: Window) -> Result<Vec<Reservation>> {
    let reservations = query_as!(
        Reservation,
        "
        with page as (
            select candidate.id
            from unnest(reservation_lengths()) with ordinality as class (longest, number)
            cross join lateral (
                select id, starts_at
                from reservation
                where width_bucket(ends_at - starts_at - interval '1 microsecond', reservation_lengths()) = class.number - 1
                    and (starts_at, id) > (greatest($1::timestamptz - class.longest, $3), $4)
                    and starts_at >= $1 - interval '744 hours'
                    and starts_at < $2
                    and ends_at > $1
                    and ends_at < $2 + interval '744 hours'
                order by starts_at, id
                limit $5
            ) as candidate
            order by candidate.starts_at, candidate.id
            limit $5
        )
        select id, customer_id, resource, starts_at, ends_at, party_size, status, created_at, updated_at
        from page join reservation using (id)
        order by starts_at, id
        ",
        window.from,
        window.to,
        window.after.0,
        window.after.1,
        window.rows,
    );
    Ok(reservations.fetch_all(pool).await?)
}

/// Of one customer or one resource, or both: what these have in 31 days is little enough to be read.
async fn some_in(
    pool: &db::Pool,
    customer: Option<Uuid>,
    resource: Option<String>,
    window: Window,
) -> Result<Vec<Reservation>> {
    let reservations = query_as!(
        Reservation,
        "
        select id, customer_id, resource, starts_at, ends_at, party_size, status, created_at, updated_at
        from reservation
        where ($1::uuid is null or customer_id = $1)
            and ($2::text is null or resource = $2)
            and (starts_at, id) > (greatest($3::timestamptz - interval '744 hours', $5), $6)
            and starts_at < $4
            and ends_at > $3
        order by starts_at, id
        limit $7
        ",
        customer,
        resource,
        window.from,
        window.to,
        window.after.0,
        window.after.1,
        window.rows,
    );
    Ok(reservations.fetch_all(pool).await?)
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Filter {
    limit: Limit,
    /// Of the order that the other parameters ask for.
    cursor: Option<String>,
    customer_id: Option<Uuid>,
    resource: Option<String>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

/// A page of what takes any of the time between two moments.
struct Window {
    from: OffsetDateTime,
    to: OffsetDateTime,
    after: (OffsetDateTime, Uuid),
    rows: i64,
}
