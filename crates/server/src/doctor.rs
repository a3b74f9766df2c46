//! The checklist before production: `customer doctor`, for people or with `--json`.

use std::fmt::Write;

use db::{Check, Report, Schema, Verdict};
use serde_json::json;

use crate::error::chain;
use crate::settings::{Environment, Settings};

/// Adds to what the pool found what a service can say of itself, and what it cannot.
pub(crate) fn complete(name: &str, settings: &Settings, pool: &db::Config, report: &mut Report) {
    let port = settings.port;
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
            format!("see that Prometheus scrapes /metrics at port {port} of each instance: `up{{job=\"{name}\"}}` is 1, and an alert reaches you"),
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

/// Whether the database has the migrations of this program.
pub(crate) fn migrations(name: &str, schema: Result<Schema, db::Error>) -> Check {
    let check = |verdict, text: String| Check::new("migrations", verdict, text);
    match schema {
        Ok(Schema::Current) => check(Verdict::Ok, "the database has all of them".to_owned()),
        Ok(Schema::Newer { newest }) => check(
            Verdict::Ok,
            format!(
                "the database has all of them, and later ones up to {newest}: a newer program's"
            ),
        ),
        Ok(Schema::Unclear { session }) => check(Verdict::Change, session),
        Ok(Schema::Older { missing }) => check(
            Verdict::Change,
            format!(
                "the database lacks {missing}: run `{name} migrate`, or start the service with MIGRATE=true"
            ),
        ),
        Err(error @ db::Error::Migrate(_)) => check(Verdict::Change, chain(&error)),
        Err(error) => check(
            Verdict::NotChecked,
            format!(
                "this role may not see which the database has: {}",
                chain(&error)
            ),
        ),
    }
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
