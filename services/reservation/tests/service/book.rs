//! A service whose database has customers, ready to take reservations.

use serde_json::{Value, json};
use server::testing::{Response, Server};
use uuid::Uuid;

/// The service, the first of its customers, and the way to book.
pub(crate) struct Book {
    pub(crate) server: Server,
    pub(crate) customer: Uuid,
}

impl Book {
    /// A service on a new database with one customer.
    pub(crate) async fn open() -> Self {
        Self::open_at(&local_postgres::database()).await
    }

    /// A service on this database, with a new customer.
    pub(crate) async fn open_at(url: &str) -> Self {
        let server = Server::start(reservation::SERVICE, url).await;
        let mut book = Self {
            server,
            customer: Uuid::nil(),
        };
        book.customer = book.customer().await;
        book
    }

    /// A new customer.
    pub(crate) async fn customer(&self) -> Uuid {
        sqlx::query_scalar("insert into customer (id, name, email) values ($1, 'Ada', $1 || '@example.com') returning id")
            .bind(Uuid::now_v7())
            .fetch_one(self.server.pool())
            .await
            .unwrap()
    }

    /// What asks for `resource` on one evening of 2030 from `start` to `end` o'clock.
    pub(crate) fn request(&self, resource: &str, start: u8, end: u8) -> Value {
        json!({
            "customer_id": self.customer,
            "resource": resource,
            "starts_at": format!("2030-05-17T{start:02}:00:00Z"),
            "ends_at": format!("2030-05-17T{end:02}:00:00Z"),
            "party_size": 2,
        })
    }

    pub(crate) async fn try_reserve(&self, resource: &str, start: u8, end: u8) -> Response {
        self.server
            .post("/api/reservations", self.request(resource, start, end))
            .await
    }

    pub(crate) async fn reserve(&self, resource: &str, start: u8, end: u8) -> Value {
        let answer = self.try_reserve(resource, start, end).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.json()
    }

    pub(crate) async fn change(&self, reservation: &Value, change: Value) -> Response {
        self.server.patch(&path(reservation), change).await
    }

    pub(crate) async fn cancel(&self, reservation: &Value) -> Response {
        self.server
            .request("POST", &format!("{}/cancel", path(reservation)), &[], "")
            .await
    }
}

/// Where the reservation is.
pub(crate) fn path(reservation: &Value) -> String {
    format!("/api/reservations/{}", reservation["id"].as_str().unwrap())
}

/// What of 2030-05-17 from `start` to `end` o'clock a change asks for.
pub(crate) fn period(start: u8, end: u8) -> Value {
    json!({"starts_at": format!("2030-05-17T{start:02}:00:00Z"), "ends_at": format!("2030-05-17T{end:02}:00:00Z")})
}
