//! What a service puts into the opening of its connections: the credentials of the moment, and what runs first.

use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

pub(crate) type AfterConnect =
    dyn for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<(), sqlx::Error>> + Send + Sync;
type Provider = dyn Fn(u32) -> BoxFuture<'static, Result<Credentials, Box<dyn Error + Send + Sync>>>
    + Send
    + Sync;

/// Whom the pool connects as. Nothing here ever prints the password.
///
/// ```
/// let credentials = db::Credentials { user: None, password: "a token".to_owned() };
/// assert!(!format!("{credentials:?}").contains("token"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The role; `None` for that of the URL.
    pub user: Option<String>,
    /// The password, or a token in its place.
    pub password: String,
}

impl Credentials {
    pub(crate) fn apply(&self, options: PgConnectOptions) -> PgConnectOptions {
        let options = options.password(&self.password);
        match &self.user {
            Some(user) => options.username(user),
            None => options,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Credentials");
        shown.field("user", &self.user).finish_non_exhaustive()
    }
}

/// What was given to [`Config::after_connect`](crate::Config::after_connect) and
/// [`Config::credentials`](crate::Config::credentials).
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) after_connect: Option<Arc<AfterConnect>>,
    pub(crate) credentials: Option<Arc<Provider>>,
}

impl Hooks {
    /// These, and where there are none, the others'.
    pub(crate) fn or(self, other: &Self) -> Self {
        Self {
            after_connect: self.after_connect.or_else(|| other.after_connect.clone()),
            credentials: self.credentials.or_else(|| other.credentials.clone()),
        }
    }
}

// A panic in one of them leaves nothing here half done, and `Config` and `Pool` are both.
impl UnwindSafe for Hooks {}
impl RefUnwindSafe for Hooks {}
