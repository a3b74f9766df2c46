//! What was counted, compared with its budget.

use std::collections::BTreeMap;

use super::budget::{Budget, Idle, LEAST, MOST_MEMORY, MOST_START, is_ours};

/// Above its budget by more, a figure is an error.
const TOLERANCE: f64 = 0.02;
/// Below its budget by more, it is to be written down.
const LOWER: f64 = 0.01;

/// So many functions are named.
const NAMED: usize = 12;

impl Budget {
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
            (cost - known.unwrap_or(LEAST), function, known, *cost)
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

    /// The comparison programs that have grown as well, although nobody has changed them.
    fn elsewhere(&self, now: &Self) -> Option<String> {
        let others = now.costs.iter().filter(|(name, _)| !is_ours(name));
        let moved = others.filter_map(|(name, cost)| {
            let (before, after) = (self.cost(name)?.instructions, cost.instructions);
            (change(before, after) > TOLERANCE)
                .then(|| sentence(name, "instructions", before, after))
        });
        let moved: Vec<_> = moved.collect();
        (!moved.is_empty()).then(|| {
            let moved = moved.join("\n");
            format!("The comparison programs take more too, so the compiler, a dependency or the machine differs:\n{moved}")
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

#[cfg(test)]
mod tests {
    use super::super::budget::tests::{budget, read_again};
    use super::*;

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
        let before = read_again(&before);
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
            megabytes: 11.0,
            start_ms: 300.0,
            program_bytes: 8_100_000.0,
        };
        assert!(before.exceeded_by(&now).is_empty());
        now.idle = Idle {
            megabytes: 11.1,
            start_ms: 301.0,
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
