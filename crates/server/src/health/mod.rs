//! `/livez` and `/readyz`: whether the process lives, and whether it should be sent requests.

pub(crate) mod healthcheck;
pub(crate) mod report;

use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use axum::extract;
use axum::routing::get;
use axum::{Json, Router};
use db::Schema;
use serde_json::{Value, json};
use sqlx::migrate::Migrator;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use self::report::{Report, State};
use crate::error::chain;

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
    Starting(Report),
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
    checked: Mutex<Option<(Instant, Report)>>,
    /// The log has been told of a session that is not as the others.
    told: Once,
}

impl Readiness {
    pub(crate) fn new(pool: db::Pool, migrator: &'static Migrator) -> Self {
        let report = Report::new(
            State::Starting,
            "the service connects to its database, and migrates it where it has to",
        );
        Self(Arc::new(Inner {
            phase: watch::Sender::new(Phase::Starting(report)),
            pool,
            migrator,
            checked: Mutex::new(None),
            told: Once::new(),
        }))
    }

    /// The service is not ready, because of this.
    pub(crate) fn starting(&self, report: Report) {
        self.advance(Phase::Starting(report));
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

    /// How the migrations of the database stand to those of the service; `None` if it cannot be asked now.
    pub(crate) async fn schema(&self) -> Option<Result<Schema, db::Error>> {
        let look = self.0.pool.schema(self.0.migrator);
        timeout(LOOK_TIMEOUT, look).await.ok()
    }

    async fn check(&self) -> Report {
        let phase = self.0.phase.borrow().clone();
        match phase {
            Phase::Starting(report) => report,
            Phase::Draining => Report::new(State::Draining, "the service is shutting down"),
            Phase::Serving => self.check_database().await,
        }
    }

    async fn check_database(&self) -> Report {
        let mut checked = self.0.checked.lock().await;
        if let Some((at, report)) = &*checked {
            let interval = match report.is_ready() {
                true => CHECK_INTERVAL,
                false => RECHECK_INTERVAL,
            };
            if at.elapsed() < interval {
                return report.clone();
            }
        }
        // Apart from the request: a probe is no work that others have to leave connections to, and has no deadline.
        let this = self.clone();
        let asked = tokio::spawn(async move { this.ask_database().await }).await;
        let report =
            asked.unwrap_or_else(|error| Report::new(State::DatabaseDown, error.to_string()));
        *checked = Some((Instant::now(), report.clone()));
        report
    }

    async fn ask_database(&self) -> Report {
        // Both at once: a check has no more time than the pool's own check takes.
        let (answers, schema) = tokio::join!(self.0.pool.check(), self.schema());
        if let Err(error) = answers {
            return Report::new(State::DatabaseDown, chain(&error));
        }
        match schema {
            Some(Ok(Schema::Older { missing })) => {
                let report = Report::older(&missing);
                self.starting(report.clone());
                report
            }
            Some(Ok(Schema::Newer { newest })) => Report::newer(newest),
            // The service has worked with the database, and one session that cannot is not the database.
            Some(Ok(Schema::Unclear { session })) => {
                self.0.told.call_once(|| tracing::warn!("{session}"));
                Report::ready_but(&session)
            }
            // Also a database that does not let the service read its migrations: its other errors say what is wrong. And
            // one whose migrations were changed: this service has worked with it, and whoever starts anew is told.
            _ => Report::ready(),
        }
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

async fn readyz(extract::State(readiness): extract::State<Readiness>) -> Report {
    readiness.check().await
}
