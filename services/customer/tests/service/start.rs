//! How the process starts: with a database, before it, without migrations; and its other subcommands.

use local_postgres::{Cluster, Stop};
use server::testing::request;
use sqlx::{Connection, PgConnection};

use crate::process::{Process, command, run};

/// Whether the database has the service's table.
async fn is_migrated(url: &str) -> bool {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar("select to_regclass('customer') is not null")
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn it_migrates_an_empty_database_and_serves() {
    let url = local_postgres::database();
    let mut process = Process::start(&url, &[]);
    process.until("/readyz", 200).await;
    assert_eq!(
        process.until("/api/customers", 200).await.json()["data"],
        serde_json::json!([])
    );
    process.signal("INT");
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn migrate_false_leaves_the_database_alone() {
    let url = local_postgres::database();
    let mut process = Process::start(&url, &[("MIGRATE", "false")]);
    let advice = format!("run `{} migrate`", customer::SERVICE.name);
    process.logged(&[&advice]).await;
    process.until("/readyz", 503).await;
    assert!(!is_migrated(&url).await);
    let migrated = run("migrate", &[("DATABASE_URL", &url)]);
    assert!(migrated.status.success(), "{migrated:?}");
    assert!(is_migrated(&url).await);
    process.until("/readyz", 200).await;
    process.until("/api/customers", 200).await;
    assert!(
        run("migrate", &[("DATABASE_URL", &url)]).status.success(),
        "again is no error"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_with_the_database_down_and_is_ready_when_it_comes() {
    let cluster = Cluster::temporary().unwrap();
    cluster.create_database("late").unwrap();
    let url = cluster.url("late");
    cluster.stop(Stop::Fast).unwrap();

    let mut process = Process::start(&url, &[]);
    assert_eq!(process.until("/livez", 200).await.status, 200);
    let unready = process.until("/readyz", 503).await;
    assert!(
        unready.body.contains("connect") || unready.body.contains("refused"),
        "the reason: {}",
        unready.body
    );
    let busy = request(process.address, "GET", "/api/customers", &[], b"")
        .await
        .unwrap();
    assert_eq!(busy.status, 503, "{}", busy.body);
    assert!(busy.header("retry-after").is_some(), "{}", busy.head);
    assert_eq!(
        run("migrate", &[("DATABASE_URL", &url)]).status.code(),
        Some(1)
    );

    cluster.start().unwrap();
    process.until("/readyz", 200).await;
    process.until("/api/customers", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_says_whether_the_service_is_ready() {
    let url = local_postgres::database();
    let mut process = Process::start(&url, &[]);
    process.until("/readyz", 200).await;
    let port = process.address.port().to_string();
    assert_eq!(
        run("healthcheck", &[("PORT", &port)]).status.code(),
        Some(0)
    );
    process.signal("TERM");
    assert_eq!(process.ended().await.code(), Some(0));
    let gone = run("healthcheck", &[("PORT", &port)]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(!gone.stderr.is_empty(), "it says why");
}

#[test]
fn the_doctor_goes_through_the_checklist() {
    let url = local_postgres::database();
    let limited = format!(
        "{url}{}connection_limit=5",
        if url.contains('?') { "&" } else { "?" }
    );
    let run = |url: &str, json: &[&str], settings: &[(&str, &str)]| {
        let output = command(&[("DATABASE_URL", url)])
            .envs(settings.iter().copied())
            .arg("doctor")
            .args(json)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (code, text) = run(&url, &[], &[]);
    assert_eq!(code, Some(1), "{text}");
    for part in [
        ": PostgreSQL ",
        "  change       limit: connection_limit is 10 because nobody set it",
        "  ok           max_connections: ",
        "  change       role: postgres is a superuser",
        "  change       environment: this is development",
        "  not checked  exhaustion: run `cargo xtask load --exhaust`",
        "to change, 3 not checked\n",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let (code, json) = run(&limited, &["--json"], &[("APP_ENV", "production")]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let verdict = |check: &str| {
        let checks = json["checks"].as_array().unwrap();
        let one = checks.iter().find(|one| one["check"] == check);
        one.unwrap()["verdict"].as_str().unwrap()
    };
    assert_eq!((verdict("limit"), verdict("environment")), ("ok", "ok"));
    assert_eq!(verdict("exhaustion"), "not checked");
    // The tests' own role is a superuser.
    assert_eq!((verdict("role"), code), ("change", Some(1)));
    assert_eq!(json["ok"], false);
}
