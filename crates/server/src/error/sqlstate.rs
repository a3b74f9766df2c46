//! What an error of the database means to a client: the one place that knows SQLSTATEs.

use axum::http::StatusCode;

use crate::error::FieldError;

/// The `detail` of every 503: causes differ, the client's next step does not.
pub(crate) const UNAVAILABLE: &str =
    "The service is busy or cannot reach its database. Try again shortly.";

/// How the database's error is answered.
#[derive(Debug, PartialEq)]
pub(crate) enum Refusal {
    /// 503; try again after so many seconds.
    Unavailable(u64),
    /// 409 with a sentence.
    Conflict(String),
    /// 422 for one field.
    Invalid(FieldError),
    /// 500.
    Fault,
}

impl Refusal {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Fault => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

pub(crate) fn refusal(error: &db::Error) -> Refusal {
    if error.is_unavailable() {
        let after = error.retry_after().unwrap_or_default();
        // `Retry-After` counts whole seconds: round up, so that nobody comes too early.
        return Refusal::Unavailable(after.as_millis().div_ceil(1000).clamp(1, 3600) as u64);
    }
    match error.as_database() {
        Some(cause) => {
            let constraint = error.constraint().unwrap_or("unnamed");
            by_sqlstate(
                cause.code().as_deref().unwrap_or_default(),
                constraint,
                cause.message(),
            )
        }
        None => Refusal::Fault,
    }
}

fn by_sqlstate(code: &str, constraint: &str, message: &str) -> Refusal {
    match code {
        // unique_violation, exclusion_violation, foreign_key_violation
        "23505" | "23P01" => Refusal::Conflict(format!(
            "It contradicts what is already there (rule {constraint})."
        )),
        "23503" => Refusal::Conflict(format!("Something else depends on it (rule {constraint}).")),
        // check_violation
        "23514" => Refusal::Invalid(FieldError::new("", format!("breaks the rule {constraint}"))),
        // not_null_violation: the message names the column
        "23502" => {
            let column = message.split('"').nth(1).unwrap_or_default().to_owned();
            Refusal::Invalid(FieldError::new(column, "must not be null"))
        }
        // character_not_in_repertoire, untranslatable_character: text with U+0000
        "22021" | "22P05" => Refusal::Invalid(FieldError::new(
            "",
            "text must not contain the NUL character",
        )),
        // string_data_right_truncation
        "22001" => Refusal::Invalid(FieldError::new("", "a text is too long")),
        // numeric_value_out_of_range, invalid_datetime_format, datetime_field_overflow
        "22003" => Refusal::Invalid(FieldError::new("", "a number is out of range")),
        "22007" | "22008" => {
            Refusal::Invalid(FieldError::new("", "a date or time is out of range"))
        }
        // invalid_text_representation
        "22P02" => Refusal::Invalid(FieldError::new("", "a value cannot be read")),
        // serialization_failure, deadlock_detected, query_canceled (statement_timeout), lock_not_available
        "40001" | "40P01" | "57014" | "55P03" => Refusal::Unavailable(1),
        // read_only_sql_transaction (a standby, in a failover), insufficient_resources
        "25006" => Refusal::Unavailable(1),
        code if code.starts_with("53") => Refusal::Unavailable(1),
        _ => Refusal::Fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_have_their_status() {
        for (code, status) in [
            ("23505", 409),
            ("23P01", 409),
            ("23503", 409),
            ("23514", 422),
            ("23502", 422),
            ("22021", 422),
            ("22P05", 422),
            ("22001", 422),
            ("22003", 422),
            ("22007", 422),
            ("22008", 422),
            ("22P02", 422),
            ("40001", 503),
            ("40P01", 503),
            ("57014", 503),
            ("55P03", 503),
            ("25006", 503),
            ("53200", 503),
            ("22012", 500),
            ("42P01", 500),
            ("", 500),
        ] {
            assert_eq!(
                by_sqlstate(code, "c", "m").status().as_u16(),
                status,
                "{code}"
            );
        }
    }

    #[test]
    fn a_null_names_its_column() {
        let message =
            r#"null value in column "email" of relation "customer" violates not-null constraint"#;
        let Refusal::Invalid(field) = by_sqlstate("23502", "unnamed", message) else {
            panic!("not a 422")
        };
        assert_eq!(field.field, "email");
    }
}
