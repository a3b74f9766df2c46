//! The service as it is released: its memory when idle, its start, its size.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use local_postgres::Cluster;

use super::budget::Idle;
use crate::memory::Program;
use crate::output::Result;
use crate::ready;
use crate::survive::stage::{Instance, Stage};

const SERVICE: &str = "customer";

/// Starts whose median counts; one before them migrates.
const STARTS: usize = 7;

/// After this a service has done what it does once.
const QUIET: Duration = Duration::from_secs(3);

/// `programs` is the folder of the released ones.
pub(crate) fn measure(programs: &Path) -> Result<Idle> {
    let mut stage = Stage::new(programs, Cluster::temporary()?)?;
    let instance = Instance::new(SERVICE, SERVICE)?;
    stage.start_ready(&instance)?;
    let mut times = Vec::new();
    let mut parent = 0;
    for _ in 0..STARTS {
        stage.end(SERVICE, "TERM")?;
        let began = Instant::now();
        parent = stage.start(&instance)?;
        while ready::ask(instance.port).is_err() {
            stage.pause(Duration::from_micros(500))?;
        }
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    stage.pause(QUIET)?;
    let idle = Idle {
        megabytes: Program::find(parent, SERVICE).megabytes(),
        start_ms: times[STARTS / 2],
        program_bytes: fs::metadata(programs.join(SERVICE))?.len() as f64,
    };
    stage.stop();
    Ok(idle)
}
