//! What was counted, as a table.

use super::budget::{Idle, MOST_MEMORY, MOST_START};
use super::callgrind::Costs;

/// Markdown: one row for each request, and those of the service beside.
pub(crate) fn table(costs: &Costs, idle: &Idle) -> String {
    let mut rows = vec![
        "| service, request | instructions | copying | allocations |".to_owned(),
        "|---|--:|--:|--:|".to_owned(),
    ];
    rows.extend(costs.iter().map(|(name, profile)| {
        let (instructions, copying) = (profile.instructions(), profile.copying());
        format!(
            "| {name} | {instructions:.0} | {copying:.0} | {:.1} |",
            profile.allocations
        )
    }));
    let Idle {
        megabytes,
        start_ms,
        program_bytes,
    } = idle;
    let megabytes_on_disk = program_bytes / 1e6;
    rows.extend([
        "\n| `customer` | is | at most |\n|---|--:|--:|".to_owned(),
        format!("| memory when idle, MB | {megabytes:.1} | {MOST_MEMORY} |"),
        format!("| from start to ready, ms | {start_ms:.0} | {MOST_START} |"),
        format!("| size of the program, MB | {megabytes_on_disk:.2} | 2 % above its budget |"),
    ]);
    rows.join("\n")
}
