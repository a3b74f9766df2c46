//! Somebody with nothing to do, who notices when the machine stands still: a stall then is not the services' fault.

use std::thread;
use std::time::{Duration, Instant};

use super::load::{Load, Stop};
use super::times::Times;
use crate::output::Result;

const NAP: Duration = Duration::from_millis(5);

/// A thread that notes how much longer than asked for it slept.
pub(crate) struct Witness(Load<Times>);

impl Witness {
    pub(crate) fn start() -> Result<Self> {
        let mut load = Load::new();
        load.add(|stop| watch(&stop))?;
        Ok(Self(load))
    }

    pub(crate) fn finish(self) -> Result<Times> {
        Ok(self.0.finish()?.pop().unwrap_or_default())
    }
}

fn watch(stop: &Stop) -> Times {
    let mut times = Times::default();
    while !stop.is_told() {
        let asleep = Instant::now();
        thread::sleep(NAP);
        times.record(asleep.elapsed().saturating_sub(NAP));
    }
    times
}
