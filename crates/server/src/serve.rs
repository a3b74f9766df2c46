//! A service from its first connection to its last.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::IntoResponse as _;
use sqlx::migrate::Migrator;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::Error;
use crate::health::{self, Readiness};
use crate::http::accept::{self, Stopped};
use crate::http::exchange::Common;
use crate::http::middleware::Around;
use crate::live_page::Site;
use crate::metrics::history::History;
use crate::settings::Settings;
use crate::{live_page, metrics, startup};

/// What makes a service this one and no other.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// Its name in logs and messages.
    pub name: &'static str,
    /// The port it listens on unless `PORT` says otherwise.
    pub port: u16,
    /// The path of its resource, such as `/api/customers`: what `/` and the live page lead to.
    pub api: &'static str,
    /// Its routes. What every service has (health, metrics, errors) is added around them.
    pub app: fn(db::Pool) -> Router,
    /// The migrations its database needs.
    pub migrator: &'static Migrator,
}

/// Serves until `shutdown`: it listens at once, connects and migrates in the background. Then it says that it is not ready
/// and serves on for `settings.shutdown_delay`; finishes what is running within `settings.shutdown_timeout`; and closes the
/// pool in what remains of that.
///
/// Of the settings, the listener's and the logs' are the caller's.
pub async fn serve(
    service: Service,
    listener: TcpListener,
    pool: db::Pool,
    settings: &Settings,
    shutdown: impl Future<Output = ()>,
) -> Stopped {
    let name = service.name;
    metrics::name_build(name);
    let readiness = Readiness::new(pool.clone(), service.migrator);
    let common = Arc::new(Common::new(settings, &pool));
    let history = Arc::new(History::new(pool.clone()));
    let app = app(service, settings, &pool, &readiness, &history)
        .layer(Around(common.clone()))
        // Nothing is left for axum to build at each request.
        .with_state(());
    // Ends with this function, however that ends.
    let mut background = JoinSet::new();
    background.spawn(metrics::upkeep());
    background.spawn(watch(history.clone(), common.clone()));
    background.spawn(startup::run(
        name,
        pool.clone(),
        startup::Migrations::of(settings, service.migrator),
        readiness.clone(),
    ));
    greet(name, &listener, settings, &pool);
    let (delay, limit) = (settings.shutdown_delay(), settings.shutdown_timeout);
    let mut deadline = Instant::now();
    let shutdown = async {
        shutdown.await;
        readiness.draining();
        history.end();
        sleep(delay).await;
        deadline = Instant::now() + limit;
        deadline - reserve(limit)
    };
    let stopped = accept::serve(listener, app, settings.limits, shutdown).await;
    let _ = timeout_at(deadline - reserve(limit), common.writes.finished()).await;
    let unfinished_writes = common.writes.running();
    // Of the second that has not ended.
    common.lines.sum_up();

    background.abort_all();
    let closed = pool
        .close(deadline.saturating_duration_since(Instant::now()))
        .await;
    let Stopped { drained, aborted } = stopped;
    tracing::info!(
        drained,
        aborted,
        unfinished_writes,
        pool_closed = closed.idle + closed.finished,
        pool_cut = closed.cut,
        "{name} stopped: {drained} connections drained, {aborted} aborted"
    );
    stopped
}

/// Says where the service listens, and what is wrong with its settings.
fn greet(name: &str, listener: &TcpListener, settings: &Settings, pool: &db::Pool) {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "{name} listens on http://{address}");
    }
    for warning in settings.disorder(pool.config()) {
        tracing::warn!("{warning}");
    }
}

/// Of the time to stop, the last part is for the answers that say so, and for the pool.
fn reserve(limit: Duration) -> Duration {
    (limit / 5).min(Duration::from_secs(1))
}

/// Keeps the history, and sums up the lines of the log.
async fn watch(history: Arc<History>, common: Arc<Common>) {
    tokio::join!(history.run(), common.lines.run());
}

/// The service's routes with those that every service has.
fn app(
    service: Service,
    settings: &Settings,
    pool: &db::Pool,
    readiness: &Readiness,
    history: &Arc<History>,
) -> Router {
    let site = Site {
        name: service.name,
        api: service.api,
        pool_page: settings.pool_page,
    };
    let other = async move |method: Method, uri: Uri, headers: HeaderMap| match uri.path() {
        "/" if matches!(method, Method::GET | Method::HEAD) => live_page::start(site, &headers),
        _ => Error::NotFound.into_response(),
    };
    let page = match site.pool_page {
        true => live_page::routes(site, pool, history.clone()),
        false => Router::new(),
    };
    (service.app)(pool.clone())
        .merge(health::routes(readiness.clone()))
        .merge(metrics::routes(pool.clone(), history.clone()))
        .merge(page)
        .fallback(other)
}
