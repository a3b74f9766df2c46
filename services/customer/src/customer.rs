//! `/api/customers`: list, create, read, update, delete.

use axum::Router;
use axum::extract::State;
use axum::http::header::{HeaderName, LOCATION};
use axum::http::{StatusCode, Uri};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use server::{Cursor, Error, Json, Limit, Page, Path, Query, Result, ResultExt};
use sqlx::query_as;
use time::OffsetDateTime;
use uuid::Uuid;

pub(crate) fn routes() -> Router<db::Pool> {
    Router::new()
        .route("/api/customers", get(list).post(create))
        .route(
            "/api/customers/{id}",
            get(read).patch(update).delete(delete),
        )
}

/// Newest first. An email address is one customer's at most.
async fn list(
    State(pool): State<db::Pool>,
    uri: Uri,
    Query(filter): Query<Filter>,
) -> Result<Page<Customer>> {
    let customers = match filter.email {
        Some(email) => of_email(pool.read(), &email, filter.cursor).await,
        None => newest(pool.read(), filter.cursor, filter.limit).await,
    };
    Ok(Page::new(customers?, filter.limit, &uri, |row| row.id))
}

async fn newest(pool: &db::Pool, cursor: Cursor, limit: Limit) -> sqlx::Result<Vec<Customer>> {
    // 101 is above any limit. With `limit $2` alone PostgreSQL would plan anew at every execution: docs/pooling.md,
    // "Lists".
    query_as!(
        Customer,
        "
        select id, name, email, phone, created_at, updated_at
        from (select * from customer where id < $1 order by id desc limit 101) as customer
        limit $2
        ",
        cursor.id(),
        limit.rows(),
    )
    .fetch_all(pool)
    .await
}

async fn of_email(pool: &db::Pool, email: &str, cursor: Cursor) -> sqlx::Result<Vec<Customer>> {
    query_as!(
        Customer,
        "
        select id, name, email, phone, created_at, updated_at
        from customer
        where lower(email) = lower($1) and id < $2
        ",
        email,
        cursor.id(),
    )
    .fetch_all(pool)
    .await
}

async fn create(
    State(pool): State<db::Pool>,
    Json(NewCustomer { name, email, phone }): Json<NewCustomer>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Customer>)> {
    let customer = query_as!(
        Customer,
        "
        insert into customer (id, name, email, phone)
        values ($1, $2, $3, $4)
        returning id, name, email, phone, created_at, updated_at
        ",
        Uuid::now_v7(),
        name,
        email,
        phone,
    )
    .fetch_one(&pool)
    .await
    .on_constraint(answer)?;
    let location = format!("/api/customers/{}", customer.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(customer)))
}

async fn read(State(pool): State<db::Pool>, Path(id): Path<Uuid>) -> Result<Json<Customer>> {
    query_as!(
        Customer,
        "
        select id, name, email, phone, created_at, updated_at
        from customer
        where id = $1
        ",
        id,
    )
    .fetch_optional(pool.read())
    .await?
    .map(Json)
    .ok_or(Error::NotFound)
}

/// A merge patch (RFC 7396): what is absent stays, `null` clears.
async fn update(
    State(pool): State<db::Pool>,
    Path(id): Path<Uuid>,
    Json(change): Json<Change>,
) -> Result<Json<Customer>> {
    if change == Change::default() {
        return read(State(pool), Path(id)).await;
    }
    query_as!(
        Customer,
        "
        update customer
        set
            name = coalesce($2, name),
            email = coalesce($3, email),
            phone = case when $4 then $5 else phone end,
            updated_at = now()
        where id = $1
        returning id, name, email, phone, created_at, updated_at
        ",
        id,
        change.name,
        change.email,
        change.phone.is_some(),
        change.phone.flatten(),
    )
    .fetch_optional(&pool)
    .await
    .on_constraint(answer)?
    .map(Json)
    .ok_or(Error::NotFound)
}

async fn delete(State(pool): State<db::Pool>, Path(id): Path<Uuid>) -> Result<StatusCode> {
    sqlx::query_scalar!("delete from customer where id = $1 returning id", id)
        .fetch_optional(&pool)
        .await
        .on_constraint(answer)?
        .map(|_| StatusCode::NO_CONTENT)
        .ok_or(Error::NotFound)
}

#[derive(Serialize)]
struct Customer {
    id: Uuid,
    name: String,
    email: String,
    phone: Option<String>,
    #[serde(with = "server::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "server::rfc3339")]
    updated_at: OffsetDateTime,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCustomer {
    name: String,
    email: String,
    phone: Option<String>,
}

/// `None` is absent; the inner `None` of `phone` is `null`.
#[derive(Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Change {
    #[serde(deserialize_with = "server::present")]
    name: Option<String>,
    #[serde(deserialize_with = "server::present")]
    email: Option<String>,
    #[serde(deserialize_with = "server::present")]
    phone: Option<Option<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Filter {
    limit: Limit,
    cursor: Cursor,
    email: Option<String>,
}

/// What the names of the constraints say to a client.
fn answer(constraint: &str) -> Option<Error> {
    let (field, detail) = match constraint {
        "customer_name_length" => ("name", "must have 1 to 200 characters, not only spaces"),
        "customer_email_format" => ("email", "must be an email address such as ada@example.com"),
        "customer_email_length" => ("email", "must have at most 254 characters"),
        "customer_phone_format" => (
            "phone",
            "must be a phone number such as +44 1632 960123, or null",
        ),
        "customer_email_unique" => {
            return Some(Error::conflict("Another customer has this email address."));
        }
        "reservation_customer_fk" => {
            return Some(Error::conflict(
                "This customer has reservations and cannot be deleted.",
            ));
        }
        _ => return None,
    };
    Some(Error::field(field, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::Request;
    use axum::handler::Handler;
    use sqlx::Executor as _;

    #[tokio::test]
    async fn the_future_of_a_request_is_small() {
        let config = db::Config::parse("postgres://localhost/nowhere").unwrap();
        let pool = db::Pool::new(config);
        let statement = pool.fetch_optional(sqlx::query("select 1"));
        let handler = Handler::call(read, Request::default(), pool.clone());
        let request = server::testing::around_a_handler() + size_of_val(&*handler);
        let statement = size_of_val(&*statement);
        assert!(
            request <= 1_500,
            "{request} bytes around the handler and in it"
        );
        assert!(statement <= 1_300, "{statement} bytes in its statement");
    }
}
