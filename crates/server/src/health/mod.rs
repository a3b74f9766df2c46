//! `/livez` and `/readyz`: whether the process lives, and whether it should be sent requests.

pub(crate) mod healthcheck;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use sqlx::migrate::Migrator;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use crate::error::chain;
use crate::error::problem::Problem;

/// Probes, however many, look at the database this often at most.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// After a failed check the next comes sooner, so that recovery is seen at once.
const RECHECK_INTERVAL: Duration = Duration::from_millis(100);

/// How long a look at the migrations may wait for a connection; a pool that is full is no reason to be sent nothing.
const LOOK_TIMEOUT: Duration = Duration::from_millis(500);

/// The service's own state, from its first moment to its last.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Not connected and migrated; why not.
    Starting(String),
    Serving,
    Draining,
}

/// Knows whether the service should be sent requests.
#[derive(Debug, Clone)]
pub(crate) struct Readiness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    phase: watch::Sender<Phase>,
    pool: db::Pool,
    migrator: &'static Migrator,
    /// The last check and its outcome; the lock lets one caller ask while the others wait for its answer.
    checked: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Readiness {
    pub(crate) fn new(pool: db::Pool, migrator: &'static Migrator) -> Self {
        let phase = Phase::Starting("the service has just started".to_owned());
        Self(Arc::new(Inner {
            phase: watch::Sender::new(phase),
            pool,
            migrator,
            checked: Mutex::new(None),
        }))
    }

    /// The service is not ready, because of this.
    pub(crate) fn starting(&self, reason: String) {
        self.advance(Phase::Starting(reason));
    }

    pub(crate) fn serving(&self) {
        self.advance(Phase::Serving);
    }

    pub(crate) fn draining(&self) {
        self.advance(Phase::Draining);
    }

    fn advance(&self, next: Phase) {
        // A service that drains stays so: a start that succeeds late changes nothing.
        self.0.phase.send_if_modified(|phase| {
            let goes_on = *phase != Phase::Draining;
            if goes_on {
                *phase = next;
            }
            goes_on
        });
    }

    /// Waits until a service that was ready is to start anew, because the database has lost its migrations.
    pub(crate) async fn lost(&self) {
        let mut phase = self.0.phase.subscribe();
        // The sender lives as long as this.
        let _ = phase
            .wait_for(|phase| matches!(phase, Phase::Starting(_)))
            .await;
    }

    /// Whether the database answers and is known to lack migrations. One that cannot be asked now, or does not let the
    /// service read which it has, counts as migrated: its other errors say what is wrong.
    pub(crate) async fn lacks_migrations(&self) -> bool {
        let look = self.0.pool.is_migrated(self.0.migrator);
        matches!(timeout(LOOK_TIMEOUT, look).await, Ok(Ok(false)))
    }

    /// Ready, or why not.
    async fn check(&self) -> Result<(), String> {
        let phase = self.0.phase.borrow().clone();
        match phase {
            Phase::Starting(reason) => Err(format!("starting: {reason}")),
            Phase::Draining => Err("the service is shutting down".to_owned()),
            Phase::Serving => self.check_database().await,
        }
    }

    async fn check_database(&self) -> Result<(), String> {
        let mut checked = self.0.checked.lock().await;
        if let Some((at, outcome)) = &*checked {
            let interval = if outcome.is_ok() {
                CHECK_INTERVAL
            } else {
                RECHECK_INTERVAL
            };
            if at.elapsed() < interval {
                return outcome.clone();
            }
        }
        let outcome = self.ask_database().await;
        *checked = Some((Instant::now(), outcome.clone()));
        outcome
    }

    async fn ask_database(&self) -> Result<(), String> {
        // Both at once: a check has no more time than the pool's own check takes.
        let (answers, lacks_migrations) =
            tokio::join!(self.0.pool.check(), self.lacks_migrations());
        answers.map_err(|error| chain(&error))?;
        if lacks_migrations {
            let reason = "the database has lost the migrations of this service";
            self.starting(reason.to_owned());
            return Err(reason.to_owned());
        }
        Ok(())
    }
}

pub(crate) fn routes(readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(readiness)
}

/// Says that the process answers, and no more: a database that is down is no reason to restart it.
async fn livez() -> Json<Value> {
    Json(json!({ "status": "alive" }))
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    match readiness.check().await {
        Ok(()) => Json(json!({ "status": "ready" })).into_response(),
        Err(reason) => {
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason);
            ([(RETRY_AFTER, "1")], problem).into_response()
        }
    }
}
