//! A role that may not do what the service needs: `/readyz` names role, schema and the statement that grants it, and the service
//! becomes ready by itself.

#![expect(clippy::unwrap_used, reason = "it is a test, its helpers included")]

mod thing;

use std::time::{Duration, Instant};

use local_postgres::Cluster;
use server::Settings;
use server::testing::Server;

/// The address of a fresh database of this name, for a role without rights in it.
fn url(cluster: &Cluster, name: &str, parameters: &str) -> String {
    cluster.create_database(name).unwrap();
    let sql = "do $$ begin create role shy login password 'shy'; exception when duplicate_object then null; end $$; \
               revoke create on schema public from public";
    cluster.sql(name, sql).unwrap();
    format!(
        "postgres://shy:shy@127.0.0.1:{}/{name}?{parameters}",
        cluster.port()
    )
}

/// Waits until `/readyz` names all of this.
async fn says(server: &Server, parts: &[&str]) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = server.get("/readyz").await;
        if answer.status == 503 && parts.iter().all(|part| answer.body.contains(part)) {
            return answer.body;
        }
        assert!(Instant::now() < deadline, "{parts:?}: {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn becomes_ready(server: &Server) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.get("/readyz").await.status != 200 {
        assert!(
            Instant::now() < deadline,
            "{:?}",
            server.get("/readyz").await
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.get("/api/count").await.body, "0");
}

/// Starts, is told what is lacking, grants it as it is told, and is ready.
async fn mended_by(cluster: &Cluster, name: &str, parameters: &str, parts: &[&str]) {
    let url = url(cluster, name, parameters);
    let server = Server::start_with(thing::THING, &url, Settings::defaults(0)).await;
    let body = says(&server, parts).await;
    assert!(!body.contains(" at line "), "{body}");
    let answer = server.get("/api/count").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    for statement in &parts[1..] {
        cluster.sql(name, statement).unwrap();
    }
    becomes_ready(&server).await;
}

#[tokio::test]
async fn a_role_without_rights_on_public_is_told_the_grant() {
    let cluster = Cluster::temporary().unwrap();
    let grant = "grant usage, create on schema public to shy";
    mended_by(
        &cluster,
        "a",
        "",
        &["role shy may not create in schema public", grant],
    )
    .await;
}

#[tokio::test]
async fn a_schema_that_does_not_exist_is_told_the_statement() {
    let cluster = Cluster::temporary().unwrap();
    let create = "create schema shop authorization shy";
    let parts = ["schema shop does not exist in database b", create];
    mended_by(&cluster, "b", "schema=shop", &parts).await;
}

#[tokio::test]
async fn a_schema_that_the_role_may_not_use_is_told_the_grant() {
    let cluster = Cluster::temporary().unwrap();
    let url = url(&cluster, "c", "schema=shop");
    cluster.sql("c", "create schema shop").unwrap();
    let server = Server::start_with(thing::THING, &url, Settings::defaults(0)).await;
    let grant = "grant usage, create on schema shop to shy";
    says(&server, &["role shy may not use schema shop", grant]).await;
    assert_eq!(server.get("/api/count").await.status, 503);
    cluster.sql("c", grant).unwrap();
    becomes_ready(&server).await;
}

#[tokio::test]
async fn a_migrated_schema_that_the_role_may_not_use_is_no_lack_of_migrations() {
    let cluster = Cluster::temporary().unwrap();
    let url = url(&cluster, "d", "");
    let mut settings = Settings::defaults(0);
    let owner = Server::start_with(thing::THING, &cluster.url("d"), settings.clone()).await;
    becomes_ready(&owner).await;
    owner.stop().await;
    cluster
        .sql("d", "revoke usage on schema public from public")
        .unwrap();
    settings.migrate = false;
    let server = Server::start_with(thing::THING, &url, settings).await;
    says(
        &server,
        &[
            "role shy may not use schema public",
            "grant usage on schema public to shy",
        ],
    )
    .await;
    assert_eq!(server.get("/api/count").await.status, 503);
    let grants =
        "grant usage on schema public to shy; grant select on all tables in schema public to shy";
    cluster.sql("d", grants).unwrap();
    becomes_ready(&server).await;
}
