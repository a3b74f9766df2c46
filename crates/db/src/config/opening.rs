//! What a service adds to the opening of its connections, in code.

use std::error::Error;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use sqlx::PgConnection;

use crate::config::Config;
use crate::config::hooks::Credentials;

impl Config {
    /// Runs `hook` on each new connection before its first caller gets it: a role, settings that the URL cannot carry.
    ///
    /// It runs again when a session is made as new, after a caller has changed it. What it does has to be done within
    /// `connect_timeout`, and within half a second when it runs again. A connection where it fails is closed, as if it could
    /// not be opened. The connections of [`sqlx_pool`](crate::Pool::sqlx_pool) and migrations have it too.
    ///
    /// Only with sessions of one's own: PgBouncer in transaction mode gives what it sets to others, so behind one it is not
    /// run, and the log says so.
    ///
    /// ```no_run
    /// # use sqlx::Executor;
    /// # fn main() -> Result<(), db::ConfigError> {
    /// let config = db::Config::from_env()?.after_connect(|connection| {
    ///     Box::pin(async move { connection.execute("set role shop_reader").await.map(drop) })
    /// });
    /// let pool = db::Pool::new(config);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn after_connect<F>(mut self, hook: F) -> Self
    where
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<(), sqlx::Error>>,
        F: Send + Sync + 'static,
    {
        self.hooks.after_connect = Some(Arc::new(hook));
        self
    }

    /// Asks `provider` for the credentials of each new connection, in the place of the URL's: for passwords that change and
    /// tokens that live for minutes (RDS IAM, Entra ID, Cloud SQL IAM).
    ///
    /// It is told how often the server has refused what it gave for this connection, at first 0: one that keeps a token gets
    /// another one then. It is asked again, at most four times, as long as what it gives is new. Its time is part of
    /// `connect_timeout`. While [`sqlx_pool`](crate::Pool::sqlx_pool) has given connections away, it is also asked every 30 s.
    ///
    /// ```no_run
    /// # async fn token_of_the_cloud() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// # fn main() -> Result<(), db::ConfigError> {
    /// let config = db::Config::from_env()?.credentials(|_refused| async {
    ///     let password = token_of_the_cloud().await?;
    ///     Ok(db::Credentials { user: None, password })
    /// });
    /// let pool = db::Pool::new(config);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn credentials<F, Fut>(mut self, provider: F) -> Self
    where
        F: Fn(u32) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Credentials, Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        self.hooks.credentials = Some(Arc::new(move |refused| Box::pin(provider(refused))));
        self
    }
}
