//! Why a connection could not be opened, in words that name the cause.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};

use sqlx::postgres::PgDatabaseError;

use crate::certificate;
use crate::config::Config;
use crate::config::connection::quote_identifier;
use crate::config::hosts::Host;
use crate::said::{PASSWORD, said};
use crate::sqlstate;

/// PostgreSQL's code for a server that has no room for one more session, or not for this role or this database.
const TOO_MANY: &str = "53300";

/// Why a connection could not be opened, in words that name the cause.
///
/// ```no_run
/// # async fn example(pool: &db::Pool) {
/// if let Err(db::Error::Connect(why)) = pool.acquire().await {
///     eprintln!("{why}"); // Can't reach database server at `db:5432`: …
/// }
/// # }
/// ```
pub struct ConnectError {
    message: String,
    pub(crate) source: sqlx::Error,
}

impl ConnectError {
    pub(crate) fn new(config: &Config, source: sqlx::Error) -> Self {
        let (address, user, database) = (config.address(), config.username(), config.database());
        let (code, text) = (code(&source), said(&source));
        let message = match (&source, code.as_ref()) {
            (_, "28P01") if !config.has_password() => format!(
                "Authentication failed at `{address}`: no password is given for `{user}`, or the one in ~/.pgpass is not valid; \
                 write it into DATABASE_URL: postgres://{user}:password@…"
            ),
            (_, "28P01") => format!(
                "Authentication failed at `{address}`: the password for `{user}` is not valid"
            ),
            (_, "28000") => {
                format!("Access denied at `{address}` for `{user}` on `{database}`: {text}")
            }
            (_, "3D000") => format!(
                "Database `{database}` does not exist at `{address}`; create it or correct DATABASE_URL"
            ),
            (_, TOO_MANY) => too_many(config, &source),
            (_, "57P03") => {
                format!("Database server at `{address}` is starting up or shutting down")
            }
            (sqlx::Error::Tls(error), _) => tls(config, &source, error),
            (sqlx::Error::Io(error), _) => io(config, &source, error),
            (sqlx::Error::Configuration(_), _) if text.ends_with(PASSWORD) => format!(
                "Authentication failed at `{address}`: the password for `{user}` has a character that sqlx cannot send, because \
                 SASLprep does not allow it, such as a control character, and with this sslmode there is no other way; give the role another password"
            ),
            _ => format!("Can't connect to `{address}`: {text}"),
        };
        Self { message, source }
    }

    /// Nobody has answered, of whom these are the addresses, if it is known that there are several.
    pub(crate) fn timeout(config: &Config, addresses: Option<String>) -> Self {
        let mut error = Self::new(config, sqlx::Error::Io(ErrorKind::TimedOut.into()));
        if let Some(addresses) = addresses {
            error.message = format!("{} ({addresses})", error.message);
        }
        error
    }

    /// The connection was opened, and then the service's own hook failed.
    pub(crate) fn after_connect(config: &Config, source: sqlx::Error) -> Self {
        let message = format!(
            "after_connect failed at `{}`: {}",
            config.address(),
            said(&source)
        );
        Self { message, source }
    }

    /// The service's own provider has none.
    pub(crate) fn credentials(config: &Config, error: Box<dyn Error + Send + Sync>) -> Self {
        let address = config.address();
        let message = format!("No credentials for `{address}` from their provider: {error}");
        let source = sqlx::Error::Configuration(error);
        Self { message, source }
    }

    /// A pooler answers that cannot be used as this pool is set.
    pub(crate) fn pooler(config: &Config, why: impl fmt::Display) -> Self {
        let message = format!(
            "A pooler such as PgBouncer answers at `{}`: {why}",
            config.address()
        );
        let source = sqlx::Error::Configuration(message.clone().into());
        Self { message, source }
    }

    /// A pooler has not answered in time.
    pub(crate) fn no_session(config: &Config, why: &str) -> Self {
        let Self { message, .. } = Self::pooler(config, why);
        let source = sqlx::Error::Io(ErrorKind::TimedOut.into());
        Self { message, source }
    }

    /// Several servers answer what one is asked.
    pub(crate) fn split(config: &Config) -> Self {
        let message = format!(
            "What answers at `{}` has some statements answered by another server than others, so that a read may miss the write \
             before it, as pgpool-II and PgDog do with a primary and standbys. Switch that off (load_balance_mode = off in \
             pgpool-II; in others a database that has the primary alone), and name the standbys in DATABASE_REPLICA_URLS instead",
            config.address()
        );
        let source = sqlx::Error::Configuration(message.clone().into());
        Self { message, source }
    }

    /// A server answers that is not what is wanted.
    pub(crate) fn unfit(host: &Host, why: &str) -> Self {
        let message = format!("`{host}` {why}");
        let source = sqlx::Error::Configuration(message.clone().into());
        Self { message, source }
    }

    /// None of the hosts can be used, each for its own reason.
    pub(crate) fn no_host(config: &Config, mut errors: Vec<Self>) -> Self {
        let each: Vec<&str> = errors.iter().map(|error| &*error.message).collect();
        let wanted = config.target_session_attrs;
        let message = match &each[..] {
            [one] if config.hosts().len() == 1 => {
                format!("The server is not what target_session_attrs={wanted} asks for: {one}")
            }
            each => format!(
                "No host fits target_session_attrs={wanted}: {}",
                each.join("; ")
            ),
        };
        // What a server says tells more than that another one is not there.
        let telling = errors
            .iter()
            .position(|error| error.source.as_database_error().is_some());
        let source = match telling.or(errors.len().checked_sub(1)) {
            Some(index) => errors.swap_remove(index).source,
            None => sqlx::Error::Configuration(message.clone().into()),
        };
        Self { message, source }
    }

    /// Whether it may have been refused for what it was told: by somebody, and not for who it is, what it asks for or how many
    /// others there are.
    pub(crate) fn may_be_of_options(&self) -> bool {
        let (said, code) = (self.source.as_database_error(), code(&self.source));
        let of_others = ["28", "3D", "53", "57"];
        said.is_some() && !of_others.iter().any(|class| code.starts_with(class))
    }

    /// Whether the server is there but has no room for one more.
    pub(crate) fn is_server_full(&self) -> bool {
        code(&self.source) == TOO_MANY
    }

    /// Whether another password, or another user, may be accepted. Nobody is told who does not answer.
    pub(crate) fn is_authentication(&self) -> bool {
        let answered = self.source.as_database_error().is_some();
        answered && sqlstate::may_be_credentials(&code(&self.source))
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

// By hand, as nothing else of the cause is to be printed than the message has.
impl fmt::Debug for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ConnectError");
        shown.field("message", &self.message);
        shown.field("code", &code(&self.source));
        shown.finish_non_exhaustive()
    }
}

// Without a source: the message has its text, and the driver's own may have a character of the password.
impl Error for ConnectError {}

/// PostgreSQL's own code for what is wrong, or nothing.
fn code(source: &sqlx::Error) -> Cow<'_, str> {
    let error = source.as_database_error();
    error.and_then(|error| error.code()).unwrap_or_default()
}

/// Which of its limits the server has come to, and what helps with that one. Its text is in any language, but the place in its source that
/// it names beside is not; where it names none of these, all three are to be looked at.
fn too_many(config: &Config, source: &sqlx::Error) -> String {
    let error = source.as_database_error();
    let error = error.and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    let (role, database) = (
        quote_identifier(config.username()),
        quote_identifier(config.database()),
    );
    let (limit, or) = match error.and_then(PgDatabaseError::routine) {
        Some("InitializeSessionUserId") => (
            format!("the role {role} has all that it may have in all databases together"),
            format!("alter role {role} connection limit …"),
        ),
        Some("CheckMyDatabase") => (
            format!("the database {database} has all that it may have"),
            format!("alter database {database} connection limit …"),
        ),
        Some("InitPostgres" | "InitProcess" | "ProcessStartupPacket" | "BackendInitialize") => (
            "the server has no room for more".to_owned(),
            "give it more max_connections".to_owned(),
        ),
        _ => (
            format!(
                "the server, the role {role} or the database {database} has all that it may have"
            ),
            "raise that limit".to_owned(),
        ),
    };
    let auto = match config.connection_limit_auto {
        true => "",
        false => " set connection_limit=auto,",
    };
    format!(
        "Too many connections at `{}`: {limit}; lower connection_limit or the number of instances,{auto} or {or} ({})",
        config.address(),
        said(source)
    )
}

fn tls(config: &Config, source: &sqlx::Error, error: &dyn fmt::Display) -> String {
    let host = config.hosts().first().map_or("localhost", Host::name);
    let wrong = match certificate::fault(source, host) {
        Some(fault) => format!("the server's certificate {fault} ({error})"),
        // It ends in the file's path, where somebody may have put the key itself.
        None if error.to_string().starts_with("Invalid certificate") => {
            "the file that sslrootcert names has a certificate that cannot be read".to_owned()
        }
        None => error.to_string(),
    };
    let store = config.tls.store.as_ref();
    let store = store.map_or_else(String::new, |problem| format!("; {problem}"));
    format!(
        "Error opening a TLS connection to `{}`: {wrong}{store}; check sslmode, sslrootcert and sslcert",
        config.address()
    )
}

/// Not all that sqlx calls an I/O error is the network's: it reads the files of TLS, and passes on what rustls finds
/// wrong with a certificate as invalid data.
fn io(config: &Config, source: &sqlx::Error, error: &io::Error) -> String {
    let address = config.address();
    let fails = |path: &String| std::fs::read(path).is_err_and(|e| e.kind() == error.kind());
    match error.kind() {
        ErrorKind::TimedOut => {
            format!("Can't reach database server at `{address}`: no answer within connect_timeout")
        }
        ErrorKind::InvalidData => tls(config, source, error),
        _ => match config.tls.files.iter().find(|(_, path)| fails(path)) {
            // Without the path: somebody may have put the key itself there.
            Some((key, _)) => format!(
                "Error opening a TLS connection to `{address}`: the file that {key} names cannot be read: {error}"
            ),
            None => {
                format!("Can't reach database server at `{address}`: {error}; is it running there?")
            }
        },
    }
}
