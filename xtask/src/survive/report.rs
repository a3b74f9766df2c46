//! What was found, beside what was promised: a table, and whether a promise is broken.

use std::fmt;

pub(crate) struct Report {
    title: String,
    rows: Vec<Row>,
    notes: Vec<String>,
}

struct Row {
    what: String,
    measured: String,
    promise: String,
    verdict: Verdict,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Nothing is promised.
    Told,
    Kept,
    /// Not as promised, but so little that the machine's other work may be the reason.
    Near,
    Broken,
}

/// A figure's limit, and the one beyond which no other work of the machine explains it.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) promised: f64,
    pub(crate) fails: f64,
}

impl Report {
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// A figure of which nothing is promised.
    pub(crate) fn tell(&mut self, what: impl Into<String>, measured: impl fmt::Display) {
        self.push(what.into(), measured.to_string(), "", Verdict::Told);
    }

    pub(crate) fn promise(
        &mut self,
        what: impl Into<String>,
        measured: impl fmt::Display,
        promise: &str,
        kept: bool,
    ) {
        let verdict = if kept { Verdict::Kept } else { Verdict::Broken };
        self.push(what.into(), measured.to_string(), promise, verdict);
    }

    /// A figure that is to be small, in `unit`.
    pub(crate) fn at_most(
        &mut self,
        what: impl Into<String>,
        measured: f64,
        unit: &str,
        limits: Limits,
    ) {
        let verdict = Verdict::of(measured, limits.promised, limits.fails);
        let promise = format!("≤ {}{unit}", figure(limits.promised));
        let measured = format!("{}{unit}", figure(measured));
        self.push(what.into(), measured, &promise, verdict);
    }

    /// A figure that is to be large, in `unit`.
    pub(crate) fn at_least(
        &mut self,
        what: impl Into<String>,
        measured: f64,
        unit: &str,
        limits: Limits,
    ) {
        let verdict = Verdict::of(-measured, -limits.promised, -limits.fails);
        let promise = format!("≥ {}{unit}", figure(limits.promised));
        let measured = format!("{}{unit}", figure(measured));
        self.push(what.into(), measured, &promise, verdict);
    }

    /// A sentence below the table.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.rows.iter().any(|row| row.verdict == Verdict::Broken)
    }

    fn push(&mut self, what: String, measured: String, promise: &str, verdict: Verdict) {
        self.rows.push(Row {
            what,
            measured,
            promise: promise.to_owned(),
            verdict,
        });
    }
}

impl Verdict {
    fn of(measured: f64, promised: f64, fails: f64) -> Self {
        if measured <= promised {
            Self::Kept
        } else if measured <= fails {
            Self::Near
        } else {
            Self::Broken
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Told => "",
            Self::Kept => "kept",
            Self::Near => "near",
            Self::Broken => "BROKEN",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "\n{}\n", self.title)?;
        writeln!(formatter, "| what | measured | promised | |")?;
        write!(formatter, "|---|--:|--:|---|")?;
        for row in &self.rows {
            let (what, measured, promise) = (&row.what, &row.measured, &row.promise);
            let verdict = row.verdict.text();
            write!(
                formatter,
                "\n| {what} | {measured} | {promise} | {verdict} |"
            )?;
        }
        for (index, note) in self.notes.iter().enumerate() {
            let space = if index == 0 { "\n" } else { "" };
            write!(formatter, "{space}\n- {note}")?;
        }
        Ok(())
    }
}

/// Small ones with more decimals.
pub(crate) fn figure(number: f64) -> String {
    match number.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_kept_near_or_broken() {
        let mut report = Report::new("Title");
        report.tell("requests", 7);
        let limits = Limits {
            promised: 10.0,
            fails: 50.0,
        };
        report.at_most("p99", 10.0, " ms", limits);
        report.at_most("p99", 49.0, " ms", limits);
        let limits = Limits {
            promised: 95.0,
            fails: 85.0,
        };
        report.at_least("goodput", 90.0, " %", limits);
        assert!(!report.is_broken());
        report.at_least("goodput", 84.0, " %", limits);
        report.promise("failed", 1, "0", false);
        assert!(report.is_broken());
        let text = report.to_string();
        for row in [
            "| requests | 7 |  |  |",
            "| p99 | 10.0 ms | ≤ 10.0 ms | kept |",
            "| p99 | 49.0 ms | ≤ 10.0 ms | near |",
            "| goodput | 90.0 % | ≥ 95.0 % | near |",
            "| goodput | 84.0 % | ≥ 95.0 % | BROKEN |",
            "| failed | 1 | 0 | BROKEN |",
        ] {
            assert!(text.contains(row), "{text}");
        }
    }
}
