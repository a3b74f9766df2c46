//! What callgrind has counted: instructions of each function, and allocations.

use std::collections::{BTreeMap, HashMap};

/// How the names of mimalloc's functions begin; it is the allocator of all programs that are measured.
const ALLOCATOR: &str = "mi_";

/// What makes one of them an allocation.
const ALLOCATES: [&str; 3] = ["alloc", "new", "strdup"];

/// glibc's copies. Those of 2 KiB and more count an instruction for each byte.
const COPIES: [&str; 3] = ["__memcpy", "__memmove", "__memset"];

/// Counts of one phase, or of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Profile {
    /// Instructions that a function took itself, without those of the functions it called.
    pub(crate) functions: BTreeMap<String, f64>,
    /// Calls of the allocator from outside of it.
    pub(crate) allocations: f64,
}

/// What one request takes, by its name.
pub(crate) type Costs = Vec<(String, Profile)>;

impl Profile {
    /// From the text of a file in callgrind's format, with the position `line`.
    pub(crate) fn read(text: &str) -> Self {
        let mut profile = Self::default();
        let (mut names, mut function, mut callee) = (HashMap::new(), String::new(), String::new());
        let mut of_a_call = false;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("fn=") {
                function = full_name(&mut names, name);
            } else if let Some(name) = line.strip_prefix("cfn=") {
                callee = full_name(&mut names, name);
            } else if let Some(calls) = line.strip_prefix("calls=") {
                if is_allocation(&function, &callee) {
                    profile.allocations += first_number(calls);
                }
                of_a_call = true;
            } else if line
                .starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first))
            {
                // The line after `calls=` has what the call took, which stands at the functions it ran too.
                if !std::mem::take(&mut of_a_call) {
                    let cost = line.split(' ').nth(1).map_or(0.0, first_number);
                    *profile.functions.entry(function.clone()).or_default() += cost;
                }
            }
        }
        profile
    }

    pub(crate) fn instructions(&self) -> f64 {
        self.functions.values().sum()
    }

    /// The instructions of these that copy or fill memory.
    pub(crate) fn copying(&self) -> f64 {
        let functions = self.functions.iter();
        let copies = functions.filter(|(name, _)| COPIES.iter().any(|copy| name.starts_with(copy)));
        copies.map(|(_, cost)| cost).sum()
    }

    /// What is left without `share` times the other.
    pub(crate) fn without(mut self, other: &Self, share: f64) -> Self {
        for (name, cost) in &other.functions {
            *self.functions.entry(name.clone()).or_default() -= cost * share;
        }
        self.allocations -= other.allocations * share;
        self
    }

    pub(crate) fn divided(mut self, by: f64) -> Self {
        for cost in self.functions.values_mut() {
            *cost /= by;
        }
        self.allocations /= by;
        self
    }
}

/// `(12) name` gives number 12 its name, `(12)` alone means it.
fn full_name<'a>(names: &mut HashMap<&'a str, &'a str>, text: &'a str) -> String {
    let (number, name) = text.split_once(' ').unwrap_or((text, ""));
    if !name.is_empty() {
        names.insert(number, name);
    }
    without_hash(names.get(number).unwrap_or(&text)).to_owned()
}

/// Another build of the same function has another hash.
fn without_hash(name: &str) -> &str {
    let split = name.rsplit_once("::h");
    let hash =
        split.filter(|(_, hash)| hash.len() == 16 && hash.chars().all(|c| c.is_ascii_hexdigit()));
    hash.map_or(name, |(before, _)| before)
}

fn is_allocation(caller: &str, callee: &str) -> bool {
    let of_allocator = |name: &str| name.trim_start_matches('_').starts_with(ALLOCATOR);
    of_allocator(callee)
        && !of_allocator(caller)
        && ALLOCATES.iter().any(|part| callee.contains(part))
}

fn first_number(text: &str) -> f64 {
    let word = text.split(' ').next().unwrap_or_default();
    word.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# callgrind format
positions: line
events: Ir
summary: 1000

ob=(1) /programs/customer
fl=(1) src/main.rs
fn=(1) customer::read::h0123456789abcdef
10 40
+2 3
cfn=(2) mi_malloc_aligned
calls=7 20
* 900
fi=(2) src/other.rs
-3 2

fn=(2)
20 100
cfn=(3) _mi_malloc_generic
calls=2 30
20 50
cfn=(4) mi_free
calls=2 30
20 50

fn=(5) __memcpy_avx_unaligned_erms
5 5000
cfn=(4)
calls=9 1
5 1
";

    #[test]
    fn a_function_has_its_own_instructions_and_no_hash() {
        let profile = Profile::read(TEXT);
        assert_eq!(profile.functions["customer::read"], 45.0);
        assert_eq!(profile.functions["mi_malloc_aligned"], 100.0);
        assert_eq!(
            (profile.instructions(), profile.copying()),
            (5145.0, 5000.0)
        );
    }

    #[test]
    fn an_allocation_is_a_call_from_outside_of_the_allocator() {
        assert_eq!(Profile::read(TEXT).allocations, 7.0);
    }

    #[test]
    fn of_two_phases_the_difference_counts() {
        let long = Profile::read(TEXT);
        let short = long.clone().divided(5.0);
        let request = long.without(&short, 1.0).divided(2.0);
        assert_eq!(request.functions["customer::read"], 18.0);
        assert_eq!(request.allocations, 2.8);
    }
}
