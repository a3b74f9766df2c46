//! `DATABASE_URL=… cargo run -p db --example doctor [-- --json]`: what the pool may take, what it takes, and what to change
//! before production, for people or for a pipeline.
//!
//! Exit code 0 when all is well, 1 when something has to be changed or there is no connection, 2 for another argument. A
//! service's own `doctor` looks at its other settings too.

use std::process::ExitCode;

use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let as_json = arguments == ["--json"];
    if !(as_json || arguments.is_empty()) {
        eprintln!("usage: doctor [--json]");
        return ExitCode::from(2);
    }
    match examine().await {
        Ok(report) => {
            match as_json {
                true => println!("{:#}", json(&report)),
                false => print!("{report}"),
            }
            ExitCode::from(u8::from(!report.is_ok()))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn examine() -> Result<db::Report, Box<dyn std::error::Error>> {
    Ok(db::pool()?.examine().await?)
}

fn json(report: &db::Report) -> Value {
    let checks = report.checks.iter();
    let checks: Vec<_> = checks
        .map(|one| json!({ "check": one.name, "verdict": one.verdict.as_str(), "text": one.text }))
        .collect();
    json!({ "ok": report.is_ok(), "summary": report.summary, "facts": report.facts, "checks": checks })
}
