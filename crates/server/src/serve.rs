//! A service from its first connection to its last.

use std::future::Future;
use std::time::{Duration, Instant};

use axum::Router;
use sqlx::migrate::Migrator;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::error::Error;
use crate::health::{self, Readiness};
use crate::http::accept::{self, Stopped};
use crate::http::middleware::Around;
use crate::settings::Settings;
use crate::{metrics, startup};

/// What the pool gets to close its connections when the requests have used up the time.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// What makes a service this one and no other.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// Its name in logs and messages.
    pub name: &'static str,
    /// The port it listens on unless `PORT` says otherwise.
    pub port: u16,
    /// Its routes. What every service has (health, metrics, errors) is added around them.
    pub app: fn(db::Pool) -> Router,
    /// The migrations its database needs.
    pub migrator: &'static Migrator,
}

/// Serves until `shutdown`: it listens at once, connects and migrates in the background, and at the end finishes what is
/// running within `settings.shutdown_timeout` and closes the pool.
///
/// Of the settings, only `shutdown_timeout` and `migrate` are used; the listener is the caller's.
pub async fn serve(
    service: Service,
    listener: TcpListener,
    pool: db::Pool,
    settings: &Settings,
    shutdown: impl Future<Output = ()>,
) -> Stopped {
    let readiness = Readiness::new(pool.clone(), service.migrator);
    let app = app(service, &pool, &readiness);
    // Ends with this function, however that ends.
    let mut background = JoinSet::new();
    background.spawn(metrics::upkeep());
    background.spawn(startup::run(
        service.name,
        pool.clone(),
        settings.migrate.then_some(service.migrator),
        readiness.clone(),
    ));
    let name = service.name;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "{name} listens on http://{address}");
    }

    let limit = settings.shutdown_timeout;
    let mut deadline = Instant::now();
    let shutdown = async {
        shutdown.await;
        deadline = Instant::now() + limit;
        readiness.draining();
    };
    let stopped = accept::serve(listener, app, shutdown, limit).await;

    background.abort_all();
    let left = deadline.saturating_duration_since(Instant::now());
    pool.close(left.max(CLOSE_TIMEOUT)).await;
    let Stopped { drained, aborted } = stopped;
    tracing::info!(
        drained,
        aborted,
        "{name} stopped: {drained} connections drained, {aborted} aborted"
    );
    stopped
}

/// The service's routes with everything around them.
fn app(service: Service, pool: &db::Pool, readiness: &Readiness) -> Router {
    (service.app)(pool.clone())
        .merge(health::routes(readiness.clone()))
        .merge(metrics::routes(pool.clone()))
        .fallback(async || Error::NotFound)
        .layer(Around)
        // Nothing is left for axum to build at each request.
        .with_state(())
}
