//! Telling the developer what is done that was not asked for.

use std::fmt;
use std::io::{Write, stderr};

/// A line on stderr. Not by `eprintln!`, which a test that passes keeps to itself.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    say_without_end(format_args!("{line}\n"));
}

/// The same without the line's end, shown at once.
pub(crate) fn say_without_end(text: fmt::Arguments<'_>) {
    let mut stderr = stderr();
    let _ = stderr.write_fmt(text).and_then(|()| stderr.flush());
}
