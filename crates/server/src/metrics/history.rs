//! The last ten minutes, a sample for each second: what the page draws, and what percentiles of the last minute come from.
//!
//! About 250 KB, whether somebody looks or not, and some microseconds ten times a second.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use db::{HistogramSnapshot, Pool, Stats, Times};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::metrics::requests::{self, Served};

/// How many samples are kept: ten minutes.
const KEPT: usize = 600;
/// Over so many samples percentiles are taken for the last minute.
const MINUTE: usize = 60;
/// Looks at the pool for each sample: the one with the most callers counts, so that a short burst is not missed.
const LOOKS: u32 = 10;

/// What a sample consists of, in order. Times are in milliseconds, null where nothing happened; counts are of the second.
pub(crate) const COLUMNS: [&str; 16] = [
    "time", "limit", "in_use", "idle", "waiting", "requests", "errors", "p50", "p99", "wait_p50",
    "wait_p99", "hold_p50", "hold_p99", "acquired", "timeouts", "shed",
];

/// The samples, and a signal for each new one.
pub(crate) struct History {
    pool: Pool,
    state: Mutex<State>,
    /// How many samples there were; `None` once there will be no more.
    tick: watch::Sender<Option<u64>>,
}

struct State {
    samples: VecDeque<[Option<f64>; COLUMNS.len()]>,
    /// What had been counted by the end of each of the last 61 seconds.
    counted: VecDeque<Counted>,
}

/// Everything that only grows, at one moment.
#[derive(Clone, Default)]
struct Counted {
    acquired: u64,
    timed_out: u64,
    shed: u64,
    times: Times,
    served: Served,
}

impl Counted {
    fn now(stats: &Stats, pool: &Pool) -> Self {
        Self {
            acquired: stats.acquired,
            timed_out: stats.timed_out,
            shed: stats.shed,
            times: pool.times(),
            served: requests::served(),
        }
    }
}

impl History {
    pub(crate) fn new(pool: Pool) -> Self {
        let mut state = State {
            samples: VecDeque::with_capacity(KEPT),
            counted: VecDeque::with_capacity(MINUTE + 1),
        };
        let counted = Counted::now(&pool.stats(), &pool);
        state.counted.push_back(counted);
        Self {
            pool,
            state: Mutex::new(state),
            tick: watch::Sender::new(Some(0)),
        }
    }

    /// Takes a sample each second for as long as it is polled.
    pub(crate) async fn run(&self) {
        let mut looks = tokio::time::interval(Duration::from_secs(1) / LOOKS);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut most = Stats::default();
            for _ in 0..LOOKS {
                looks.tick().await;
                let stats = self.pool.stats();
                if stats.in_use + stats.waiting >= most.in_use + most.waiting {
                    most = stats;
                }
            }
            self.add(&most);
        }
    }

    fn add(&self, most: &Stats) {
        let counted = Counted::now(&self.pool.stats(), &self.pool);
        let mut state = self.state();
        let before = state.counted.back().cloned().unwrap_or_default();
        if state.samples.len() == KEPT {
            state.samples.pop_front();
        }
        if state.counted.len() > MINUTE {
            state.counted.pop_front();
        }
        state.samples.push_back(sample(most, &counted, &before));
        state.counted.push_back(counted);
        drop(state);
        self.tick.send_modify(|tick| {
            if let Some(number) = tick {
                *number += 1;
            }
        });
    }

    /// Whoever follows the samples learns that there will be no more.
    pub(crate) fn end(&self) {
        self.tick.send_replace(None);
    }

    /// Follows the samples.
    pub(crate) fn follow(&self) -> watch::Receiver<Option<u64>> {
        self.tick.subscribe()
    }

    /// All samples, oldest first.
    pub(crate) fn samples(&self) -> Value {
        json!(self.state().samples)
    }

    /// The newest sample.
    pub(crate) fn newest(&self) -> Value {
        json!(self.state().samples.back())
    }

    /// The pool for people: what it does now, and how long it took over the last minute.
    pub(crate) fn pool_object(&self, stats: &Stats) -> Value {
        let now = Counted::now(stats, &self.pool);
        let before = self.state().counted.front().cloned().unwrap_or_default();
        let diagnosis = self.pool.diagnosis();
        let longest = self.pool.holders().into_iter().next();
        let times = |of: fn(&Times) -> &HistogramSnapshot| {
            let minute = of(&now.times).since(of(&before.times));
            json!({ "p50": percentile(&minute, 0.5), "p99": percentile(&minute, 0.99) })
        };
        json!({
            "name": self.pool.name(),
            "state": diagnosis.state.as_str(),
            "sentence": diagnosis.sentence,
            "limit": stats.limit,
            "in_use": stats.in_use,
            "idle": stats.idle,
            "waiting": stats.waiting,
            "timeouts": stats.timed_out,
            "shed": stats.shed,
            "last_minute": {
                "acquired": now.acquired - before.acquired,
                "timeouts": now.timed_out - before.timed_out,
                "shed": now.shed - before.shed,
                "wait_ms": times(|times| &times.wait),
                "hold_ms": times(|times| &times.hold),
                "statement_ms": times(|times| &times.statement),
            },
            "longest_holder": longest.as_ref().map(holder),
            "replicas": self.replicas(stats),
            "server": self.pool.server().map(|server| json!({
                "version": server.version,
                "max_connections": server.max_connections,
                "usable": server.usable,
                "budget": server.budget,
                "others": server.others,
                "room": server.room,
                "instances": server.instances,
                "taken": server.taken,
            })),
        })
    }

    /// The replicas with what is known of them; nothing where there are none.
    fn replicas(&self, stats: &Stats) -> Value {
        let all = self.pool.replicas();
        if all.is_empty() {
            return Value::Null;
        }
        let each: Vec<Value> = all
            .iter()
            .map(|one| {
                json!({
                    "name": one.name,
                    "state": one.state.as_str(),
                    "lag_ms": one.lag.map(milliseconds),
                    "reads": one.reads,
                    "fallbacks": one.fallbacks,
                })
            })
            .collect();
        json!({ "reads_at_primary": stats.reads, "each": each })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A holder of a connection, as JSON.
pub(crate) fn holder(held: &db::Held) -> Value {
    json!({
        "work": held.work,
        "place": held.place,
        "statement": held.statement,
        "held_ms": milliseconds(held.held),
    })
}

fn sample(most: &Stats, now: &Counted, before: &Counted) -> [Option<f64>; COLUMNS.len()] {
    let requests = now.served.times.since(&before.served.times);
    let wait = now.times.wait.since(&before.times.wait);
    let hold = now.times.hold.since(&before.times.hold);
    let count = |number: u64| Some(number as f64);
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    [
        Some(time.map_or(0.0, |time| time.as_secs_f64().round())),
        Some(f64::from(most.limit)),
        Some(f64::from(most.in_use)),
        Some(f64::from(most.idle)),
        Some(f64::from(most.waiting)),
        count(requests.count()),
        count(now.served.errors - before.served.errors),
        percentile(&requests, 0.5),
        percentile(&requests, 0.99),
        percentile(&wait, 0.5),
        percentile(&wait, 0.99),
        percentile(&hold, 0.5),
        percentile(&hold, 0.99),
        count(now.acquired - before.acquired),
        count(now.timed_out - before.timed_out),
        count(now.shed - before.shed),
    ]
}

fn percentile(times: &HistogramSnapshot, share: f64) -> Option<f64> {
    times.quantile(share).map(milliseconds)
}

/// Milliseconds with three places.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
