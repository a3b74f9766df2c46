//! One customer: create, read, update, delete.

use serde_json::{Value, json};
use server::testing::Server;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::rejection::start;

pub(crate) async fn created(server: &Server, customer: Value) -> Value {
    let answer = server.post("/api/customers", customer).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.json()
}

pub(crate) fn path(customer: &Value) -> String {
    format!("/api/customers/{}", customer["id"].as_str().unwrap())
}

pub(crate) fn moment(customer: &Value, field: &str) -> OffsetDateTime {
    let text = customer[field].as_str().unwrap();
    assert!(text.ends_with('Z'), "{field} is in UTC: {text}");
    OffsetDateTime::parse(text, &Rfc3339).unwrap()
}

#[tokio::test]
async fn create_answers_201_with_the_customer_and_its_location() {
    let server = start().await;
    let answer = server
        .post(
            "/api/customers",
            json!({"name": "Ada Lovelace", "email": "Ada@Example.com", "phone": "+44 1632 960123"}),
        )
        .await;
    assert_eq!(answer.status, 201);
    let customer = answer.json();
    assert_eq!(answer.header("location"), Some(&*path(&customer)));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(customer["name"], "Ada Lovelace");
    assert_eq!(
        customer["email"], "Ada@Example.com",
        "an address keeps the case it was given"
    );
    assert_eq!(customer["phone"], "+44 1632 960123");
    assert_eq!(customer.as_object().unwrap().len(), 6, "{customer}");

    let id: Uuid = customer["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(id.get_version_num(), 7);
    let age = OffsetDateTime::now_utc() - moment(&customer, "created_at");
    assert!(age.abs() < time::Duration::minutes(1), "{age}");
    assert_eq!(customer["created_at"], customer["updated_at"]);
}

#[tokio::test]
async fn read_answers_what_create_answered() {
    let server = start().await;
    let customer = created(
        &server,
        json!({"name": "Zoë 🦀", "email": "zoë@example.com"}),
    )
    .await;
    let answer = server.get(&path(&customer)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), customer);
    assert_eq!(customer["phone"], Value::Null);
}

#[tokio::test]
async fn an_unknown_customer_is_404_for_every_method() {
    let server = start().await;
    let path = format!("/api/customers/{}", Uuid::now_v7());
    for answer in [
        server.get(&path).await,
        server.patch(&path, json!({"name": "Nobody"})).await,
        server.patch(&path, json!({})).await,
        server.delete(&path).await,
    ] {
        assert_eq!(answer.status, 404);
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
    }
}

#[tokio::test]
async fn an_email_address_is_unique_whatever_its_case() {
    let server = start().await;
    created(&server, json!({"name": "Ada", "email": "ada@example.com"})).await;
    let grace = created(
        &server,
        json!({"name": "Grace", "email": "grace@example.com"}),
    )
    .await;

    let second = server
        .post(
            "/api/customers",
            json!({"name": "Ada", "email": "ADA@Example.COM"}),
        )
        .await;
    assert_eq!(second.status, 409, "{}", second.body);
    assert!(
        second.json()["detail"].as_str().unwrap().contains("email"),
        "{}",
        second.body
    );

    let moved = server
        .patch(&path(&grace), json!({"email": "aDa@example.com"}))
        .await;
    assert_eq!(moved.status, 409, "{}", moved.body);
    let own = server
        .patch(&path(&grace), json!({"email": "GRACE@example.com"}))
        .await;
    assert_eq!(
        own.status, 200,
        "one's own address in another case is no conflict: {}",
        own.body
    );
}

#[tokio::test]
async fn the_limits_of_fields_are_the_databases() {
    let server = start().await;
    let local =
        |length: usize| format!("{}@example.com", "a".repeat(length - "@example.com".len()));
    for (field, good, bad) in [
        ("name", "n".repeat(200), "n".repeat(201)),
        ("name", "ü".repeat(200), "ü".repeat(201)),
        ("name", "n".to_owned(), String::new()),
        ("name", " n ".to_owned(), "   ".to_owned()),
        ("email", local(254), local(255)),
        ("email", "a@b.c".to_owned(), "a@b".to_owned()),
        (
            "email",
            "a+b@example.com".to_owned(),
            "a b@example.com".to_owned(),
        ),
        ("phone", "01632 960123".to_owned(), "call me".to_owned()),
        ("phone", "+44 (0)1632-960.123".to_owned(), "+".to_owned()),
    ] {
        let mut customer =
            json!({"name": "Ada", "email": format!("{}@example.com", Uuid::now_v7())});
        customer[field] = json!(good);
        let accepted = server.post("/api/customers", customer.clone()).await;
        assert_eq!(accepted.status, 201, "{field} {good}: {}", accepted.body);

        customer[field] = json!(bad);
        let rejected = server.post("/api/customers", customer).await;
        assert_eq!(rejected.status, 422, "{field} {bad}: {}", rejected.body);
        assert_eq!(
            rejected.json()["errors"][0]["field"],
            field,
            "{}",
            rejected.body
        );
        let rejected = server
            .patch(&path(&accepted.json()), json!({field: bad}))
            .await;
        assert_eq!(rejected.status, 422, "{field} {bad}: {}", rejected.body);
        assert_eq!(
            rejected.json()["errors"][0]["field"],
            field,
            "{}",
            rejected.body
        );
    }
}

#[tokio::test]
async fn delete_answers_204_and_the_customer_is_gone() {
    let server = start().await;
    let customer = created(&server, json!({"name": "Ada", "email": "ada@example.com"})).await;
    let answer = server.delete(&path(&customer)).await;
    assert_eq!((answer.status, &*answer.body), (204, ""));
    assert_eq!(server.get(&path(&customer)).await.status, 404);
    assert_eq!(server.delete(&path(&customer)).await.status, 404);
    created(&server, json!({"name": "Ada", "email": "ada@example.com"})).await;
}

#[tokio::test]
async fn a_customer_with_reservations_cannot_be_deleted() {
    let server = start().await;
    let customer = created(&server, json!({"name": "Ada", "email": "ada@example.com"})).await;
    sqlx::query(
        "insert into reservation (id, customer_id, resource, starts_at, ends_at, party_size, status)
         values ($1, $2, 'table-1', now(), now() + interval '1 hour', 2, 'cancelled')",
    )
    .bind(Uuid::now_v7())
    .bind(customer["id"].as_str().unwrap().parse::<Uuid>().unwrap())
    .execute(server.pool())
    .await
    .unwrap();

    let answer = server.delete(&path(&customer)).await;
    assert_eq!(answer.status, 409, "{}", answer.body);
    assert!(
        answer.json()["detail"]
            .as_str()
            .unwrap()
            .contains("reservations"),
        "{}",
        answer.body
    );
    assert_eq!(server.get(&path(&customer)).await.json(), customer);
}
