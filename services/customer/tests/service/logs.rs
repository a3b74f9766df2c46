//! What the log says of requests that fail.

use std::time::Instant;

use server::testing::request;
use sqlx::{Connection, PgConnection};

use crate::process::Process;

#[tokio::test]
async fn of_the_failures_with_one_status_one_a_second_is_logged() {
    let url = local_postgres::database();
    let mut process = Process::start(&url, &[]);
    process.until("/readyz", 200).await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("alter table customer rename column phone to telephone")
        .execute(&mut connection)
        .await
        .unwrap();
    let started = Instant::now();
    for _ in 0..200 {
        let answer = request(process.address, "GET", "/api/customers", &[], b"").await;
        assert_eq!(answer.unwrap().status, 500);
    }
    let seconds = started.elapsed().as_secs() as usize;
    let logged = process.logged(&["GET /api/customers: 500"]).await;
    assert!(
        logged.len() <= seconds + 2,
        "{} lines in {seconds} s",
        logged.len()
    );
    assert!(logged[0].contains("does not exist"), "{}", logged[0]);
}

#[tokio::test]
async fn the_line_of_a_failure_says_its_cause_once() {
    for environment in ["development", "production"] {
        let mut process =
            Process::start("postgres://ada@127.0.0.1:1/x", &[("APP_ENV", environment)]);
        process.until("/api/customers", 503).await;
        let logged = process.logged(&["GET /api/customers: 503"]).await;
        for cause in ["127.0.0.1:1", "onnection refused"] {
            assert_eq!(
                logged[0].matches(cause).count(),
                1,
                "{cause}: {}",
                logged[0]
            );
        }
    }
}

#[tokio::test]
async fn whatever_is_logged_of_a_request_has_its_id() {
    let url = local_postgres::database();
    let given = [("x-request-id", "given-1")];
    for (filter, line) in [
        ("warn", "GET /api/customers: 500"),
        ("server=error", "GET /api/customers: 500"),
        ("db::query=debug", "from customer"),
    ] {
        let mut process = Process::start(&url, &[("RUST_LOG", filter)]);
        process.until("/readyz", 200).await;
        if !filter.starts_with("db") {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            let rename = "do $$ begin alter table customer rename column phone to telephone; \
                          exception when undefined_column then end $$";
            sqlx::raw_sql(rename)
                .execute(&mut connection)
                .await
                .unwrap();
        }
        let answer = request(process.address, "GET", "/api/customers", &given, b"").await;
        assert_eq!(answer.unwrap().header("x-request-id"), Some("given-1"));
        let logged = process.logged(&[line]).await;
        assert!(logged[0].contains("given-1"), "{filter}: {logged:?}");
    }
}
