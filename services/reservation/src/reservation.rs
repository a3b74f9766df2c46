//! `/api/reservations`: create, read, update (move or resize), cancel. The list is in `list.rs`.
//!
//! That one resource is never booked twice at one time is the database's constraint `reservation_no_overlap`. Who writes
//! takes the resource's advisory lock first: at the constraint alone, two who collide can end up waiting for each other,
//! which PostgreSQL breaks after a second with a deadlock error. Without the lock the rule would hold all the same.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{HeaderName, LOCATION};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use server::{Error, Json, Path, Result, ResultExt};
use sqlx::{query, query_as};
use uuid::Uuid;

use crate::timestamp::Timestamp;

pub(crate) fn routes() -> Router<db::Pool> {
    Router::new()
        .route("/api/reservations", post(create))
        .route("/api/reservations/{id}", get(read).patch(update))
        .route("/api/reservations/{id}/cancel", post(cancel))
}

async fn create(
    State(pool): State<db::Pool>,
    Json(new): Json<NewReservation>,
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
        new.customer_id,
        new.resource,
        new.starts_at.utc(),
        new.ends_at.utc(),
        new.party_size,
    )
    .fetch_one(&pool)
    .await
    .on_constraint(|name| answer(name, &new.resource, new.starts_at, new.ends_at))?;
    let location = format!("/api/reservations/{}", reservation.id);
    Ok((
        StatusCode::CREATED,
        [(LOCATION, location)],
        Json(reservation),
    ))
}

async fn read(State(pool): State<db::Pool>, Path(id): Path<Uuid>) -> Result<Json<Reservation>> {
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

/// A merge patch (RFC 7396): what is absent stays. What is written depends on what is there, so it takes a transaction.
async fn update(
    State(pool): State<db::Pool>,
    Path(id): Path<Uuid>,
    Json(change): Json<Change>,
) -> Result<Json<Reservation>> {
    if change == Change::default() {
        return read(State(pool), Path(id)).await;
    }
    let mut transaction = pool.begin().await?;
    let current = lock(&mut transaction, id).await?;
    if current.status == "cancelled" {
        return Err(Error::conflict(
            "A cancelled reservation cannot be changed; make a new one.",
        ));
    }
    let resource = change.resource.unwrap_or_else(|| current.resource.clone());
    let starts_at = change.starts_at.unwrap_or(current.starts_at);
    let ends_at = change.ends_at.unwrap_or(current.ends_at);
    wait_for_writers(&mut transaction, &[&current.resource, &resource]).await?;
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
    .on_constraint(|name| answer(name, &resource, starts_at, ends_at))?;
    transaction.commit().await?;
    Ok(Json(changed))
}

/// The reservation, as it stays until the transaction ends.
async fn lock(transaction: &mut db::Transaction, id: Uuid) -> Result<Reservation> {
    query_as!(
        Reservation,
        "
        select id, customer_id, resource, starts_at, ends_at, party_size, status, created_at, updated_at
        from reservation
        where id = $1
        for no key update
        ",
        id,
    )
    .fetch_optional(&mut **transaction)
    .await?
    .ok_or(Error::NotFound)
}

/// Waits for the other writers of these resources, as creation does. Always in one order, so that two who swap
/// their places do not wait for each other.
async fn wait_for_writers(transaction: &mut db::Transaction, resources: &[&str]) -> Result<()> {
    query!(
        "
        select pg_advisory_xact_lock(key)
        from (select hashtextextended(name, 0) as key from unnest($1::text[]) as name order by key) as resource
        ",
        resources as _,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
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
