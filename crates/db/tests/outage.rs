//! New connections fail, hang or are slow to come: the pool lives on those that it has, and heals when the server does.

mod support;

use std::time::{Duration, Instant};

use db::{Error, Pool};
use futures_util::future::join_all;
use local_postgres::{Cluster, Stop};
use sqlx::Executor;
use support::gatekeeper::{Gatekeeper, Mode};
use support::proxy::Proxy;
use support::{pool_at, settled, until};
use tokio::time::sleep;

/// Opens so many connections.
async fn warm(pool: &Pool, connections: u32) {
    drop(join_all((0..connections).map(|_| pool.acquire())).await);
    until("all are open", async || pool.stats().idle == connections).await;
}

/// Loses the pool's only connection while no other can be opened, until the pool says so.
async fn strand(pool: &Pool, gatekeeper: &Gatekeeper) {
    warm(pool, 1).await;
    gatekeeper.set(Mode::Refuse);
    pool.acquire().await.expect("a lease").close();
    let error = pool.acquire().await.expect_err("nobody opens");
    assert!(matches!(error, Error::Connect(_)), "{error:?}");
}

async fn heals(pool: &Pool) {
    until("the pool works again", async || {
        pool.acquire().await.is_ok()
    })
    .await;
    settled(pool).await;
}

#[tokio::test]
async fn a_dial_that_hangs_after_the_handshake_does_not_block_the_pool() {
    let (gatekeeper, pool) = Gatekeeper::pool("connection_limit=1&connect_timeout=300ms").await;
    gatekeeper.set(Mode::Mute);
    let error = pool.acquire().await.expect_err("no answer");
    assert!(matches!(error, Error::Connect(_)), "{error:?}");
    gatekeeper.set(Mode::Pass);
    heals(&pool).await;
}

#[tokio::test]
async fn a_probe_that_hangs_after_the_handshake_does_not_block_the_pool() {
    let (gatekeeper, pool) = Gatekeeper::pool("connection_limit=1&connect_timeout=300ms").await;
    strand(&pool, &gatekeeper).await;
    gatekeeper.set(Mode::Mute);
    until("the attempt hangs", async || gatekeeper.muted() > 0).await;
    gatekeeper.set(Mode::Pass);
    heals(&pool).await;
}

#[tokio::test]
async fn a_server_that_has_become_slow_to_dial_is_found_again() {
    let (gatekeeper, pool) = Gatekeeper::pool("connection_limit=1&connect_timeout=5").await;
    strand(&pool, &gatekeeper).await;
    gatekeeper.set(Mode::Slow);
    heals(&pool).await;
}

#[tokio::test]
async fn the_connections_that_are_left_serve_everybody() {
    let (gatekeeper, pool) = Gatekeeper::pool("connection_limit=4").await;
    warm(&pool, 2).await;
    gatekeeper.set(Mode::Refuse);
    let callers = (0..6).map(|_| async {
        let mut failed = 0;
        for _ in 0..20 {
            failed += u32::from(pool.execute("select pg_sleep(0.01)").await.is_err());
        }
        failed
    });
    let failed: u32 = join_all(callers).await.into_iter().sum();
    assert!(
        failed <= 4,
        "at most one each of those whose attempt failed: {failed} of 120, {:?}",
        pool.stats()
    );
    gatekeeper.set(Mode::Pass);
    heals(&pool).await;
}

/// Asks until it is answered, on one thread, and waits for nothing but the pool.
async fn asks_at_once_again(pool: &Pool) {
    let late = Instant::now() + Duration::from_secs(5);
    while let Err(error) = pool.execute("select 1").await {
        assert!(Instant::now() < late, "{error}");
    }
}

#[tokio::test]
async fn a_caller_that_is_refused_and_asks_again_at_once_does_not_hold_up_the_pool() {
    let server = Cluster::temporary().expect("a server");
    let pool = pool_at(&server.url("postgres"), "connection_limit=1&queue_limit=1");
    // Refused because nobody is there.
    server.stop(Stop::Immediate).expect("stopped");
    pool.execute("select 1").await.expect_err("nobody is there");
    server.start().expect("started");
    asks_at_once_again(&pool).await;
    // Refused because the queue is full: the one that works has to come to its end.
    let works = tokio::spawn({
        let pool = pool.clone();
        async move { pool.execute("select pg_sleep(0.2)").await }
    });
    let waits = tokio::spawn({
        let pool = pool.clone();
        async move { pool.execute("select 1").await }
    });
    until("one waits", async || pool.stats().waiting == 1).await;
    asks_at_once_again(&pool).await;
    works.await.expect("no panic").expect("done");
    waits.await.expect("no panic").expect("done");
}

#[tokio::test]
async fn an_old_connection_stays_while_its_replacement_cannot_be_opened() {
    let (gatekeeper, pool) = Gatekeeper::pool("connection_limit=4&max_connection_lifetime=1").await;
    warm(&pool, 2).await;
    gatekeeper.set(Mode::Full);
    until("a replacement was tried again and again", async || {
        pool.stats().connect_failed >= 3
    })
    .await;
    let stats = pool.stats();
    assert_eq!(stats.open, 2, "{stats:?}");
    pool.execute("select 1").await.expect("an answer");
}

#[tokio::test]
async fn room_on_the_server_wakes_everybody_who_waits_for_it() {
    let (gatekeeper, pool) = Gatekeeper::pool("connection_limit=4&connect_timeout=3").await;
    warm(&pool, 1).await;
    let held = pool.acquire().await.expect("a lease");
    gatekeeper.set(Mode::Full);
    // Each keeps what it got until all have got something.
    let callers = tokio::spawn({
        let pool = pool.clone();
        async move { join_all((0..3).map(|_| pool.acquire())).await }
    });
    until("all three wait, and the server is full", async || {
        let stats = pool.stats();
        stats.waiting == 3 && stats.connect_failed > 0
    })
    .await;
    gatekeeper.set(Mode::Pass);
    for lease in callers.await.expect("no panic") {
        lease.expect("a connection of its own");
    }
    drop(held);
    settled(&pool).await;
}

#[tokio::test]
async fn whoever_waits_after_a_resize_gets_the_room_of_a_closed_lease() {
    let (server, url) = (local_postgres::shared(), local_postgres::database());
    let proxy = Proxy::start(server.port(), Duration::ZERO).await;
    let pool = pool_at(
        &proxy.url(&url, server.port()),
        "connection_limit=2&connect_timeout=3",
    );
    warm(&pool, 2).await;
    // Idle for more than half a second, so that they have to answer before they are used.
    sleep(Duration::from_millis(550)).await;
    let held = pool.acquire().await.expect("a lease");
    proxy.swallow(true);
    let waiter = tokio::spawn(pool.acquire());
    until("the other one has been taken", async || {
        pool.stats().in_use == 2
    })
    .await;
    pool.resize(1);
    until("it did not answer", async || {
        let stats = pool.stats();
        stats.in_use == 1 && stats.waiting == 1
    })
    .await;
    proxy.swallow(false);
    held.close();
    let lease = waiter.await.expect("no panic");
    drop(lease.expect("a new connection in its place"));
    settled(&pool).await;
}
