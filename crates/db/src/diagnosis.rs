//! What is the matter with the pool, in a sentence: the one that the log, the errors, the page and the alerts say.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::connect_error::ConnectError;
use crate::duration::seconds;

/// Who holds connections for a shorter time than this does not hold them up: there is too much work, not too slow work.
const SHORT: Duration = Duration::from_millis(100);

/// What a pool is doing, in a word.
///
/// ```
/// assert_eq!(db::PoolState::Full.as_str(), "full");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolState {
    /// No connection is in use.
    Quiet,
    /// Some are.
    Busy,
    /// All are.
    Full,
    /// None is open, and none can be opened.
    Down,
    /// The pool is closed.
    Closed,
}

impl PoolState {
    /// The state as a word: `quiet`, `busy`, `full`, `down` or `closed`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Busy => "busy",
            Self::Full => "full",
            Self::Down => "down",
            Self::Closed => "closed",
        }
    }
}

/// What is the matter with a pool and what to do about it. Printed, it is the sentence.
///
/// ```
/// # fn example(pool: &db::Pool) {
/// let diagnosis = pool.diagnosis();
/// if diagnosis.state == db::PoolState::Full {
///     eprintln!("{diagnosis}");
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// In a word.
    pub state: PoolState,
    /// For people. It names statements but none of their arguments.
    pub sentence: String,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// What the diagnosis is made from.
pub(crate) struct View {
    pub(crate) limit: u32,
    pub(crate) open: u32,
    pub(crate) in_use: u32,
    pub(crate) waiting: u32,
    /// Connections being opened.
    pub(crate) connecting: u32,
    /// Who has held a connection longest, and for how long.
    pub(crate) longest: Option<(String, Duration)>,
    /// The last failure to open a connection, if none can be opened.
    pub(crate) outage: Option<Arc<ConnectError>>,
    pub(crate) closed: bool,
    /// How many more connections the server has room for, if it was asked.
    pub(crate) room: Option<u32>,
    /// The setting that keeps the pool from having more.
    pub(crate) setting: &'static str,
    /// Whether a pooler's sessions are what all connections share.
    pub(crate) pooled: bool,
    pub(crate) leak_threshold: Option<Duration>,
}

/// What the server has room for means nothing there.
const MORE_OF_POOLER: &str = "Give the pooler more sessions (default_pool_size in PgBouncer and PgDog, pool_size in PgCat); where it has \
                              some left, raise connection_limit;";

impl View {
    pub(crate) fn diagnosis(&self) -> Diagnosis {
        let state = match self {
            Self { closed: true, .. } => PoolState::Closed,
            Self {
                outage: Some(_), ..
            } if !self.is_crowded() || self.open == 0 => PoolState::Down,
            Self { in_use, .. } if *in_use >= self.most() => PoolState::Full,
            Self { in_use: 0, .. } => PoolState::Quiet,
            _ => PoolState::Busy,
        };
        let sentence = match state {
            PoolState::Closed => "The pool is closed: the process stops.".to_owned(),
            PoolState::Down => self.down(),
            PoolState::Full if self.waiting > 0 => self.full(),
            _ => self.at_ease(),
        };
        Diagnosis { state, sentence }
    }

    /// Whether the database answers, and has no room for one more connection.
    fn is_crowded(&self) -> bool {
        let outage = self.outage.as_ref();
        outage.is_some_and(|error| error.is_server_full())
    }

    /// How many connections there can be now.
    fn most(&self) -> u32 {
        match self.is_crowded() {
            true => self.open.min(self.limit),
            false => self.limit,
        }
    }

    /// Why no connection can be opened.
    fn why(&self) -> String {
        let why = self.outage.as_ref().map(ToString::to_string);
        why.unwrap_or_default()
    }

    fn down(&self) -> String {
        let what = match self.is_crowded() {
            true => "The database has no room for this pool",
            false => "The database cannot be reached",
        };
        format!("{what}: {}. The pool tries again by itself.", self.why())
    }

    /// All connections are in use, and callers wait.
    fn full(&self) -> String {
        let (waiting, limit, setting) = (self.waiting, self.limit, self.setting);
        let wait = if waiting == 1 { "waits" } else { "wait" };
        if self.is_crowded() {
            return format!(
                "The pool is full: {waiting} {wait}, and no more than {} of {limit} connections can be opened. {}. The pool \
                 tries again by itself.",
                self.open,
                self.why()
            );
        }
        let more = match self.room {
            _ if self.pooled => Some(MORE_OF_POOLER.to_owned()),
            Some(0) => None,
            Some(room) => Some(format!(
                "Raise {setting} (the server has room for {room} more)"
            )),
            None => Some(format!("Raise {setting}")),
        };
        let full_server = "The server has no room for more connections";
        match &self.longest {
            Some((who, held)) if *held >= SHORT => {
                let advice = more.map_or_else(
                    || format!("{full_server}: shorten that statement"),
                    |more| format!("{more} or shorten that statement"),
                );
                format!(
                    "The pool is full: {waiting} {wait}, the longest holder is {who} for {}. {advice}.",
                    seconds(*held)
                )
            }
            _ => {
                let advice = more.map_or_else(
                    || format!("{full_server}: take work away, or give the server more"),
                    |more| match self.pooled {
                        true => format!("{more} or take work away"),
                        false => format!("{more} or start another instance"),
                    },
                );
                format!(
                    "The pool is full: {waiting} {wait}, and nobody holds a connection for long. More work arrives than \
                     {limit} connections can do. {advice}."
                )
            }
        }
    }

    /// Nobody waits for somebody else.
    fn at_ease(&self) -> String {
        let Self {
            limit,
            open,
            in_use,
            waiting,
            connecting,
            ..
        } = self;
        if *waiting > 0 && *connecting == 0 && open > in_use {
            let wait = if *waiting == 1 { "waits" } else { "wait" };
            return format!(
                "{waiting} {wait} although only {in_use} of {open} connections are in use: the process has no CPU left to \
                 use them. It needs more CPU or another instance, not more connections."
            );
        }
        if let (Some((who, held)), Some(limit)) = (&self.longest, self.leak_threshold)
            && *held > limit
        {
            return format!(
                "A connection has been held for {}, longer than leak_threshold ({}), by {who}.",
                seconds(*held),
                seconds(limit)
            );
        }
        let wait = match waiting {
            0 => "nobody waits".to_owned(),
            1 => "1 waits for one that is being opened".to_owned(),
            _ => format!("{waiting} wait for connections that are being opened"),
        };
        match in_use {
            0 => format!("The pool is quiet: {open} of {limit} connections are open, {wait}."),
            1 => format!("1 of {limit} connections is in use, {wait}."),
            _ => format!("{in_use} of {limit} connections are in use, {wait}."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View {
            limit: 10,
            open: 10,
            in_use: 10,
            waiting: 37,
            connecting: 0,
            longest: Some(("GET /slow".to_owned(), Duration::from_millis(1200))),
            outage: None,
            closed: false,
            room: Some(60),
            setting: "connection_limit",
            pooled: false,
            leak_threshold: Some(Duration::from_secs(30)),
        }
    }

    fn sentence(change: impl FnOnce(&mut View)) -> String {
        let mut view = view();
        change(&mut view);
        view.diagnosis().sentence
    }

    #[test]
    fn each_state_has_its_sentence() {
        assert_eq!(
            sentence(|_| {}),
            "The pool is full: 37 wait, the longest holder is GET /slow for 1.2 s. Raise connection_limit (the server has \
             room for 60 more) or shorten that statement."
        );
        assert!(
            sentence(|view| view.room = Some(0))
                .ends_with("The server has no room for more connections: shorten that statement.")
        );
        let pooled = sentence(|view| view.pooled = true);
        assert!(
            pooled.ends_with(
                "Give the pooler more sessions (default_pool_size in PgBouncer and PgDog, pool_size in PgCat); where it has some \
                 left, raise connection_limit; or shorten that statement."
            ),
            "{pooled}"
        );
        let short = sentence(|view| view.longest = None);
        assert!(
            short.contains("More work arrives than 10 connections can do."),
            "{short}"
        );
        let starved = sentence(|view| view.in_use = 4);
        assert!(starved.starts_with("37 wait although only 4 of 10 connections are in use"));
        let opening = sentence(|view| (view.in_use, view.open, view.connecting) = (1, 1, 3));
        assert!(opening.ends_with("37 wait for connections that are being opened."));
        let leak = sentence(|view| {
            (view.in_use, view.waiting) = (1, 0);
            view.longest = Some(("src/a.rs:7:3".to_owned(), Duration::from_secs(90)));
        });
        assert_eq!(
            leak,
            "A connection has been held for 90 s, longer than leak_threshold (30 s), by src/a.rs:7:3."
        );
        let at_ease = sentence(|view| (view.in_use, view.waiting) = (3, 0));
        assert_eq!(at_ease, "3 of 10 connections are in use, nobody waits.");
    }
}
