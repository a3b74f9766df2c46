//! The checklist before production: `customer doctor`, for people or with `--json`.

use std::fmt::Write;

use db::{Check, Report, Verdict};
use serde_json::json;

use crate::settings::{Environment, Settings};

/// Adds to what the pool found what a service can say of itself, and what it cannot.
pub(crate) fn complete(name: &str, settings: &Settings, pool: &db::Config, report: &mut Report) {
    let address = settings.address();
    let disorder = Some(settings.disorder(pool).join("; ")).filter(|text| !text.is_empty());
    let environment = (settings.environment == Environment::Development).then(|| {
        "this is development: set APP_ENV=production where people use it, with a DATABASE_URL of its own for each place"
            .to_owned()
    });
    let see = |check, how: String| Check::new(check, Verdict::NotChecked, how);
    report.checks.extend([
        Check::unless("environment", environment, "APP_ENV is production"),
        Check::unless(
            "durations",
            disorder,
            "statement < socket < REQUEST_TIMEOUT < SHUTDOWN_TIMEOUT",
        ),
        see(
            "monitoring",
            format!("see that Prometheus scrapes http://{address}/metrics: `up{{job=\"{name}\"}}` is 1, and an alert reaches you"),
        ),
        see(
            "exhaustion",
            "run `cargo xtask load --exhaust`, and watch the page /pool and your alerts meanwhile".to_owned(),
        ),
        see(
            "load",
            "run `cargo xtask load --limits 2,5,10,20` on a machine like your own, with rows like your own".to_owned(),
        ),
    ]);
}

/// The report for people.
pub(crate) fn as_text(name: &str, report: &Report) -> String {
    let mut text = format!("{name}: {report}");
    let count = |verdict| {
        let of_it = report.checks.iter().filter(|one| one.verdict == verdict);
        of_it.count()
    };
    let _ = writeln!(
        text,
        "{} ok, {} to change, {} not checked",
        count(Verdict::Ok),
        count(Verdict::Change),
        count(Verdict::NotChecked)
    );
    text
}

/// The report for programs.
pub(crate) fn as_json(name: &str, report: &Report) -> String {
    let checks: Vec<_> = report
        .checks
        .iter()
        .map(|one| json!({ "check": one.name, "verdict": one.verdict.as_str(), "text": one.text }))
        .collect();
    let Report { summary, facts, .. } = report;
    let ok = report.is_ok();
    format!(
        "{:#}\n",
        json!({ "service": name, "ok": ok, "summary": summary, "facts": facts, "checks": checks })
    )
}
