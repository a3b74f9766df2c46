//! How many rows a command is asked for.

use crate::output::Result;

/// What the commands that fill databases are told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Each `--rows`, in their order.
    pub(crate) rows: Vec<u64>,
    pub(crate) fresh: bool,
}

impl Options {
    /// `None` when only help is wanted.
    pub(crate) fn read(arguments: &[String], help: &str) -> Result<Option<Self>> {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--rows" => options.rows.push(count(arguments.next())?),
                "--fresh" => options.fresh = true,
                "--help" | "-h" => return Ok(None),
                unknown => return Err(format!("there is no option `{unknown}`.\n\n{help}").into()),
            }
        }
        Ok(Some(options))
    }
}

/// `10_000_000` is easier to get right than without the underscores.
fn count(value: Option<&String>) -> Result<u64> {
    let digits = value.map(|value| value.replace(['_', ','], ""));
    digits
        .and_then(|digits| digits.parse().ok())
        .filter(|rows| (1..=1_000_000_000).contains(rows))
        .ok_or_else(|| {
            "--rows takes a number from 1 to 1,000,000,000, as in `--rows 10000000`".into()
        })
}

/// A number as people read it: `10,000,000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Option<Options>> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::read(&arguments, "HELP")
    }

    #[test]
    fn rows_are_numbers_and_anything_else_says_what_is_wanted() {
        let options = read("--rows 100000 --fresh --rows 10_000,000")
            .unwrap()
            .unwrap();
        assert_eq!(
            (options.rows, options.fresh),
            (vec![100_000, 10_000_000], true)
        );
        assert_eq!(read("--rows 1 --help").unwrap(), None);
        for line in [
            "--rows",
            "--rows 0",
            "--rows -1",
            "--rows many",
            "--rows 1000000001",
        ] {
            let error = read(line).unwrap_err().to_string();
            assert!(error.contains("--rows 10000000"), "{line}: {error}");
        }
        let error = read("--row 1").unwrap_err().to_string();
        assert!(
            error.contains("`--row`") && error.contains("HELP"),
            "{error}"
        );
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (12_345_678, "12,345,678"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
