//! What PostgreSQL's error codes mean to a client, but for those by which `db::Error::is_unavailable` knows that the database is
//! the trouble.

use axum::http::StatusCode;

const CONFLICT: StatusCode = StatusCode::CONFLICT;
const INVALID: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

/// A code or the class it begins with, the status, and what is said of a 409 and of a field; `{rule}` is the constraint.
const MEANINGS: [(&str, StatusCode, &str); 16] = [
    // unique_violation, exclusion_violation, foreign_key_violation
    (
        "23505",
        CONFLICT,
        "It contradicts what is already there (rule {rule}).",
    ),
    (
        "23P01",
        CONFLICT,
        "It contradicts what is already there (rule {rule}).",
    ),
    (
        "23503",
        CONFLICT,
        "Something else depends on it (rule {rule}).",
    ),
    // check_violation, not_null_violation
    ("23514", INVALID, "breaks the rule {rule}"),
    ("23502", INVALID, "must not be null"),
    // character_not_in_repertoire, untranslatable_character: text with U+0000
    ("22021", INVALID, "text must not contain the NUL character"),
    ("22P05", INVALID, "text must not contain the NUL character"),
    // string_data_right_truncation, numeric_value_out_of_range
    ("22001", INVALID, "a text is too long"),
    ("22003", INVALID, "a number is out of range"),
    // invalid_datetime_format, datetime_field_overflow, invalid_text_representation
    ("22007", INVALID, "a date or time is out of range"),
    ("22008", INVALID, "a date or time is out of range"),
    ("22P02", INVALID, "a value cannot be read"),
    // insufficient_privilege, invalid_schema_name, undefined_table: the database is not yet what the service needs, of which
    // /readyz says more
    ("42501", UNAVAILABLE, ""),
    ("3F000", UNAVAILABLE, ""),
    ("42P01", UNAVAILABLE, ""),
    // everything else is a fault of the service
    ("", StatusCode::INTERNAL_SERVER_ERROR, ""),
];

/// The status that a code is answered with, and what is said.
pub(crate) fn meaning(code: &str, constraint: Option<&str>) -> (StatusCode, String) {
    let row = MEANINGS.iter().find(|(start, ..)| code.starts_with(start));
    let (_, status, detail) = row.unwrap_or(&MEANINGS[MEANINGS.len() - 1]);
    (
        *status,
        detail.replace("{rule}", constraint.unwrap_or("unnamed")),
    )
}

#[cfg(test)]
mod tests {
    use super::meaning;

    #[test]
    fn sqlstates_have_their_status() {
        for (status, codes) in [
            (409, "23505 23P01 23503"),
            (422, "23514 23502 22021 22P05 22001 22003 22007 22008 22P02"),
            (503, "42501 3F000 42P01"),
            (500, "22012 42703"),
        ] {
            for code in codes.split(' ') {
                assert_eq!(meaning(code, Some("c")).0.as_u16(), status, "{code}");
            }
        }
        assert_eq!(meaning("", None).0.as_u16(), 500);
    }
}
