//! What an error says, without what sqlx puts into it that nobody should read: a line of PostgreSQL's own source code, and a
//! character of the password.

use std::error::Error;
use std::iter::successors;

use sqlx::postgres::PgDatabaseError;

/// What sqlx says of a password, before the character that it cannot send.
pub(crate) const PASSWORD: &str = "Failed to saslprep password";

/// The text of an error, fit to be printed. sqlx ends what the server says in ` at line N`, the line in PostgreSQL's own
/// source, which reads like one of the reader's files, and what it says itself in places of its own; and of a password that it cannot send it prints a character.
///
/// ```
/// let error = sqlx::Error::RowNotFound;
/// assert_eq!(db::said(&error), error.to_string(), "only what a server says is changed");
/// ```
#[must_use]
pub fn said(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    if let Some(start) = text.find(PASSWORD) {
        text.truncate(start + PASSWORD.len());
    }
    // The places in the driver's own source that it puts behind what it says.
    while let Some(start) = text.find(" (sqlx_") {
        let length = text[start..]
            .find(')')
            .map_or(text.len() - start, |end| end + 1);
        text.replace_range(start..start + length, "");
    }
    let from_server = successors(Some(error), |&error| error.source()).find_map(of_server);
    let Some((error, line)) = from_server.and_then(|error| Some((error, error.line()?))) else {
        return text;
    };
    let message = error.message();
    text.replacen(&format!("{message} at line {line}"), message, 1)
}

fn of_server<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e PgDatabaseError> {
    match error.downcast_ref::<sqlx::Error>() {
        Some(error) => error.as_database_error()?.try_downcast_ref(),
        None => error.downcast_ref(),
    }
}
