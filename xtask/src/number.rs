//! A number that an option takes.

use crate::output::Result;

/// What stands behind `option`, which is to be `least` or more.
pub(crate) fn number(option: &str, value: Option<&String>, least: u32) -> Result<u32> {
    let number = value.and_then(|value| value.parse().ok());
    number.filter(|number| *number >= least).ok_or_else(|| {
        let given = value.map_or("nothing", String::as_str);
        format!("{option} takes a whole number, {least} or more, and was given {given}").into()
    })
}
