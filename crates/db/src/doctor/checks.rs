//! The checklist before production: each point with what was found, or what to change.

use std::fmt;

/// What came of a check.
///
/// ```
/// assert_eq!(db::Verdict::Change.as_str(), "change");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It is as it should be.
    Ok,
    /// Something has to be changed.
    Change,
    /// It cannot be seen from here.
    NotChecked,
}

impl Verdict {
    /// `ok`, `change` or `not checked`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Change => "change",
            Self::NotChecked => "not checked",
        }
    }
}

/// One point of the checklist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// What came of it.
    pub verdict: Verdict,
    /// What was found, what to change, or how to check it.
    pub text: String,
}

impl Check {
    /// A point of the checklist.
    ///
    /// ```
    /// let check = db::Check::new("backup", db::Verdict::NotChecked, "restore one");
    /// assert_eq!(check.to_string(), "not checked  backup: restore one");
    /// ```
    pub fn new(name: &'static str, verdict: Verdict, text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            name,
            verdict,
            text,
        }
    }

    /// Fine, unless there is something to change.
    #[must_use]
    pub fn unless(name: &'static str, change: Option<String>, found: impl Into<String>) -> Self {
        match change {
            Some(change) => Self::new(name, Verdict::Change, change),
            None => Self::new(name, Verdict::Ok, found),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            verdict,
            text,
        } = self;
        write!(f, "{:<11}  {name}: {text}", verdict.as_str())
    }
}
