//! One reservation: create, read, move, resize, cancel.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::book::{Book, path};

#[tokio::test]
async fn create_answers_201_with_the_reservation_and_its_location() {
    let book = Book::open().await;
    let answer = book.try_reserve("table-1", 18, 20).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let reservation = answer.json();
    assert_eq!(answer.header("location"), Some(&*path(&reservation)));
    let id: Uuid = reservation["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(id.get_version_num(), 7);
    assert_eq!(reservation["created_at"], reservation["updated_at"]);
    assert!(reservation["created_at"].as_str().unwrap().ends_with('Z'));
    let mut expected = book.request("table-1", 18, 20);
    expected["status"] = json!("confirmed");
    for field in ["id", "created_at", "updated_at"] {
        expected[field] = reservation[field].clone();
    }
    assert_eq!(reservation, expected);
    assert_eq!(
        book.server.get(&path(&reservation)).await.json(),
        reservation
    );
}

#[tokio::test]
async fn times_come_in_any_offset_and_go_out_in_utc_to_the_microsecond() {
    let book = Book::open().await;
    let mut request = book.request("table-1", 0, 0);
    request["starts_at"] = json!("2030-05-18T00:30:00.123456789+05:45");
    request["ends_at"] = json!("2030-05-17t18:00:00-02:00");
    let answer = book.server.post("/api/reservations", request).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let reservation = answer.json();
    assert_eq!(reservation["starts_at"], "2030-05-17T18:45:00.123456Z");
    assert_eq!(reservation["ends_at"], "2030-05-17T20:00:00Z");
    assert_eq!(
        book.server.get(&path(&reservation)).await.json(),
        reservation
    );
}

#[tokio::test]
async fn an_unknown_customer_is_a_422() {
    let book = Book::open().await;
    let mut request = book.request("table-1", 18, 20);
    request["customer_id"] = json!(Uuid::now_v7());
    let answer = book.server.post("/api/reservations", request).await;
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert_eq!(answer.json()["errors"][0]["field"], "customer_id");
}

#[tokio::test]
async fn cancelling_again_changes_nothing() {
    let book = Book::open().await;
    let reservation = book.reserve("table-1", 12, 14).await;
    let first = book.cancel(&reservation).await;
    let second = book.cancel(&reservation).await;
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(first.json(), second.json());
    assert_ne!(first.json()["updated_at"], reservation["updated_at"]);
}

#[tokio::test]
async fn a_reservation_can_be_moved_and_resized() {
    let book = Book::open().await;
    let reservation = book.reserve("table-1", 12, 14).await;
    let longer = book
        .change(
            &reservation,
            json!({"ends_at": "2030-05-17T15:00:00Z", "party_size": 5}),
        )
        .await;
    assert_eq!(
        longer.status, 200,
        "it does not collide with itself: {}",
        longer.body
    );
    let mut expected = reservation.clone();
    expected["ends_at"] = json!("2030-05-17T15:00:00Z");
    expected["party_size"] = json!(5);
    expected["updated_at"] = longer.json()["updated_at"].clone();
    assert_eq!(longer.json(), expected, "absent is unchanged");
    assert_ne!(longer.json()["updated_at"], reservation["updated_at"]);

    let moved = book
        .change(&reservation, json!({"resource": "table-2"}))
        .await;
    assert_eq!(moved.json()["resource"], "table-2");
    assert_eq!(
        book.server.get(&path(&reservation)).await.json(),
        moved.json()
    );
    book.reserve("table-1", 12, 15).await;
    assert_eq!(book.try_reserve("table-2", 12, 15).await.status, 409);
}

#[tokio::test]
async fn a_cancelled_reservation_cannot_be_changed() {
    let book = Book::open().await;
    let reservation = book.reserve("table-1", 12, 14).await;
    let cancelled = book.cancel(&reservation).await.json();
    let answer = book.change(&reservation, json!({"party_size": 3})).await;
    assert_eq!(answer.status, 409, "{}", answer.body);
    assert!(
        answer.json()["detail"]
            .as_str()
            .unwrap()
            .contains("cancelled"),
        "{}",
        answer.body
    );
    let empty = book.change(&reservation, json!({})).await;
    assert_eq!((empty.status, empty.json()), (200, cancelled));
}

#[tokio::test]
async fn an_empty_patch_changes_nothing() {
    let book = Book::open().await;
    let reservation = book.reserve("table-1", 12, 14).await;
    let answer = book.change(&reservation, json!({})).await;
    assert_eq!((answer.status, answer.json()), (200, reservation));
}

#[tokio::test]
async fn the_limits_of_fields_are_the_databases() {
    let book = Book::open().await;
    for (field, good, bad, named) in [
        ("party_size", json!(1), json!(0), "party_size"),
        ("party_size", json!(1000), json!(1001), "party_size"),
        ("party_size", json!(7), json!(-2147483648), "party_size"),
        (
            "resource",
            json!("r".repeat(100)),
            json!("r".repeat(101)),
            "resource",
        ),
        ("resource", json!("🛶"), json!("  "), "resource"),
        (
            "ends_at",
            json!("2030-05-17T12:00:00.000001Z"),
            json!("2030-05-17T12:00:00Z"),
            "ends_at",
        ),
        (
            "ends_at",
            json!("2030-05-17T12:00:00.000001Z"),
            json!("2030-05-17T12:00:00.0000009Z"),
            "ends_at",
        ),
        (
            "ends_at",
            json!("2030-06-17T12:00:00Z"),
            json!("2030-05-17T11:59:59Z"),
            "ends_at",
        ),
    ] {
        let mut request = book.request("table-1", 12, 14);
        request[field] = good.clone();
        let accepted = book.server.post("/api/reservations", request.clone()).await;
        assert_eq!(accepted.status, 201, "{field} {good}: {}", accepted.body);
        request[field] = bad.clone();
        for rejected in [
            book.server.post("/api/reservations", request).await,
            book.change(&accepted.json(), json!({field: bad})).await,
        ] {
            assert_eq!(rejected.status, 422, "{field} {bad}: {}", rejected.body);
            assert_eq!(
                rejected.json()["errors"][0]["field"],
                named,
                "{field} {bad}: {}",
                rejected.body
            );
        }
        assert_eq!(book.cancel(&accepted.json()).await.status, 200);
    }
}

#[tokio::test]
async fn years_are_1970_to_9999() {
    let book = Book::open().await;
    let inside = [
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z"),
        ("9999-12-30T00:00:00Z", "9999-12-30T23:59:59.999999Z"),
    ];
    let outside = [
        ("1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:01Z"),
        ("0000-01-01T00:00:00+23:59", "0000-01-01T00:00:00Z"),
        ("9999-12-30T00:00:00Z", "9999-12-31T00:00:00Z"),
    ];
    let existing = book.reserve("table-2", 12, 14).await;
    for (periods, statuses) in [(&inside[..], (201, 200)), (&outside[..], (422, 422))] {
        for (starts_at, ends_at) in periods {
            let period = json!({"starts_at": starts_at, "ends_at": ends_at});
            let mut request = book.request("table-1", 12, 14);
            request["starts_at"] = period["starts_at"].clone();
            request["ends_at"] = period["ends_at"].clone();
            let created = book.server.post("/api/reservations", request).await;
            let changed = book.change(&existing, period).await;
            assert_eq!((created.status, changed.status), statuses, "{starts_at}");
            for answer in [created, changed]
                .iter()
                .filter(|answer| answer.status == 422)
            {
                assert_eq!(
                    answer.json()["errors"][0]["field"],
                    "starts_at",
                    "{ends_at}"
                );
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_reservation_is_404_for_every_method() {
    let book = Book::open().await;
    let nobody = json!({"id": Uuid::now_v7()});
    for answer in [
        book.server.get(&path(&nobody)).await,
        book.change(&nobody, json!({"party_size": 3})).await,
        book.change(&nobody, json!({"resource": "table-1"})).await,
        book.change(&nobody, json!({})).await,
        book.cancel(&nobody).await,
    ] {
        assert_eq!(answer.status, 404, "{}", answer.body);
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
    }
    let unchanged: Value = book.server.get("/api/reservations").await.json();
    assert_eq!(unchanged["data"], json!([]));
}
