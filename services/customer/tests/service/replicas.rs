//! Reads on a real standby: who wrote sees it, by a cookie; who did not sees it a moment later.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use local_postgres::{Cluster, Stop};
use serde_json::Value;
use server::testing::{Response, request};

use crate::process::Process;

async fn send(address: SocketAddr, method: &str, path: &str, cookie: &str, body: &str) -> Response {
    let headers = [("cookie", cookie), ("content-type", "application/json")];
    let sent = request(address, method, path, &headers, body.as_bytes());
    sent.await.unwrap()
}

/// What the service says of its replicas, once the first one is in this state.
async fn until_replica(address: SocketAddr, state: &str) -> Value {
    let started = Instant::now();
    loop {
        send(address, "GET", "/api/customers", "", "").await;
        let metrics = send(address, "GET", "/metrics/json", "", "").await.json();
        let replicas = metrics["pool"]["replicas"].clone();
        if replicas["each"][0]["state"] == state {
            return replicas;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{replicas}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wrote_reads_it_by_the_cookie_and_others_a_moment_later() {
    let primary = Cluster::temporary().unwrap();
    let standby = primary.standby().unwrap();
    let replica = format!("{}?replica_max_lag=300", standby.url("postgres"));
    let mut service = Process::start(
        &primary.url("postgres"),
        &[("DATABASE_REPLICA_URLS", &replica), ("MIGRATE", "any")],
    );
    service.until("/readyz", 200).await;
    let address = service.address;
    until_replica(address, "fresh").await;
    standby
        .sql("postgres", "select pg_wal_replay_pause()")
        .unwrap();

    let ada = r#"{"name": "Ada", "email": "ada@example.org"}"#;
    let made = send(address, "POST", "/api/customers", "", ada).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let path = made.header("location").unwrap();
    let cookie = made.header("set-cookie").unwrap();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert!(pair.starts_with("db_position=0/"), "{cookie}");
    // As long as the replica may be behind, and a little longer.
    assert_eq!(attributes, "Path=/; Max-Age=303; HttpOnly; SameSite=Lax");

    let own = send(address, "GET", path, pair, "").await;
    assert_eq!((own.status, own.header("set-cookie")), (200, None));
    assert_eq!(
        send(address, "GET", path, "", "").await.status,
        404,
        "stale without it"
    );
    // Nothing that a client may send in the cookie is an error.
    for odd in [
        "db_position=",
        "db_position=x/y",
        "db_position=FFFFFFFF/FFFFFFFF0",
    ] {
        assert_eq!(
            send(address, "GET", path, odd, "").await.status,
            404,
            "{odd}"
        );
    }
    let ahead = send(address, "GET", path, "db_position=FFFFFFFF/FFFFFFFF", "").await;
    assert_eq!(ahead.status, 200, "more than anybody has: the primary");

    standby
        .sql("postgres", "select pg_wal_replay_resume()")
        .unwrap();
    service.until(path, 200).await;
    let replicas = until_replica(address, "fresh").await;
    assert!(
        replicas["each"][0]["reads"].as_u64() > Some(0),
        "{replicas}"
    );
    assert!(
        replicas["reads_at_primary"].as_u64() > Some(0),
        "{replicas}"
    );
    let metrics = send(address, "GET", "/metrics", "", "").await.body;
    for name in [
        "db_client_read_routed_total{",
        "db_replica_usable{",
        "db_replica_lag_seconds{",
    ] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }

    // One that is gone is none of the clients' business.
    standby.stop(Stop::Immediate).unwrap();
    assert_eq!(send(address, "GET", path, "", "").await.status, 200);
    until_replica(address, "down").await;
    assert_eq!(send(address, "GET", path, pair, "").await.status, 200);
}

#[test]
fn a_replica_url_that_is_wrong_is_named() {
    let url = local_postgres::database();
    let replicas = "postgres://app@one/shop,postgres://app@two/shop?replica_max_lagg=1";
    let settings = [
        ("DATABASE_URL", url.as_str()),
        ("DATABASE_REPLICA_URLS", replicas),
    ];
    let ended = crate::process::run("doctor", &settings);
    let text = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(78), "{text}");
    let named = "DATABASE_REPLICA_URLS has an unknown parameter `replica_max_lagg`";
    assert!(
        text.contains(named) && text.contains("`replica_max_lag`"),
        "{text}"
    );
}
