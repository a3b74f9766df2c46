//! `/livez` and `/readyz`: whether the process lives, and whether it should be sent requests.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use crate::error::chain;
use crate::extract::Json;
use crate::problem::Problem;

/// Probes, however many, look at the database this often at most.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// After a failed check the next comes sooner, so that recovery is seen at once.
const RECHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The service's own state, from its first moment to its last.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Not yet connected and migrated; why not.
    Starting(String),
    Serving,
    Draining,
}

/// Knows whether the service should be sent requests.
#[derive(Debug, Clone)]
pub(crate) struct Readiness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    phase: RwLock<Phase>,
    pool: db::Pool,
    /// The last check and its outcome; the lock lets one probe ask while the others wait for its answer.
    checked: tokio::sync::Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Readiness {
    pub(crate) fn new(pool: db::Pool) -> Self {
        let phase = RwLock::new(Phase::Starting("the service has just started".to_owned()));
        Self(Arc::new(Inner {
            phase,
            pool,
            checked: tokio::sync::Mutex::new(None),
        }))
    }

    /// Starting goes on, because of this.
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
        let mut phase = self.0.phase.write().unwrap_or_else(PoisonError::into_inner);
        // There is no way back from draining: a start that succeeds late changes nothing.
        if *phase != Phase::Draining {
            *phase = next;
        }
    }

    /// Ready, or why not.
    async fn check(&self) -> Result<(), String> {
        let phase = self
            .0
            .phase
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
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
        let outcome = self.0.pool.check().await.map_err(|error| chain(&error));
        *checked = Some((Instant::now(), outcome.clone()));
        outcome
    }
}

pub(crate) fn routes(readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(readiness)
}

/// Says that the process answers, and no more: a database that is down is no reason to restart it.
async fn livez() -> Response {
    Json(json!({ "status": "alive" })).into_response()
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
