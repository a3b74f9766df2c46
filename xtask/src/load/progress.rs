//! A bar with live numbers while a load runs, or a line now and then where nobody looks at a terminal.

use std::io::{IsTerminal, Write, stderr};

use super::sample::Sample;

const WIDTH: usize = 24;

pub(crate) struct Progress {
    limit: u32,
    requests: u32,
    /// Statements before the load.
    before: Option<f64>,
    terminal: bool,
    /// Seconds at which the last line was written.
    written: f64,
}

impl Progress {
    pub(crate) fn new(limit: u32, requests: u32) -> Self {
        Self {
            limit,
            requests,
            before: None,
            terminal: stderr().is_terminal(),
            written: 0.0,
        }
    }

    pub(crate) fn show(&mut self, sample: &Sample) {
        let before = *self.before.get_or_insert(sample.statements);
        let line = self.line(sample, sample.statements - before);
        if self.terminal {
            let _ = write!(stderr(), "\r{line}\x1b[K");
        } else if sample.at - self.written >= 5.0 {
            self.written = sample.at;
            let _ = writeln!(stderr(), "{line}");
        }
    }

    /// A request is a statement here, as nearly as a bar has to be.
    fn line(&self, sample: &Sample, done: f64) -> String {
        let share = (done / f64::from(self.requests)).clamp(0.0, 1.0);
        let full = (share * WIDTH as f64) as usize;
        let bar = "#".repeat(full) + &".".repeat(WIDTH - full);
        format!(
            "connection_limit={} [{bar}] {:3.0} %  {:.0}/s  {} in use, {} waiting",
            self.limit,
            share * 100.0,
            done / sample.at.max(0.1),
            sample.in_use,
            sample.waiting
        )
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_tells_how_far_it_is() {
        let progress = Progress::new(10, 1000);
        let sample = Sample {
            at: 2.0,
            in_use: 10.0,
            waiting: 61.0,
            ..Sample::default()
        };
        let expected =
            "connection_limit=10 [############............]  50 %  250/s  10 in use, 61 waiting";
        assert_eq!(progress.line(&sample, 500.0), expected);
        assert!(progress.line(&sample, 5000.0).contains("] 100 %"));
    }
}
