//! The budget: the file of what may be taken, and the comparison with what is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use super::callgrind::Profile;
use crate::output::Result;
use crate::workspace;

/// Above its budget by more, a figure is an error.
const TOLERANCE: f64 = 0.02;
/// Below its budget by more, it is to be written down.
const LOWER: f64 = 0.01;
/// The comparison programs have not changed: if they differ by more, the compiler or the machine has.
const ELSEWHERE: f64 = 0.01;

/// A function that takes less of a request is not written down.
const LEAST: f64 = 100.0;
/// So many functions are named.
const NAMED: usize = 12;

/// Resident memory of an idle service, in megabytes.
pub(crate) const MOST_MEMORY: f64 = 9.0;
/// From the start of the process until `/readyz` answers 200, in milliseconds.
pub(crate) const MOST_START: f64 = 40.0;

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

    /// What is above its budget, in sentences; nothing if all is well.
    pub(crate) fn exceeded_by(&self, now: &Self) -> Vec<String> {
        let mut errors = Vec::new();
        for (name, cost) in now.costs.iter().filter(|(name, _)| is_ours(name)) {
            let Some(budget) = self.cost(name) else {
                errors.push(format!(
                    "{name} has no budget yet: `cargo xtask cost --write`"
                ));
                continue;
            };
            let figures = [
                ("instructions", budget.instructions, cost.instructions),
                ("allocations", budget.allocations, cost.allocations),
            ];
            let above = figures
                .iter()
                .filter(|(_, before, after)| change(*before, *after) > TOLERANCE);
            let above: Vec<_> = above
                .map(|(what, before, after)| sentence(name, what, *before, *after))
                .collect();
            if !above.is_empty() {
                errors.push(format!("{}{}", above.join("\n"), self.grown(now, name)));
            }
        }
        errors.extend(self.idle_exceeded_by(&now.idle));
        if !errors.is_empty() {
            errors.extend(self.elsewhere(now));
        }
        errors
    }

    fn idle_exceeded_by(&self, now: &Idle) -> Vec<String> {
        let mut errors = Vec::new();
        if now.megabytes > MOST_MEMORY {
            errors.push(format!(
                "an idle service has {:.1} MB of memory, at most {MOST_MEMORY} are allowed",
                now.megabytes
            ));
        }
        if now.start_ms > MOST_START {
            errors.push(format!(
                "a service is ready {:.0} ms after its start, at most {MOST_START} are allowed",
                now.start_ms
            ));
        }
        let (before, after) = (self.idle.program_bytes, now.program_bytes);
        if change(before, after) > TOLERANCE {
            errors.push(sentence("the program", "bytes", before, after));
        }
        errors
    }

    /// The functions that have grown most.
    fn grown(&self, now: &Self, name: &str) -> String {
        let none = BTreeMap::new();
        let [before, after] = [self, now].map(|budget| budget.functions.get(name).unwrap_or(&none));
        let grown = after.iter().map(|(function, cost)| {
            let known = before.get(function).copied();
            // What is not written down has taken less than the least that is.
            (cost - known.unwrap_or(0.0), function, known, *cost)
        });
        let mut grown: Vec<_> = grown.filter(|(more, ..)| *more >= LEAST / 2.0).collect();
        grown.sort_by(|one, other| other.0.total_cmp(&one.0));
        let lines = grown
            .into_iter()
            .take(NAMED)
            .map(|(_, function, before, after)| {
                let before = before.map_or_else(
                    || format!("less than {LEAST}"),
                    |before| format!("{before:.0}"),
                );
                format!("\n  {function}: {before} before, {after:.0} now")
            });
        let lines: String = lines.collect();
        match lines.is_empty() {
            true => "\n  No single function has grown much.".to_owned(),
            false => lines,
        }
    }

    /// Whether the programs that are not ours have moved as well.
    fn elsewhere(&self, now: &Self) -> Option<String> {
        let others = now.costs.iter().filter(|(name, _)| !is_ours(name));
        let moved = others.filter_map(|(name, cost)| {
            let (before, after) = (self.cost(name)?.instructions, cost.instructions);
            (change(before, after).abs() > ELSEWHERE)
                .then(|| sentence(name, "instructions", before, after))
        });
        let moved: Vec<_> = moved.collect();
        (!moved.is_empty()).then(|| {
            let moved = moved.join("\n");
            format!("The comparison programs have moved too, so the compiler, a dependency or the machine differs:\n{moved}")
        })
    }

    /// What is below its budget and may be written down.
    pub(crate) fn undercut_by(&self, now: &Self) -> Vec<String> {
        let ours = now.costs.iter().filter(|(name, _)| is_ours(name));
        let lower = ours.filter_map(|(name, cost)| {
            let before = self.cost(name)?;
            let figures = [
                ("instructions", before.instructions, cost.instructions),
                ("allocations", before.allocations, cost.allocations),
            ];
            let lower = figures
                .iter()
                .find(|(_, before, after)| change(*before, *after) < -LOWER)?;
            Some(sentence(name, lower.0, lower.1, lower.2))
        });
        lower.collect()
    }

    pub(crate) fn cost(&self, name: &str) -> Option<&Cost> {
        let found = self.costs.iter().find(|(found, _)| found == name);
        found.map(|(_, cost)| cost)
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with("ours, ")
}

fn change(before: f64, after: f64) -> f64 {
    (after - before) / before.max(f64::MIN_POSITIVE)
}

fn sentence(name: &str, what: &str, before: f64, after: f64) -> String {
    let percent = change(before, after) * 100.0;
    let decimals = usize::from(before < 1000.0);
    format!(
        "{name}: {after:.decimals$} {what}, {before:.decimals$} in the budget ({percent:+.1} %)"
    )
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
mod tests {
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

    fn budget(read: f64, hash: f64, allocations: f64, plain: f64) -> Budget {
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

    #[test]
    fn what_is_written_is_read_again() {
        let written = budget(60_000.0, 4_000.0, 38.0, 50_000.0);
        let read = Budget::parse(&written.figures(), &written.functions()).unwrap();
        assert_eq!(read, written);
        assert!(Budget::parse("ours, row: 12 instructions", "").is_err());
        assert!(Budget::parse("", "ours, row\n  many  hash").is_err());
    }

    #[test]
    fn more_than_two_percent_above_names_what_has_grown() {
        let before = budget(60_000.0, 4_000.0, 38.0, 50_000.0);
        assert_eq!(
            before.exceeded_by(&budget(60_000.0, 5_200.0, 38.0, 50_000.0)),
            Vec::<String>::new()
        );
        let errors = before.exceeded_by(&budget(60_000.0, 5_400.0, 38.0, 50_400.0));
        assert_eq!(
            errors,
            [
                "ours, row: 65400 instructions, 64000 in the budget (+2.2 %)\n  hash: 4000 before, 5400 now"
            ]
        );
        let errors = before.exceeded_by(&budget(60_000.0, 4_000.0, 39.0, 60_000.0));
        assert!(
            errors[0].starts_with("ours, row: 39.0 allocations, 38.0 in the budget (+2.6 %)"),
            "{errors:?}"
        );
        assert!(
            errors[1].contains("plain sqlx, row: 60000 instructions, 50000 in the budget"),
            "{errors:?}"
        );
    }

    #[test]
    fn a_new_function_is_named_too() {
        let before = budget(60_000.0, 50.0, 38.0, 50_000.0);
        let before = Budget::parse(&before.figures(), &before.functions()).unwrap();
        let errors = before.exceeded_by(&budget(60_000.0, 9_000.0, 38.0, 50_000.0));
        assert!(
            errors[0].contains("\n  hash: less than 100 before, 9000 now"),
            "{errors:?}"
        );
    }

    #[test]
    fn memory_and_start_have_limits_and_the_program_its_budget() {
        let before = budget(60_000.0, 4_000.0, 38.0, 50_000.0);
        let mut now = before.clone();
        now.idle = Idle {
            megabytes: 9.0,
            start_ms: 40.0,
            program_bytes: 8_100_000.0,
        };
        assert!(before.exceeded_by(&now).is_empty());
        now.idle = Idle {
            megabytes: 9.1,
            start_ms: 41.0,
            program_bytes: 8_200_000.0,
        };
        assert_eq!(before.exceeded_by(&now).len(), 3);
    }

    #[test]
    fn a_lower_number_is_told() {
        let before = budget(60_000.0, 4_000.0, 38.0, 50_000.0);
        assert!(
            before
                .undercut_by(&budget(59_900.0, 4_000.0, 38.0, 40_000.0))
                .is_empty()
        );
        let lower = before.undercut_by(&budget(50_000.0, 4_000.0, 38.0, 50_000.0));
        assert_eq!(
            lower,
            ["ours, row: 54000 instructions, 64000 in the budget (-15.6 %)"]
        );
        assert_eq!(
            before
                .undercut_by(&budget(60_000.0, 4_000.0, 36.0, 50_000.0))
                .len(),
            1
        );
    }
}
