//! Requests that may write: they run to their end also when their client has gone, and the shutdown waits for them.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How many are running.
#[derive(Debug, Clone, Default)]
pub(crate) struct Writes(Arc<watch::Sender<usize>>);

/// One of them.
struct Running(Writes);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.send_modify(|running| *running -= 1);
    }
}

impl Writes {
    /// Runs on whether or not somebody waits for the result.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.0.send_modify(|running| *running += 1);
        let running = Running(self.clone());
        tokio::spawn(async move {
            let _running = running;
            work.await
        })
    }

    /// Waits until none is running.
    pub(crate) async fn finished(&self) {
        // The sender lives as long as this.
        let _ = self.0.subscribe().wait_for(|running| *running == 0).await;
    }

    pub(crate) fn running(&self) -> usize {
        *self.0.borrow()
    }
}
