//! Moments in JSON, as RFC 3339 has them: `2026-11-30T09:00:00.123456Z`.

use serde::{Deserializer, Serializer, ser};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The longest text: nine digits of a second, and an offset.
const LONGEST: usize = "2026-11-30T09:00:00.123456789+00:00".len();

/// For `#[serde(with = "server::rfc3339")]`: the text of `time::serde::rfc3339`, written without a `String` for each.
///
/// # Errors
/// For a year beyond 9999, or an offset with seconds, which RFC 3339 does not know.
pub fn serialize<S: Serializer>(moment: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = [0; LONGEST];
    let mut rest = &mut text[..];
    let written = moment.format_into(&mut rest, &Rfc3339);
    written.map_err(ser::Error::custom)?;
    // Not by the number that it gives, which leaves out digits of the second.
    let written = LONGEST - rest.len();
    let text = str::from_utf8(&text[..written]).map_err(ser::Error::custom)?;
    serializer.serialize_str(text)
}

/// The same the other way round.
///
/// # Errors
/// For any other text.
pub fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<OffsetDateTime, D::Error> {
    time::serde::rfc3339::deserialize(deserializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_time_writes_it() {
        let edges = [-62_167_219_200_000_000_000, 253_402_300_799_999_999_999];
        // Each number of digits that a second can have.
        let digits = (0..9).flat_map(|zeros| [1, 5, 9].map(|digit| digit * 10_i128.pow(zeros)));
        let seconds = digits.flat_map(|part| [part, -part, 1_796_029_200_000_000_000 + part]);
        let many = [0, 123_456_000, 999_999_999, 543_210_000];
        for nanoseconds in edges.into_iter().chain(seconds).chain(many) {
            let utc = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).unwrap();
            for (hours, minutes) in [(0, 0), (1, 30), (-11, -59)] {
                let offset = time::UtcOffset::from_hms(hours, minutes, 0).unwrap();
                let Some(moment) = utc.checked_to_offset(offset) else {
                    continue;
                };
                let ours = serialize(&moment, serde_json::value::Serializer);
                let theirs =
                    time::serde::rfc3339::serialize(&moment, serde_json::value::Serializer);
                assert_eq!(ours.ok(), theirs.ok(), "{moment}");
            }
        }
    }
}
