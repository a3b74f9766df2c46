//! `LISTEN` that comes back after a loss, and says that it may have missed something.

use std::panic::Location;
use std::time::Duration;

use sqlx::Executor;
use sqlx::postgres::{PgListener, PgNotification};
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::Error;
use crate::pool::{Part, Pool, part};

/// Pauses between two attempts to listen again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The silence after which the server is asked for a sign of life, if there is no `socket_timeout`.
const SILENCE: Duration = Duration::from_secs(30);
const LONGEST_SILENCE: Duration = Duration::from_secs(60 * 60);

/// What a [`Listener`] hears.
///
/// ```
/// # fn example(heard: db::Heard) {
/// match heard {
///     db::Heard::Gap => println!("look at everything"),
///     db::Heard::Notification(one) => println!("{}: {}", one.channel(), one.payload()),
/// }
/// # }
/// ```
#[derive(Debug)]
pub enum Heard {
    /// Notifications may have been missed: always the first, and again whenever the connection was lost. Time to look at
    /// everything that a notification would have pointed to.
    Gap,
    /// Somebody has sent one: its `channel()` and `payload()`.
    Notification(PgNotification),
}

/// Listens on channels for as long as it lives, on one connection of the pool's limit. Made by [`Pool::listen`].
///
/// ```no_run
/// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
/// let mut listener = pool.listen(["orders", "returns"]).await?;
/// println!("{:?}", listener.next().await?);
/// # Ok(()) }
/// ```
pub struct Listener {
    pool: Pool,
    /// One connection of the limit.
    part: Part,
    channels: Vec<String>,
    connected: Option<PgListener>,
    silence: Duration,
    /// When the server last said something.
    heard: Instant,
    /// When it was asked for a sign of life, if it has not answered yet.
    asked: Option<Instant>,
    /// It listens, and nobody knows yet what came before.
    gap: bool,
}

impl Pool {
    /// Listens on channels, with one connection of the limit, which has to be above 1. Names are taken as they are written, in
    /// upper and lower case.
    ///
    /// Notifications are not kept for who does not listen, so a [`Listener`] tells of each [`Heard::Gap`], the first before
    /// anything else: what points to rows of a table needs no other beginning and loses nothing.
    ///
    /// ```no_run
    /// # async fn work_off_all() {}
    /// # async fn example(pool: &db::Pool) -> Result<(), db::Error> {
    /// let mut listener = pool.listen(["orders"]).await?;
    /// loop {
    ///     match listener.next().await? {
    ///         db::Heard::Gap => work_off_all().await,
    ///         db::Heard::Notification(one) => println!("{}: {}", one.channel(), one.payload()),
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`sqlx_pool`](Self::sqlx_pool), behind a pooler such as PgBouncer, and if the server cannot be reached the first time.
    pub async fn listen(
        &self,
        channels: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Listener, Error> {
        // What is between is known with the first connection.
        drop(self.acquire().await?);
        if !self.has_sessions().await? {
            let why = "PgBouncer does not pass notifications on: listen with a DATABASE_URL of the server itself";
            return Err(Error::Sqlx(sqlx::Error::InvalidArgument(why.to_owned())));
        }
        let mut listener = Listener {
            pool: self.clone(),
            part: part::take(&self.0, 1, Location::caller()).await?,
            channels: channels.into_iter().map(Into::into).collect(),
            connected: None,
            silence: self
                .config()
                .socket_timeout
                .unwrap_or(SILENCE)
                .min(LONGEST_SILENCE),
            heard: Instant::now(),
            asked: None,
            gap: true,
        };
        listener.connected = Some(listener.connect().await?);
        Ok(listener)
    }
}

impl Listener {
    /// What comes next, when it comes. Nothing is lost when this is dropped before.
    ///
    /// A lost connection is opened again, with pauses of 2 s at most, for as long as the pool is open. It is found lost also
    /// in silence: the server is asked for a sign of life after each `socket_timeout` without a word.
    ///
    /// # Errors
    /// [`Error::Closed`] when the pool is closed.
    pub async fn next(&mut self) -> Result<Heard, Error> {
        loop {
            if self.pool.is_closed() {
                self.end();
                return Err(Error::Closed);
            }
            let Some(connected) = &mut self.connected else {
                // What is lost may hold the last one's only place for ever.
                self.part = part::renew(&self.pool.0, &self.part);
                self.connected = Some(self.connect_again().await?);
                (self.gap, self.heard, self.asked) = (true, Instant::now(), None);
                continue;
            };
            if std::mem::take(&mut self.gap) {
                return Ok(Heard::Gap);
            }
            // From the last word on, and not from this call, which may be dropped sooner each time.
            let silent = self.heard + self.silence;
            let heard = hear(connected, silent, self.silence, &mut self.asked).await;
            match heard {
                Ok(heard) => {
                    (self.heard, self.asked) = (Instant::now(), None);
                    if let Some(notification) = heard {
                        return Ok(Heard::Notification(notification));
                    }
                }
                Err(error) => {
                    self.connected = None;
                    if !self.pool.is_closed() {
                        let channels = self.channels.join(", ");
                        tracing::warn!(
                            event = "listener_lost",
                            channels,
                            "listening again: {error}"
                        );
                    }
                }
            }
        }
    }

    /// Gives the connection back to the limit.
    fn end(&mut self) {
        self.connected = None;
        // Without a runtime nothing runs any more that could use it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let part = self.part.pool.clone();
            runtime.spawn(async move { part.close().await });
        }
    }

    async fn connect(&self) -> Result<PgListener, Error> {
        let limit = self.pool.config().connect_timeout.unwrap_or(SILENCE);
        let connect = async {
            let mut listener = PgListener::connect_with(&self.part.pool).await?;
            // A loss is for us to see: nothing is to be made good behind our back.
            listener.eager_reconnect(false);
            let channels = self.channels.iter().map(String::as_str);
            listener.listen_all(channels).await?;
            Ok(listener)
        };
        let connected = timeout(limit, connect).await;
        connected.unwrap_or(Err(Error::NoAnswer(limit)))
    }

    async fn connect_again(&self) -> Result<PgListener, Error> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.connect().await {
                Ok(listener) => return Ok(listener),
                Err(_) if self.pool.is_closed() => return Err(Error::Closed),
                Err(error) => tracing::debug!("not yet listening again: {error}"),
            }
            tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// The next notification; none if only the server is well. It is asked when it has been silent, and has `patience` to answer.
async fn hear(
    connected: &mut PgListener,
    silent: Instant,
    patience: Duration,
    asked: &mut Option<Instant>,
) -> Result<Option<PgNotification>, Error> {
    match timeout_at(silent, connected.try_recv()).await {
        Ok(Ok(Some(notification))) => Ok(Some(notification)),
        Ok(Ok(None)) => Err(Error::Sqlx(sqlx::Error::Io(
            std::io::ErrorKind::ConnectionReset.into(),
        ))),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => {
            let end = *asked.get_or_insert_with(Instant::now) + patience;
            let answer = timeout_at(end, connected.execute("")).await;
            answer.map_err(|_| Error::NoAnswer(patience))??;
            Ok(None)
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.end();
    }
}
