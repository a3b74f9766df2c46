//! More slow clients than the service has file descriptors.

use std::time::{Duration, Instant};

use super::crowd::Crowd;
use super::kinds::Kind;
use crate::http;
use crate::output::Result;
use crate::survive::files;
use crate::survive::report::Report;
use crate::survive::stage::{Instance, Stage};

const FILES: u32 = 256;
const CLIENTS: usize = 330;

/// `/livez` is asked so often, each time on a connection of its own.
const ASKED: usize = 9;
const LONGEST: Duration = Duration::from_secs(1);

pub(crate) fn run(stage: &mut Stage, report: &mut Report) -> Result<()> {
    let mut instance = Instance::new("customer", "few-files")?;
    instance.under = files::limited(FILES);
    stage.start_ready(&instance)?;
    let mut crowd = Crowd::open(Kind::HalfBody, CLIENTS, instance.port);
    while !crowd.complete {
        stage.pause(Duration::from_millis(100))?;
        crowd.take_in();
    }
    let answered = (0..ASKED).filter(|_| answers(instance.port)).count();
    report.promise(
        format!("/livez within 1 s, {CLIENTS} half bodies, ulimit -n {FILES}"),
        format_args!("{answered} of {ASKED}"),
        &format!("{ASKED} of {ASKED}"),
        answered == ASKED,
    );
    drop(crowd);
    Ok(())
}

fn answers(port: u16) -> bool {
    let asked = Instant::now();
    http::get(port, "/livez").is_ok_and(|answer| answer.is_ok()) && asked.elapsed() < LONGEST
}
