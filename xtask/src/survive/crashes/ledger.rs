//! What the writers were told, beside what the database has.

use std::collections::{HashMap, HashSet};

/// What became of a write, as its client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 201, with the id in the answer.
    Stored(String),
    /// 409.
    Conflict,
    /// Another answer, such as 503: it may be stored or not.
    Refused(u16),
    /// Nothing was sent.
    NotSent,
    /// No answer came: it may be stored or not.
    Unknown,
}

/// A write by its key, which no other one has: an email address, or a resource with its time.
pub(crate) type Write = (String, Outcome);

/// Writes of which the client does not know whether they are stored, and how many of them are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) count: u64,
    pub(crate) stored: u64,
}

/// How the two agree. `lost`, `twice` and `unasked` should be 0.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// Acknowledged writes.
    pub(crate) stored: u64,
    /// Acknowledged, but not there.
    pub(crate) lost: u64,
    /// Acknowledged, and there more than once, by id or by key.
    pub(crate) twice: u64,
    /// No answer came.
    pub(crate) unanswered: Open,
    /// The answer was an error.
    pub(crate) refused: Open,
    /// There, although nobody can have written it.
    pub(crate) unasked: u64,
}

/// Rows are `(id, key)`.
pub(crate) fn compare(writes: &[Write], rows: &[(&str, &str)]) -> Agreement {
    let ids = count(rows.iter().map(|(id, _)| *id));
    let keys = count(rows.iter().map(|(_, key)| *key));
    let pairs: HashSet<_> = rows.iter().copied().collect();
    let mut agreement = Agreement::default();
    let mut explained = HashSet::new();
    for (key, outcome) in writes {
        match outcome {
            Outcome::Stored(id) => {
                agreement.stored += 1;
                let often = |counts: &HashMap<&str, u64>, name: &str| counts.get(name) > Some(&1);
                agreement.lost += u64::from(!pairs.contains(&(id.as_str(), key.as_str())));
                agreement.twice += u64::from(often(&ids, id) || often(&keys, key));
                explained.insert(key.as_str());
            }
            Outcome::Refused(_) | Outcome::Unknown => {
                let open = match outcome {
                    Outcome::Unknown => &mut agreement.unanswered,
                    _ => &mut agreement.refused,
                };
                open.count += 1;
                open.stored += u64::from(keys.contains_key(key.as_str()));
                explained.insert(key.as_str());
            }
            Outcome::Conflict | Outcome::NotSent => {}
        }
    }
    let unasked = keys.keys().filter(|key| !explained.contains(*key));
    agreement.unasked = unasked.count() as u64;
    agreement
}

fn count<'a>(names: impl Iterator<Item = &'a str>) -> HashMap<&'a str, u64> {
    let mut counts = HashMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(key: &str, id: &str) -> Write {
        (key.to_owned(), Outcome::Stored(id.to_owned()))
    }

    fn other(key: &str, outcome: Outcome) -> Write {
        (key.to_owned(), outcome)
    }

    #[test]
    fn what_was_acknowledged_is_there_once() {
        let writes = [
            stored("a", "1"),
            other("b", Outcome::Unknown),
            other("c", Outcome::Refused(503)),
            other("d", Outcome::NotSent),
        ];
        let expected = Agreement {
            stored: 1,
            unanswered: Open {
                count: 1,
                stored: 1,
            },
            refused: Open {
                count: 1,
                stored: 0,
            },
            ..Agreement::default()
        };
        assert_eq!(compare(&writes, &[("1", "a"), ("2", "b")]), expected);
    }

    #[test]
    fn what_is_missing_double_or_from_nowhere_is_found() {
        let writes = [stored("a", "1"), stored("b", "2"), stored("c", "3")];
        let rows = [("1", "a"), ("4", "b"), ("3", "c"), ("5", "c"), ("6", "d")];
        let expected = Agreement {
            stored: 3,
            // Under another id it is not the write that was acknowledged.
            lost: 1,
            twice: 1,
            unasked: 1,
            ..Agreement::default()
        };
        assert_eq!(compare(&writes, &rows), expected);
    }

    #[test]
    fn a_write_that_was_not_sent_or_conflicted_explains_no_row() {
        let writes = [other("a", Outcome::NotSent), other("b", Outcome::Conflict)];
        let agreement = compare(&writes, &[("1", "a"), ("2", "b")]);
        assert_eq!((agreement.unasked, agreement.unanswered.count), (2, 0));
    }
}
