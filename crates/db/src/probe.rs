//! The prober: while the database is away it dials, and nobody else does.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::dial::Dialling;
use crate::pool::Inner;

/// The first pause between two dials, and the longest: at first a restart is waited for, later a person.
const FIRST: Duration = Duration::from_millis(25);
const SOON: Duration = Duration::from_millis(120);
const LATE: Duration = Duration::from_millis(800);
const PATIENCE: Duration = Duration::from_secs(10);

/// A dial of the prober always ends.
const LONGEST_DIAL: Duration = Duration::from_secs(5);

/// Starts the prober; the shelf has noted that it runs.
pub(crate) fn spawn_prober(pool: &Arc<Inner>) {
    let probing = Probing(Arc::downgrade(pool));
    tokio::spawn(async move { probing.run().await });
}

/// The shelf's note that the prober runs, taken back however it ends.
struct Probing(Weak<Inner>);

impl Drop for Probing {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.shelf().probing = false;
        }
    }
}

impl Probing {
    /// Dials until the database is back, with growing pauses that no two instances share.
    async fn run(&self) {
        let (since, mut pause, mut factor) = (Instant::now(), FIRST, 1);
        loop {
            tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
            pause = (pause * 2).min(if since.elapsed() < PATIENCE {
                SOON
            } else {
                LATE
            });
            let Some(pool) = self.0.upgrade() else { return };
            if pool.gate.is_closed() || pool.shelf().outage.is_none() {
                return;
            }
            pool.shelf().dialling += 1;
            let dialling = Dialling::counted(pool.clone());
            let dialled = pool.dial(Some(limit(&pool, factor))).await;
            factor = (factor * 2).min(64);
            if dialling.land(dialled) {
                return;
            }
        }
    }
}

/// Where a dial usually takes milliseconds, one that has hung for half a second is better tried again, with more
/// patience each time.
fn limit(pool: &Inner, factor: u32) -> Duration {
    let longest = pool.config.connect_timeout.unwrap_or(LONGEST_DIAL);
    let usual = pool.stats.usual_dial().unwrap_or(longest);
    ((usual * 20).max(Duration::from_millis(500)) * factor).min(longest)
}
