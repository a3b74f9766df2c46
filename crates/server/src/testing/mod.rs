//! For tests: a whole service on a free port, and a client that shows what is on the wire.

mod client;

use client::DEADLINE;
pub use client::{Response, read_response, rejected, request};

/// How a service writes its log for people: for a subscriber of a test.
#[must_use]
pub fn log_format<S, N>() -> impl FormatEvent<S, N>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    Text::default()
}

/// The size of the future that is around the handler of each request, in bytes.
#[must_use]
pub fn around_a_handler() -> usize {
    crate::http::middleware::AROUND_A_HANDLER
}

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::Subscriber;
use tracing_subscriber::fmt::{FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::http::accept::Stopped;
use crate::http::listener;
use crate::log_format::Text;
use crate::metrics::install_metrics;
use crate::serve::{Service, serve};
use crate::settings::Settings;

const JSON: (&str, &str) = ("content-type", "application/json");

/// A running service. It ends with the test's runtime, or in good order by [`Server::stop`].
pub struct Server {
    address: SocketAddr,
    pool: db::Pool,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Stopped>,
}

impl Server {
    /// Starts the service on this database and waits until it is ready.
    ///
    /// # Panics
    /// If it is not ready within 30 seconds.
    pub async fn start(service: Service, database_url: &str) -> Self {
        let server = Self::start_with(service, database_url, Settings::defaults(0)).await;
        server.until_ready().await;
        server
    }

    /// Starts the service with these settings (`HOST` and `PORT` do not count) and does not wait.
    ///
    /// # Panics
    /// If the URL is none, or no port is free.
    #[expect(clippy::expect_used, reason = "it is for tests")]
    pub async fn start_with(service: Service, database_url: &str, settings: Settings) -> Self {
        let config = db::Config::parse(database_url).expect("a database URL");
        Self::start_on(service, config, settings).await
    }

    /// The same with a pool of this configuration.
    ///
    /// # Panics
    /// If no port is free.
    #[expect(clippy::expect_used, reason = "it is for tests")]
    pub async fn start_on(service: Service, config: db::Config, settings: Settings) -> Self {
        install_metrics();
        let pool = db::Pool::new(config);
        let listener = listener::listen((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn({
            let pool = pool.clone();
            async move {
                let shutdown = async {
                    // A server that was dropped without `stop` serves on until the runtime ends.
                    if stopped.await.is_err() {
                        std::future::pending::<()>().await;
                    }
                };
                serve(service, listener, pool, &settings, shutdown).await
            }
        });
        Self {
            address,
            pool,
            stop,
            task,
        }
    }

    /// Waits until `/readyz` says 200.
    ///
    /// # Panics
    /// If it does not within 30 seconds.
    pub async fn until_ready(&self) {
        let started = Instant::now();
        // Growing: of many servers that start at once, each would wait for the probes of all the others.
        let mut pause = Duration::from_millis(5);
        loop {
            let answer = self.get("/readyz").await;
            if answer.status == 200 {
                return;
            }
            assert!(started.elapsed() < DEADLINE, "not ready: {}", answer.body);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }

    /// Where the service listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The service's pool.
    pub fn pool(&self) -> &db::Pool {
        &self.pool
    }

    /// Asks the service to stop, as SIGTERM does, and waits until it has.
    ///
    /// # Panics
    /// If it had ended before.
    #[expect(clippy::expect_used, reason = "it is for tests")]
    pub async fn stop(self) -> Stopped {
        let _ = self.stop.send(());
        self.task.await.expect("the service does not panic")
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], "").await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Response {
        self.request("DELETE", path, &[], "").await
    }

    /// POST with a JSON body.
    pub async fn post(&self, path: &str, body: Value) -> Response {
        self.request("POST", path, &[JSON], body.to_string()).await
    }

    /// PATCH with a JSON body.
    pub async fn patch(&self, path: &str, body: Value) -> Response {
        self.request("PATCH", path, &[JSON], body.to_string()).await
    }

    /// Any request, on a connection of its own, sent as it is given.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Response {
        match request(self.address, method, path, headers, body.as_ref()).await {
            Ok(response) => response,
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }
}
