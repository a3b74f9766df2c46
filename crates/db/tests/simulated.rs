//! The share of each instance on virtual time: no history of a fleet leaves it over its budget.

#[path = "../src/share.rs"]
mod share;
#[path = "support/simulation.rs"]
mod simulation;

use proptest::prelude::*;
use simulation::{Event, Simulation};

const BUDGET: u32 = 77;
const INSTANCES: usize = 12;

/// Something that happens within half a minute.
fn event(growing: bool) -> impl Strategy<Value = (u64, usize, Event)> {
    let start = if growing { 4 } else { 0 };
    let what = prop_oneof![
        start => Just(Event::Start),
        2 => Just(Event::Stop),
        2 => (0_u64..10_000).prop_map(Event::Crash),
        1 => (1_u64..15_000).prop_map(Event::CutOff),
        1 => (0_u64..2_500).prop_map(Event::Slow),
    ];
    (0_u64..30_000, 0..INSTANCES, what)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn after_any_history_the_shares_settle_within_the_budget(
        seed in any::<u64>(),
        events in prop::collection::vec(event(true), 0..60),
    ) {
        let mut fleet = Simulation::new(seed, INSTANCES, 50, BUDGET);
        for (time, member, event) in events {
            fleet.at(time, member, event);
        }
        for member in 0..INSTANCES {
            fleet.at(30_000, member, Event::Slow(20));
        }
        // The last crash is noticed at 40, the last that was cut off is back at 45.
        fleet.run_until(65_000, |_| {});
        prop_assert!(fleet.alive() == 0 || fleet.is_settled(), "{:?} of {}", fleet.limits(), fleet.alive());
        let mut most = 0;
        fleet.run_until(120_000, |fleet| most = most.max(fleet.sessions()));
        prop_assert!(most <= BUDGET, "{most}");
    }

    // Only who joins is over the budget: by its own two connections, which it has at once.
    #[test]
    fn no_crash_and_no_slow_or_cut_off_instance_takes_the_fleet_over_its_budget(
        seed in any::<u64>(),
        events in prop::collection::vec(event(false), 0..60),
    ) {
        let mut fleet = Simulation::new(seed, INSTANCES, 50, BUDGET);
        for member in 0..INSTANCES {
            fleet.at(0, member, Event::Start);
        }
        fleet.run_until(10_000, |_| {});
        let (mut most, mut back) = (0, 0);
        for (time, member, event) in events {
            back += u32::from(matches!(event, Event::CutOff(_)));
            fleet.at(10_000 + time, member, event);
        }
        fleet.run_until(70_000, |fleet| most = most.max(fleet.sessions()));
        // Who was cut off joins anew.
        prop_assert!(most <= BUDGET + 2 * back, "{most} with {back} cut off");
    }
}
