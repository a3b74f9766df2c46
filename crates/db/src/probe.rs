//! The prober: while the database is away it dials, and nobody else does.

use std::sync::Weak;
use std::time::Duration;

use crate::pool::Inner;

/// Dials until the database is back: alone, and with growing pauses that no two instances share.
pub(crate) async fn probe(pool: Weak<Inner>) {
    let mut pause = Duration::from_millis(25);
    loop {
        tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
        pause = (pause * 2).min(Duration::from_millis(120));
        let Some(inner) = pool.upgrade() else { return };
        if inner.gate.is_closed() || inner.shelf().outage.is_none() {
            return;
        }
        // Where a dial usually takes milliseconds, one that has hung for half a second is better tried again.
        let usual = inner
            .stats
            .usual_dial()
            .map(|usual| (usual * 20).max(Duration::from_millis(500)));
        let limit = [usual, inner.config.connect_timeout]
            .into_iter()
            .flatten()
            .min();
        let dialled = inner.dial(limit).await;
        let done = dialled.is_ok();
        match dialled {
            Ok(slot) => inner.land(Ok(slot), None),
            Err(error) => inner.failed(error),
        }
        if done {
            return;
        }
    }
}
