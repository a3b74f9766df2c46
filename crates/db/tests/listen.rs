//! Who listens hears again after every loss, and is told that something may have been missed.

mod support;

use std::time::Duration;

use db::{Error, Heard, Listener};
use local_postgres::{Cluster, Stop};
use sqlx::Executor;
use sqlx::postgres::PgListener;
use support::proxy::Proxy;
use support::{plain, pool_at, settled, until};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

/// A session that listens is ended, and something is told before it can listen again.
const CUT_AND_TELL: &str = "do $$ begin
    perform pg_terminate_backend(pid, 5000) from pg_stat_activity
        where datname = current_database() and query like 'LISTEN%';
    perform pg_notify('orders', 'while nobody listened');
end $$";

async fn next(listener: &mut Listener) -> Result<String, Error> {
    let heard = timeout(SOON, listener.next()).await.expect("in time")?;
    Ok(match heard {
        Heard::Gap => "gap".to_owned(),
        Heard::Notification(one) => format!("{} {}", one.channel(), one.payload()),
    })
}

/// The same by calls that are dropped after 100 ms each.
async fn impatient(listener: &mut Listener) -> Result<String, Error> {
    for _ in 0..200 {
        let heard = timeout(Duration::from_millis(100), listener.next()).await;
        if let Ok(heard) = heard {
            return heard.map(|heard| format!("{heard:?}").to_lowercase());
        }
    }
    panic!("not within twenty seconds");
}

#[tokio::test]
async fn a_lost_session_is_a_gap_and_not_a_silence() {
    let url = local_postgres::database();
    let others = plain(&url, 1).await;

    // sqlx's own listens again and says nothing.
    let mut theirs = PgListener::connect(&url).await.expect("connected");
    theirs.listen("orders").await.expect("listens");
    others.execute(CUT_AND_TELL).await.expect("cut");
    let silent = timeout(Duration::from_millis(300), theirs.recv()).await;
    silent.expect_err("what was told is gone without a word");
    others.execute("notify orders").await.expect("told");
    timeout(SOON, theirs.recv())
        .await
        .expect("it listens again")
        .expect("heard");
    drop(theirs);

    let pool = pool_at(&url, "connection_limit=3");
    let mut listener = pool.listen(["orders", "Returns"]).await.expect("listens");
    assert_eq!(
        next(&mut listener).await.expect("heard"),
        "gap",
        "what came before"
    );
    others
        .execute("notify orders, '1'; notify \"Returns\", '2'")
        .await
        .expect("told");
    assert_eq!(next(&mut listener).await.expect("heard"), "orders 1");
    assert_eq!(next(&mut listener).await.expect("heard"), "Returns 2");
    for _ in 0..3 {
        others.execute(CUT_AND_TELL).await.expect("cut");
        assert_eq!(next(&mut listener).await.expect("heard"), "gap");
        others
            .execute("notify orders, 'again'")
            .await
            .expect("told");
        assert_eq!(next(&mut listener).await.expect("heard"), "orders again");
    }
    assert_eq!(pool.stats().limit, 2);
    drop(listener);
    until("its connection is back", async || pool.stats().limit == 3).await;
    settled(&pool).await;
}

#[tokio::test]
async fn it_listens_again_after_a_restart_and_in_a_network_that_fell_silent() {
    let cluster = Cluster::temporary().expect("a cluster");
    let proxy = Proxy::start(cluster.port(), Duration::ZERO).await;
    let url = proxy.url(&cluster.url("postgres"), cluster.port());
    let pool = pool_at(
        &url,
        "connection_limit=3&socket_timeout=300ms&connect_timeout=2",
    );
    let mut listener = pool.listen(["orders"]).await.expect("listens");
    assert_eq!(next(&mut listener).await.expect("heard"), "gap");

    // Silence alone is no loss.
    let calm = timeout(Duration::from_secs(1), listener.next()).await;
    calm.expect_err("nothing to hear");
    // Nor is a caller who was away for long.
    tokio::time::sleep(Duration::from_secs(1)).await;
    pool.execute("notify orders, 'calm'").await.expect("told");
    assert_eq!(next(&mut listener).await.expect("heard"), "orders calm");

    cluster.restart(Stop::Immediate).expect("restarted");
    assert_eq!(next(&mut listener).await.expect("heard"), "gap");
    until("the pool is back", async || {
        pool.execute("notify orders, 'new'").await.is_ok()
    })
    .await;
    assert_eq!(next(&mut listener).await.expect("heard"), "orders new");

    // Also for a caller who never has the patience that it takes.
    proxy.swallow(true);
    let gap = impatient(&mut listener);
    let thaw = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        proxy.swallow(false);
    };
    assert_eq!(tokio::join!(gap, thaw).0.expect("heard"), "gap");
}

#[tokio::test]
async fn listening_ends_with_the_pool_and_needs_a_server_and_not_a_pooler() {
    let url = local_postgres::database();
    let pool = pool_at(&url, "connection_limit=2");
    let mut listener = pool.listen(["orders"]).await.expect("listens");
    assert_eq!(next(&mut listener).await.expect("heard"), "gap");
    let ended = async { next(&mut listener).await.expect_err("closed") };
    let (closed, ended) = tokio::join!(pool.close(Duration::from_secs(5)), ended);
    assert!(matches!(ended, Error::Closed), "{ended:?}");
    assert_eq!(closed.cut, 0, "it does not hold the pool up: {closed:?}");

    let pooled = pool_at(&support::middleman::pooler().await, "");
    let error = pooled.listen(["orders"]).await.err().expect("refused");
    assert!(error.to_string().contains("PgBouncer"), "{error}");
}
