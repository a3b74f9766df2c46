//! `/api/reservations`: list, create, read, update (move or resize), cancel.
//!
//! That one resource is never booked twice at one time is the database's constraint `reservation_no_overlap`. Who writes
//! takes the resource's advisory lock first: at the constraint alone, two who collide can end up waiting for each other,
//! which PostgreSQL breaks after a second with a deadlock error. Without the lock the rule would hold all the same.

use axum::Router;
use axum::extract::State;
use axum::http::header::{HeaderName, LOCATION};
use axum::http::{StatusCode, Uri};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use server::{Cursor, Error, Json, Limit, Page, Path, Query, Result, ResultExt};
use sqlx::query_as;
use uuid::Uuid;

use crate::change::update;
use crate::timestamp::Timestamp;

pub(crate) fn routes() -> Router<db::Pool> {
    Router::new()
        .route("/api/reservations", get(list).post(create))
        .route("/api/reservations/{id}", get(read).patch(update))
        .route("/api/reservations/{id}/cancel", post(cancel))
}

/// Newest first; `from` and `to` keep what takes any of the time from the one until before the other.
async fn list(
    State(pool): State<db::Pool>,
    uri: Uri,
    Query(Filter {
        limit,
        cursor,
        customer_id,
        resource,
        from,
        to,
    }): Query<Filter>,
) -> Result<Page<Reservation>> {
    if from.zip(to).is_some_and(|(from, to)| from >= to) {
        return Err(Error::field("to", "must be after from"));
    }
    let reservations = query_as!(
        Reservation,
        "
        select id, customer_id, resource, starts_at, ends_at, party_size, status, created_at, updated_at
        from reservation
        where ($1::uuid is null or customer_id = $1)
            and ($2::text is null or resource = $2)
            and tstzrange(starts_at, ends_at, '[)') && tstzrange($3, $4, '[)')
            and id < $5
        order by id desc
        limit $6
        ",
        customer_id,
        resource,
        from.map(Timestamp::utc),
        to.map(Timestamp::utc),
        cursor.id(),
        limit.rows(),
    )
    .fetch_all(&pool)
    .await?;
    Ok(Page::new(reservations, limit, &uri, |reservation| {
        reservation.id
    }))
}

async fn create(
    State(pool): State<db::Pool>,
    Json(NewReservation {
        customer_id,
        resource,
        starts_at,
        ends_at,
        party_size,
    }): Json<NewReservation>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Reservation>)> {
    let reservation = query_as!(
        Reservation,
        "
        insert into reservation (id, customer_id, resource, starts_at, ends_at, party_size)
        select $1, $2, $3, $4, $5, $6
        from pg_advisory_xact_lock(hashtextextended($3, 0))
        returning id, customer_id, resource, starts_at, ends_at, party_size, status, created_at, updated_at
        ",
        Uuid::now_v7(),
        customer_id,
        resource,
        starts_at.utc(),
        ends_at.utc(),
        party_size,
    )
    .fetch_one(&pool)
    .await;
    let reservation = constrained(reservation, &resource, starts_at, ends_at)?;

    let location = format!("/api/reservations/{}", reservation.id);
    Ok((
        StatusCode::CREATED,
        [(LOCATION, location)],
        Json(reservation),
    ))
}

pub(crate) async fn read(
    State(pool): State<db::Pool>,
    Path(id): Path<Uuid>,
) -> Result<Json<Reservation>> {
    query_as!(
        Reservation,
        "
        select id, customer_id, resource, starts_at, ends_at, party_size, status, created_at, updated_at
        from reservation
        where id = $1
        ",
        id,
    )
    .fetch_optional(&pool)
    .await?
    .map(Json)
    .ok_or(Error::NotFound)
}

/// Frees the slot; cancelling again changes nothing.
async fn cancel(State(pool): State<db::Pool>, Path(id): Path<Uuid>) -> Result<Json<Reservation>> {
    query_as!(
        Reservation,
        "
        update reservation
        set
            status = 'cancelled',
            updated_at = case status when 'cancelled' then updated_at else now() end
        where id = $1
        returning id, customer_id, resource, starts_at, ends_at, party_size, status, created_at, updated_at
        ",
        id,
    )
    .fetch_optional(&pool)
    .await?
    .map(Json)
    .ok_or(Error::NotFound)
}

#[derive(Serialize)]
pub(crate) struct Reservation {
    pub(crate) id: Uuid,
    pub(crate) customer_id: Uuid,
    pub(crate) resource: String,
    pub(crate) starts_at: Timestamp,
    pub(crate) ends_at: Timestamp,
    pub(crate) party_size: i32,
    pub(crate) status: String,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewReservation {
    customer_id: Uuid,
    resource: String,
    starts_at: Timestamp,
    ends_at: Timestamp,
    party_size: i32,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Filter {
    limit: Limit,
    cursor: Cursor,
    customer_id: Option<Uuid>,
    resource: Option<String>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

/// What the names of the constraints say to a client who asked for this period of a resource.
pub(crate) fn constrained<T>(
    result: Result<T, sqlx::Error>,
    resource: &str,
    starts_at: Timestamp,
    ends_at: Timestamp,
) -> Result<T> {
    result
        .on_constraint("reservation_no_overlap", || {
            Error::conflict(format!(
                "{resource} is already reserved for a part of {starts_at} to {ends_at}."
            ))
        })
        .on_constraint("reservation_customer_fk", || {
            Error::field("customer_id", "must be the id of a customer")
        })
        .on_constraint("reservation_resource_length", || {
            Error::field("resource", "must have 1 to 100 characters, not only spaces")
        })
        .on_constraint("reservation_period_order", || {
            Error::field("ends_at", "must be after starts_at")
        })
        .on_constraint("reservation_period_range", || {
            Error::field(
                "starts_at",
                "must, like ends_at, lie in the years 1970 to 9999",
            )
        })
        .on_constraint("reservation_party_size", || {
            Error::field("party_size", "must be 1 to 1000")
        })
}
