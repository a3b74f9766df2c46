//! One way to bound a wait.

use std::time::Duration;

use tokio::time::timeout;

use crate::error::Error;

/// What `future` gives, or [`Error::StatementTimeout`] if that takes longer than `limit`.
pub(crate) async fn within<T>(
    limit: Option<Duration>,
    future: impl Future<Output = T>,
) -> Result<T, Error> {
    match limit {
        None => Ok(future.await),
        Some(limit) => timeout(limit, future)
            .await
            .map_err(|_| Error::StatementTimeout(limit)),
    }
}
