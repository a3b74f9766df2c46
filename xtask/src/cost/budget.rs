//! The budget: the files of what a request may take.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use super::callgrind::Profile;
use crate::output::Result;
use crate::workspace;

/// A function that takes less of a request is not written down.
pub(crate) const LEAST: f64 = 100.0;

/// Resident memory of an idle service, in megabytes.
pub(crate) const MOST_MEMORY: f64 = 11.0;
/// From the start of the process until `/readyz` answers 200, in milliseconds.
pub(crate) const MOST_START: f64 = 300.0;

const FIGURES: &str = "xtask/cost/budget.txt";
const FUNCTIONS: &str = "xtask/cost/functions.txt";

const FIGURES_HEAD: &str = "\
# What a request may cost: `cargo xtask cost` compares with this file, `cargo xtask cost --write` writes it anew.
# docs/performance.md says how it is measured.
";
const FUNCTIONS_HEAD: &str = "\
# Instructions for one request, by function, without those of the functions that it calls: `cargo xtask cost` names from
# this file what has grown, and `cargo xtask cost --write` writes it anew.
";

/// What one kind of request takes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cost {
    pub(crate) instructions: f64,
    pub(crate) allocations: f64,
}

/// What does not depend on a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Idle {
    pub(crate) megabytes: f64,
    pub(crate) start_ms: f64,
    pub(crate) program_bytes: f64,
}

/// By the name of a request: `ours, row`.
pub(crate) type Functions = BTreeMap<String, BTreeMap<String, f64>>;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Budget {
    /// Of which it was measured.
    pub(crate) commit: String,
    pub(crate) costs: Vec<(String, Cost)>,
    pub(crate) idle: Idle,
    pub(crate) functions: Functions,
}

impl Budget {
    pub(crate) fn new(commit: String, profiles: &[(String, Profile)], idle: Idle) -> Self {
        let costs = profiles.iter().map(|(name, profile)| {
            let (instructions, allocations) = (profile.instructions(), profile.allocations);
            (
                name.clone(),
                Cost {
                    instructions,
                    allocations,
                },
            )
        });
        let ours = profiles.iter().filter(|(name, _)| is_ours(name));
        let functions = ours.map(|(name, profile)| (name.clone(), profile.functions.clone()));
        Self {
            commit,
            costs: costs.collect(),
            idle,
            functions: functions.collect(),
        }
    }

    pub(crate) fn read() -> Result<Self> {
        let [figures, functions] = files();
        let text = |file: &PathBuf| {
            fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
        };
        Self::parse(&text(&figures)?, &text(&functions)?)
    }

    fn parse(figures: &str, functions: &str) -> Result<Self> {
        let mut budget = Self::default();
        for line in entries(figures) {
            let wrong = || format!("{FIGURES} has a line that is none of a budget: {line}");
            let (name, values) = line.split_once(": ").ok_or_else(wrong)?;
            let numbers: Vec<f64> = values
                .split([' ', ','])
                .filter_map(|word| word.parse().ok())
                .collect();
            match (name, numbers.as_slice()) {
                ("commit", _) => values.clone_into(&mut budget.commit),
                ("memory of the idle service", [value, ..]) => budget.idle.megabytes = *value,
                ("start", [value, ..]) => budget.idle.start_ms = *value,
                ("program", [value, ..]) => budget.idle.program_bytes = *value,
                (name, &[instructions, allocations]) => {
                    budget.costs.push((
                        name.to_owned(),
                        Cost {
                            instructions,
                            allocations,
                        },
                    ));
                }
                _ => return Err(wrong().into()),
            }
        }
        budget.functions = parse_functions(functions)?;
        Ok(budget)
    }

    pub(crate) fn write(&self) -> Result<()> {
        let [figures, functions] = files();
        fs::write(figures, self.figures())?;
        Ok(fs::write(functions, self.functions())?)
    }

    fn figures(&self) -> String {
        let mut text = format!("{FIGURES_HEAD}\ncommit: {}\n\n", self.commit);
        for (
            name,
            Cost {
                instructions,
                allocations,
            },
        ) in &self.costs
        {
            let _ = writeln!(
                text,
                "{name}: {instructions:.0} instructions, {allocations:.1} allocations"
            );
        }
        let Idle {
            megabytes,
            start_ms,
            program_bytes,
        } = self.idle;
        let _ = writeln!(
            text,
            "\nmemory of the idle service: {megabytes:.1} MB, at most {MOST_MEMORY}"
        );
        let _ = writeln!(text, "start: {start_ms:.0} ms, at most {MOST_START}");
        let _ = writeln!(text, "program: {program_bytes:.0} bytes");
        text
    }

    fn functions(&self) -> String {
        let mut text = FUNCTIONS_HEAD.to_owned();
        for (name, functions) in &self.functions {
            let mut functions: Vec<_> = functions
                .iter()
                .filter(|(_, cost)| **cost >= LEAST)
                .collect();
            functions.sort_by(|one, other| other.1.total_cmp(one.1));
            let _ = writeln!(text, "\n{name}");
            for (function, cost) in functions {
                let _ = writeln!(text, "{cost:>8.0}  {function}");
            }
        }
        text
    }

    pub(crate) fn cost(&self, name: &str) -> Option<&Cost> {
        let found = self.costs.iter().find(|(found, _)| found == name);
        found.map(|(_, cost)| cost)
    }
}

pub(crate) fn is_ours(name: &str) -> bool {
    name.starts_with("ours, ")
}

fn files() -> [PathBuf; 2] {
    [FIGURES, FUNCTIONS].map(|file| workspace::root().join(file))
}

fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// A request's name at the margin, and its functions, indented, below.
fn parse_functions(text: &str) -> Result<Functions> {
    let (mut requests, mut name) = (Functions::new(), "");
    for line in entries(text) {
        if !line.starts_with(' ') {
            name = line;
            continue;
        }
        let entry = line.trim_start().split_once("  ");
        let entry =
            entry.and_then(|(cost, function)| Some((function.to_owned(), cost.parse().ok()?)));
        let (function, cost) =
            entry.ok_or_else(|| format!("{FUNCTIONS} has a line without a number: {line}"))?;
        requests
            .entry(name.to_owned())
            .or_default()
            .insert(function, cost);
    }
    Ok(requests)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn profile(functions: &[(&str, f64)], allocations: f64) -> Profile {
        let functions = functions
            .iter()
            .map(|(name, cost)| ((*name).to_owned(), *cost));
        Profile {
            functions: functions.collect(),
            allocations,
        }
    }

    /// One of our requests with two functions, and one of another program.
    pub(crate) fn budget(read: f64, hash: f64, allocations: f64, plain: f64) -> Budget {
        let profiles = [
            (
                "ours, row".to_owned(),
                profile(&[("customer::read", read), ("hash", hash)], allocations),
            ),
            (
                "plain sqlx, row".to_owned(),
                profile(&[("read", plain)], 20.0),
            ),
        ];
        let idle = Idle {
            megabytes: 7.5,
            start_ms: 20.0,
            program_bytes: 8_000_000.0,
        };
        Budget::new("0123abc".to_owned(), &profiles, idle)
    }

    /// As it is after it was written, without what is too little to be.
    pub(crate) fn read_again(budget: &Budget) -> Budget {
        Budget::parse(&budget.figures(), &budget.functions()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let written = budget(60_000.0, 4_000.0, 38.0, 50_000.0);
        assert_eq!(read_again(&written), written);
        assert!(Budget::parse("ours, row: 12 instructions", "").is_err());
        assert!(Budget::parse("", "ours, row\n  many  hash").is_err());
    }
}
