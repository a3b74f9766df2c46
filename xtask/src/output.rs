//! What every command has: errors for a person to read, and lines of output.

use std::error::Error;
use std::fmt::Display;
use std::io::Write;

/// Errors are read by a person: text is enough.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Prints a line that is not the command's answer: to standard error.
pub(crate) fn progress(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints a line; unlike `println!` it goes on when its reader has ended, as in `cargo dev | head`.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
