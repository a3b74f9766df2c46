//! `PATCH /api/reservations/{id}`: move a reservation or resize it.
//!
//! The transaction case: what is written depends on what is there.

use axum::extract::State;
use serde::Deserialize;
use server::{Error, Json, Path, Result};
use sqlx::{query, query_as};
use uuid::Uuid;

use crate::reservation::{Reservation, constrained, read};
use crate::timestamp::Timestamp;

/// A merge patch (RFC 7396): what is absent stays.
pub(crate) async fn update(
    State(pool): State<db::Pool>,
    Path(id): Path<Uuid>,
    Json(change): Json<Change>,
) -> Result<Json<Reservation>> {
    if change == Change::default() {
        return read(State(pool), Path(id)).await;
    }
    let mut transaction = pool.begin().await?;
    let current = current(&mut transaction, id)
        .await?
        .ok_or(Error::NotFound)?;
    if current.status == "cancelled" {
        return Err(Error::conflict(
            "A cancelled reservation cannot be changed; make a new one.",
        ));
    }
    let resource = change.resource.unwrap_or(current.resource.clone());
    let starts_at = change.starts_at.unwrap_or(current.starts_at);
    let ends_at = change.ends_at.unwrap_or(current.ends_at);
    queue(&mut transaction, &[current.resource, resource.clone()]).await?;
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
    .await;
    let changed = constrained(changed, &resource, starts_at, ends_at)?;
    transaction.commit().await?;
    Ok(Json(changed))
}

/// `None` is absent; nothing of a reservation can be cleared.
#[derive(Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Change {
    #[serde(deserialize_with = "server::present")]
    resource: Option<String>,
    #[serde(deserialize_with = "server::present")]
    starts_at: Option<Timestamp>,
    #[serde(deserialize_with = "server::present")]
    ends_at: Option<Timestamp>,
    #[serde(deserialize_with = "server::present")]
    party_size: Option<i32>,
}

/// The reservation as it stays until the transaction ends.
async fn current(transaction: &mut db::Transaction, id: Uuid) -> Result<Option<Reservation>> {
    let current = query_as!(
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
    .await?;
    Ok(current)
}

/// Waits for the other writers of these resources, as creation does. Everybody queues in one order, so that two who
/// swap their places do not wait for each other.
async fn queue(transaction: &mut db::Transaction, resources: &[String]) -> Result<()> {
    query!(
        "
        select pg_advisory_xact_lock(key)
        from (select hashtextextended(name, 0) as key from unnest($1::text[]) as name order by key) as resource
        ",
        resources,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
