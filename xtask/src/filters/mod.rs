//! `cargo xtask filters`: what every combination of the lists' filters costs the server, by the size of the table.

mod lists;
mod measure;

use crate::dev;
use crate::filters::lists::List;
use crate::filters::measure::{Cost, Measured};
use crate::output::{Result, progress, say};
use crate::rows::{Options, grouped};

const HELP: &str = "\
Fills a private temporary PostgreSQL with N reservations (`cargo xtask fill`), asks the services for every combination of
their lists' filters, for the first page and for a deep one (10,000 rows on, or where the list ends), and prints what each
costs the server: planning and execution as pg_stat_statements counts them, in milliseconds. It is the mean of 20 requests,
the least of five such means, after 10 requests that do not count. With two sizes the last column has their ratio. The
table goes to standard output, everything else to standard error.

cargo xtask filters [--rows N]…
  --rows N      how many reservations, as often as you like; 100000 and 1000000 unless told
  --help        print this";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let Some(mut options) = Options::read(arguments, HELP)? else {
        say(HELP);
        return Ok(());
    };
    if options.fresh {
        return Err("--fresh means nothing here: the database is always a new one".into());
    }
    if options.rows.is_empty() {
        options.rows = vec![100_000, 1_000_000];
    }
    let programs = dev::build(true, false)?;
    let mut measured = Vec::new();
    for rows in &options.rows {
        progress(format_args!(
            "Filling a temporary PostgreSQL with {} reservations",
            grouped(*rows)
        ));
        measured.push(measure::all(&programs, *rows)?);
    }
    say(table(&options.rows, &measured));
    Ok(())
}

/// Markdown: a line for each list and page, a column for each size.
fn table(sizes: &[u64], measured: &[Measured]) -> String {
    let sizes: Vec<String> = sizes.iter().map(|rows| grouped(*rows)).collect();
    let mut head = format!("| list | page | rows | {} |", sizes.join(" | "));
    let mut rule = format!("|---|---|---|{}", "---|".repeat(sizes.len()));
    if sizes.len() == 2 {
        head.push_str(" ratio |");
        rule.push_str("---|");
    }
    let mut lines = vec![head, rule];
    for (index, (List { name, .. }, _)) in measured[0].iter().enumerate() {
        for (page, title) in ["first", "deep"].into_iter().enumerate() {
            let costs: Vec<Option<Cost>> =
                measured.iter().map(|lists| lists[index].1[page]).collect();
            if costs.iter().any(Option::is_some) {
                lines.push(line(name, title, &costs));
            }
        }
    }
    lines.join("\n")
}

fn line(list: &str, page: &str, costs: &[Option<Cost>]) -> String {
    let mut rows: Vec<String> = costs
        .iter()
        .flatten()
        .map(|cost| cost.rows.to_string())
        .collect();
    rows.dedup();
    let times: Vec<String> = costs
        .iter()
        .map(|cost| cost.map_or("–".to_owned(), |cost| format!("{:.2}", cost.milliseconds)))
        .collect();
    let mut line = format!(
        "| {list} | {page} | {} | {} |",
        rows.join(" / "),
        times.join(" | ")
    );
    match costs {
        [Some(small), Some(large)] => line.push_str(&format!(
            " {:.1} |",
            large.milliseconds / small.milliseconds
        )),
        [_, _] => line.push_str(" – |"),
        _ => {}
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(milliseconds: f64, rows: usize) -> Option<Cost> {
        Some(Cost { milliseconds, rows })
    }

    #[test]
    fn the_table_has_a_column_for_each_size_and_no_line_for_a_page_that_is_not_there() {
        let list = |name: &str| List {
            name: name.to_owned(),
            service: "reservation",
            path: String::new(),
        };
        let small = vec![
            (list("all"), [cost(0.1, 20), cost(0.2, 20)]),
            (list("by customer"), [cost(0.1, 3), None]),
        ];
        let large = vec![
            (list("all"), [cost(0.25, 20), None]),
            (list("by customer"), [cost(0.1, 7), None]),
        ];
        assert_eq!(
            table(&[100, 1000], &[small, large]),
            "| list | page | rows | 100 | 1,000 | ratio |\n\
             |---|---|---|---|---|---|\n\
             | all | first | 20 | 0.10 | 0.25 | 2.5 |\n\
             | all | deep | 20 | 0.20 | – | – |\n\
             | by customer | first | 3 / 7 | 0.10 | 0.10 | 1.0 |"
        );
    }
}
