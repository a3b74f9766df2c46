//! Moments as clients write and read them: RFC 3339, any offset in, UTC out.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// A moment, in UTC. PostgreSQL keeps microseconds of it.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
pub(crate) struct Timestamp(#[serde(with = "server::rfc3339")] OffsetDateTime);

impl Timestamp {
    /// The moment as sqlx speaks it.
    pub(crate) fn utc(self) -> OffsetDateTime {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        // `time` would take a leap second for the moment before it: better not accepted than silently changed.
        if text.get(17..19) == Some("60") {
            return None;
        }
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        moment.checked_to_offset(UtcOffset::UTC).map(Self)
    }
}

impl From<OffsetDateTime> for Timestamp {
    fn from(moment: OffsetDateTime) -> Self {
        Self(moment)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom("must be a time of RFC 3339, such as 2026-12-31T19:30:00Z (in a URL + is written %2B)")
        })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_offset_becomes_utc() {
        for (text, utc) in [
            ("2026-12-31T19:30:00Z", "2026-12-31T19:30:00Z"),
            ("2026-12-31t19:30:00z", "2026-12-31T19:30:00Z"),
            (
                "2026-12-31T19:30:00.123456+01:30",
                "2026-12-31T18:00:00.123456Z",
            ),
            ("2027-01-01T00:30:00+05:45", "2026-12-31T18:45:00Z"),
            ("2026-12-31T19:30:00-00:00", "2026-12-31T19:30:00Z"),
        ] {
            assert_eq!(
                Timestamp::parse(text)
                    .map(|moment| moment.to_string())
                    .as_deref(),
                Some(utc),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_moment_is_not_accepted() {
        for text in [
            "",
            "now",
            "2026-12-31",
            "2026-12-31T19:30:00",
            "2026-02-29T00:00:00Z",
            "2026-12-31T24:00:00Z",
            "2016-12-31T23:59:60Z",
            "2017-01-01T00:59:60+01:00",
            "+294277-01-01T00:00:00Z",
            "-0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59-00:01",
            "9999-12-31T23:59:59-23:59",
            "2026-12-31T19:30:00+24:00",
            "2026-12-31T19:30:00Z\0",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }
}
