//! The report: a table in Markdown, and one HTML file that needs nothing else.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::measured::Measured;
use super::options::Options;
use super::plot::{Line, escape, over_time};
use super::sample::Sample;
use crate::compare::machine;
use crate::output::{Result, progress, say};

const STYLE: &str = include_str!("report.css");

/// Writes both files and shows the table.
pub(crate) fn write(options: &Options, measured: &[Measured], advice: &[String]) -> Result<()> {
    let title = "Load of a service, and its pool meanwhile";
    let (table, plots) = (
        table(measured),
        measured.iter().map(plots).collect::<String>(),
    );
    let advice: String = advice.iter().map(|line| format!("- {line}\n")).collect();
    files(options, title, &format!("{table}\n{advice}"), &plots)
}

/// Writes `markdown` and the same as HTML with `plots` below it.
pub(crate) fn files(options: &Options, title: &str, markdown: &str, plots: &str) -> Result<()> {
    let about = format!("{}, by `{}`.", machine::here()?, options.command.trim());
    let markdown = format!("# {title}\n\n{about}\n\n{markdown}");
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{}\n{plots}</main>\n</body>\n</html>\n",
        as_html(&markdown)
    );
    if let Some(folder) = options.output.parent() {
        fs::create_dir_all(folder)?;
    }
    let [page, text] = ["html", "md"].map(|ending| options.output.with_extension(ending));
    save(&page, &html)?;
    save(&text, &markdown)?;
    say(&markdown);
    progress(format_args!(
        "The report: {} and {}",
        page.display(),
        text.display()
    ));
    Ok(())
}

fn save(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn table(measured: &[Measured]) -> String {
    let mut table = "| connection_limit | requests/s | p50 | p90 | p99 | longest | p99 of the wait | most waiting | most in use | active on the server | failed | no connection |\n\
                     |---|---|---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for one in measured {
        let most = |of: fn(&Sample) -> f64| one.samples.iter().map(of).fold(0.0, f64::max);
        let active = one.active.iter().map(|(_, count)| *count);
        let active = match one.active.is_empty() {
            true => "not asked".to_owned(),
            false => format!("{:.0}", active.fold(0.0, f64::max)),
        };
        let wait = one
            .wait_p99
            .map_or("-".to_owned(), |wait| format!("{wait:.1} ms"));
        let _ = writeln!(
            table,
            "| {} | {:.0} | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} ms | {wait} | {} | {} | {active} | {} | {} |",
            one.limit,
            one.rate,
            one.p50,
            one.p90,
            one.p99,
            one.longest,
            most(|sample| sample.waiting),
            most(|sample| sample.in_use),
            one.failed,
            one.refused
        );
    }
    table
}

/// The plots of one limit.
fn plots(one: &Measured) -> String {
    let line = |name, class, of: fn(&Sample) -> f64| Line {
        name,
        class,
        points: one
            .samples
            .iter()
            .map(|sample| (sample.at, of(sample)))
            .collect(),
    };
    let mut connections = vec![
        line("waiting", "waiting", |sample| sample.waiting),
        line("in use", "used", |sample| sample.in_use),
        line("idle", "idle", |sample| sample.idle),
    ];
    if !one.active.is_empty() {
        connections.push(Line {
            name: "active on the server",
            class: "active",
            points: one.active.clone(),
        });
    }
    let rate = one.samples.windows(6).map(|six| {
        let (first, last) = (&six[0], &six[5]);
        let rate = (last.statements - first.statements) / (last.at - first.at).max(0.01);
        (last.at, rate)
    });
    let statements = Line {
        name: "statements a second",
        class: "used",
        points: rate.collect(),
    };
    format!(
        "<h2>connection_limit={}</h2>\n<div class=\"plots\">\n{}{}</div>\n",
        one.limit,
        over_time("Connections", &connections),
        over_time("Statements a second", &[statements])
    )
}

/// The little Markdown that a report has: a title, paragraphs, a list, tables, and quoted code.
fn as_html(markdown: &str) -> String {
    let mut html = String::new();
    for block in markdown.split("\n\n") {
        let line = |text: &str| code(&escape(text));
        let lines = || block.lines().filter(|line| !line.is_empty());
        match block.trim_start() {
            title if title.starts_with("# ") => {
                let _ = writeln!(html, "<h1>{}</h1>", line(&title[2..]));
            }
            table if table.starts_with('|') => html += &rows(table),
            list if list.starts_with("- ") => {
                html += "<ul>\n";
                for item in lines() {
                    let _ = writeln!(html, "<li>{}</li>", line(item.trim_start_matches("- ")));
                }
                html += "</ul>\n";
            }
            "" => {}
            text => {
                let _ = writeln!(html, "<p>{}</p>", line(text));
            }
        }
    }
    html
}

fn rows(block: &str) -> String {
    let (table, rest) = match block.split_once("\n- ") {
        Some((table, rest)) => (table, Some(rest)),
        None => (block, None),
    };
    let mut html = "<div class=\"scroll\"><table>\n".to_owned();
    for (index, row) in table.lines().enumerate().filter(|(index, _)| *index != 1) {
        let cell = if index == 0 { "th" } else { "td" };
        let cells = row.trim_matches('|').split('|');
        let cells: String = cells
            .map(|text| format!("<{cell}>{}</{cell}>", code(&escape(text.trim()))))
            .collect();
        let _ = writeln!(html, "<tr>{cells}</tr>");
    }
    html += "</table></div>\n";
    rest.map_or(html.clone(), |rest| html + &as_html(&format!("- {rest}")))
}

/// Text between backquotes is code.
fn code(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(index, part)| match index % 2 {
        1 => format!("<code>{part}</code>"),
        _ => part.to_owned(),
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_row_and_plots_for_each_limit() {
        let sample = |at: f64| Sample {
            at,
            in_use: 2.0,
            waiting: 98.0,
            ..Default::default()
        };
        let one = Measured {
            limit: 2,
            rate: 900.4,
            p99: 90.0,
            samples: (0..20)
                .map(|tenth| sample(f64::from(tenth) / 10.0))
                .collect(),
            active: vec![(0.1, 2.0), (0.2, 1.0)],
            ..Measured::default()
        };
        let table = table(&[one.clone(), Measured::default()]);
        assert_eq!(table.lines().count(), 4);
        assert!(
            table.contains("| 2 | 900 | 0.0 ms | 0.0 ms | 90.0 ms |"),
            "{table}"
        );
        assert!(table.contains("| 98 | 2 | 2 | 0 | 0 |"), "{table}");
        assert_eq!(plots(&one).matches("<polyline").count(), 5);
        let html = as_html(&format!(
            "# A <title>\n\nBy `cargo`.\n\n{table}\n- one\n- two\n"
        ));
        for part in [
            "<h1>A &lt;title&gt;</h1>",
            "<p>By <code>cargo</code>.</p>",
            "<th>p99</th>",
            "<li>two</li>",
        ] {
            assert!(html.contains(part), "{part} in {html}");
        }
        assert_eq!(html.matches("<tr>").count(), 3);
    }
}
