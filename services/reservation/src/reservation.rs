//! `/api/reservations`: create, read, update (move or resize), cancel. The list is in `list.rs`.
//!
//! That one resource is never booked twice at one time is the database's constraint `reservation_no_overlap`. Who writes
//! takes the resource's advisory lock first: at the constraint alone, two who collide can end up waiting for each other,
//! which PostgreSQL breaks after a second with a deadlock error. Without the lock the rule would hold all the same.
//!
//! No statement waits for a lock, of a resource or of a row: `queue.rs` says who waits where.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{HeaderName, LOCATION};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use server::{Error, Json, Path, Result, ResultExt};
use sqlx::{PgExecutor, query_as, query_scalar};
use uuid::Uuid;

use crate::queue::{Attempt, Queue};
use crate::state::App;
use crate::timestamp::Timestamp;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/api/reservations", post(create))
        .route("/api/reservations/{id}", get(read).patch(update))
        .route("/api/reservations/{id}/cancel", post(cancel))
}

async fn create(
    State(pool): State<db::Pool>,
    State(queue): State<Queue>,
    Json(new): Json<NewReservation>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Reservation>)> {
    let reservation = queue
        .write(&new.resource, || try_create(&pool, &new))
        .await?;
    let location = format!("/api/reservations/{}", reservation.id);
    Ok((
        StatusCode::CREATED,
        [(LOCATION, location)],
        Json(reservation),
    ))
}

async fn try_create(pool: &db::Pool, new: &NewReservation) -> Result<Attempt<Reservation>> {
    let created = query_as!(
        Reservation,
        "
        insert into reservation (id, customer_id, resource, starts_at, ends_at, party_size)
        select $1, $2, $3, $4, $5, $6
        from pg_try_advisory_xact_lock(hashtextextended($3, 0)) as is_mine
        where is_mine
        returning id, customer_id, resource, starts_at, ends_at, party_size, status, created_at, updated_at
        ",
        Uuid::now_v7(),
        new.customer_id,
        new.resource,
        new.starts_at.utc(),
        new.ends_at.utc(),
        new.party_size,
    )
    .fetch_optional(pool)
    .await
    .on_constraint(|name| answer(name, &new.resource, new.starts_at, new.ends_at))?;
    Ok(created.map_or_else(|| Attempt::Locked(new.resource.clone()), Attempt::Done))
}

async fn read(State(pool): State<db::Pool>, Path(id): Path<Uuid>) -> Result<Json<Reservation>> {
    find(pool.read(), id).await.map(Json)
}

async fn find(executor: impl PgExecutor<'_>, id: Uuid) -> Result<Reservation> {
    query_as!(
        Reservation,
        "
        select id, customer_id, resource, starts_at, ends_at, party_size, status, created_at, updated_at
        from reservation
        where id = $1
        ",
        id,
    )
    .fetch_optional(executor)
    .await?
    .ok_or(Error::NotFound)
}

/// A merge patch (RFC 7396): what is absent stays.
async fn update(
    State(pool): State<db::Pool>,
    State(queue): State<Queue>,
    Path(id): Path<Uuid>,
    Json(change): Json<Change>,
) -> Result<Json<Reservation>> {
    if change == Change::default() {
        return read(State(pool), Path(id)).await;
    }
    // Many who want one place wait for it from the first; else what is locked shows where to wait.
    let row = id.to_string();
    let first = change.resource.as_ref().unwrap_or(&row);
    let changed = queue
        .write(first, || try_update(&pool, id, &change))
        .await?;
    Ok(Json(changed))
}

/// What is written depends on what is there, so it takes a transaction.
async fn try_update(pool: &db::Pool, id: Uuid, change: &Change) -> Result<Attempt<Reservation>> {
    let mut transaction = pool.begin().await?;
    let current = match lock(&mut transaction, id, change.resource.as_deref()).await? {
        Attempt::Done(current) => current,
        Attempt::Locked(name) => {
            transaction.rollback().await?;
            return Ok(Attempt::Locked(name));
        }
    };
    if current.status == "cancelled" {
        return Err(Error::conflict(
            "A cancelled reservation cannot be changed; make a new one.",
        ));
    }
    let resource = change.resource.as_ref().unwrap_or(&current.resource);
    let starts_at = change.starts_at.unwrap_or(current.starts_at);
    let ends_at = change.ends_at.unwrap_or(current.ends_at);
    let changed = query_as!(
        Reservation,
        "
        update reservation
        set resource = $2, starts_at = $3, ends_at = $4, party_size = $5, updated_at = now()
        where id = $1
        returning id, customer_id, resource, starts_at, ends_at, party_size, status, created_at, updated_at
        ",
        id,
        resource,
        starts_at.utc(),
        ends_at.utc(),
        change.party_size.unwrap_or(current.party_size),
    )
    .fetch_one(&mut *transaction)
    .await
    .on_constraint(|name| answer(name, resource, starts_at, ends_at))?;
    transaction.commit().await?;
    Ok(Attempt::Done(changed))
}

/// The reservation, as it stays until the transaction ends, with the locks of its resource and of the other one.
async fn lock(
    transaction: &mut db::Connection,
    id: Uuid,
    other: Option<&str>,
) -> Result<Attempt<Reservation>> {
    let current = query_as!(
        Reservation,
        "
        select id, customer_id, resource, starts_at, ends_at, party_size, status, created_at, updated_at
        from reservation
        where id = $1
        for no key update skip locked
        ",
        id,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(current) = current else {
        find(&mut *transaction, id).await?;
        return Ok(Attempt::Locked(id.to_string()));
    };
    let resources = [Some(&*current.resource), other];
    let locked = query_scalar!(
        r#"
        select name as "name!"
        from unnest($1::text[]) as name
        where not pg_try_advisory_xact_lock(hashtextextended(name, 0))
        limit 1
        "#,
        &resources as _,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    Ok(locked.map_or(Attempt::Done(current), Attempt::Locked))
}

/// Frees the slot; cancelling again changes nothing. Whoever waits for the slot waits for the row's lock, not for that of
/// the resource.
async fn cancel(
    State(pool): State<db::Pool>,
    State(queue): State<Queue>,
    Path(id): Path<Uuid>,
) -> Result<Json<Reservation>> {
    let row = id.to_string();
    let cancelled = queue.write(&row, || try_cancel(&pool, id)).await?;
    Ok(Json(cancelled))
}

async fn try_cancel(pool: &db::Pool, id: Uuid) -> Result<Attempt<Reservation>> {
    let cancelled = query_as!(
        Reservation,
        "
        with free as (select id from reservation where id = $1 for no key update skip locked)
        update reservation
        set
            status = 'cancelled',
            updated_at = case status when 'cancelled' then updated_at else now() end
        from free
        where reservation.id = free.id
        returning
            reservation.id, customer_id, resource, starts_at, ends_at, party_size, status, created_at, updated_at
        ",
        id,
    )
    .fetch_optional(pool)
    .await?;
    match cancelled {
        Some(cancelled) => Ok(Attempt::Done(cancelled)),
        None => {
            find(pool, id).await?;
            Ok(Attempt::Locked(id.to_string()))
        }
    }
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

/// `None` is absent; nothing of a reservation can be cleared.
#[derive(Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Change {
    #[serde(deserialize_with = "server::present")]
    resource: Option<String>,
    #[serde(deserialize_with = "server::present")]
    starts_at: Option<Timestamp>,
    #[serde(deserialize_with = "server::present")]
    ends_at: Option<Timestamp>,
    #[serde(deserialize_with = "server::present")]
    party_size: Option<i32>,
}

/// What the names of the constraints say to a client who asked for this time of a resource.
fn answer(
    constraint: &str,
    resource: &str,
    starts_at: Timestamp,
    ends_at: Timestamp,
) -> Option<Error> {
    let (field, detail) = match constraint {
        "reservation_customer_fk" => ("customer_id", "must be the id of a customer"),
        "reservation_resource_length" => {
            ("resource", "must have 1 to 100 characters, not only spaces")
        }
        "reservation_period_order" => ("ends_at", "must be after starts_at"),
        "reservation_length" => ("ends_at", "must be at most 31 days after starts_at"),
        "reservation_period_range" => (
            "starts_at",
            "must, like ends_at, lie in the years 1970 to 9999",
        ),
        "reservation_party_size" => ("party_size", "must be 1 to 1000"),
        "reservation_no_overlap" => {
            return Some(Error::conflict(format!(
                "{resource} is already reserved for a part of {starts_at} to {ends_at}."
            )));
        }
        _ => return None,
    };
    Some(Error::field(field, detail))
}
