//! A fleet of a thousand instances on virtual time, each with the pool's own code for its share: how far over the budget
//! they are together, for how long, and how long it takes until the shares are equal.
//!
//! `cargo run -p db --example simulate` prints a table; with the name of a file it draws a plot there.

#[path = "../src/share.rs"]
mod share;
#[path = "../tests/support/simulation.rs"]
mod simulation;

use std::fmt::Write;
use std::ops::Range;

use simulation::{Event, Simulation};

const INSTANCES: usize = 1000;
/// `max_connections=5000`, 3 of them for superusers.
const BUDGET: u32 = 4997 * 4 / 5;
const SECOND: u64 = 1000;
/// A moment of the plot.
const STEP: u64 = 5 * SECOND;

/// What happens, and how long it is looked at.
struct Phase {
    name: &'static str,
    events: Vec<(u64, usize, Event)>,
    seconds: u64,
}

/// The same event for these instances, spread over so many seconds.
fn spread(members: Range<usize>, seconds: u64, event: Event) -> Vec<(u64, usize, Event)> {
    let (first, count) = (members.start, members.len().max(1) as u64);
    members
        .map(|member| {
            (
                (member - first) as u64 * seconds * SECOND / count,
                member,
                event,
            )
        })
        .collect()
}

fn phases() -> Vec<Phase> {
    let phase = |name, events, seconds| Phase {
        name,
        events,
        seconds,
    };
    let mut deployment = spread(500..1000, 300, Event::Start);
    deployment.extend(
        spread(0..500, 300, Event::Stop)
            .into_iter()
            .map(|(time, member, event)| (time + 2 * SECOND, member, event)),
    );
    vec![
        phase("1 starts", spread(0..1, 1, Event::Start), 30),
        phase("10", spread(1..10, 1, Event::Start), 60),
        phase("100 within 10 s", spread(10..100, 10, Event::Start), 120),
        phase(
            "1,000 within a minute",
            spread(100..1000, 60, Event::Start),
            600,
        ),
        phase("500 crash", spread(500..1000, 0, Event::Crash(20)), 600),
        phase("500 are replaced, one by one", deployment, 900),
        phase(
            "100 cannot see the server for 60 s",
            spread(500..600, 0, Event::CutOff(60 * SECOND)),
            600,
        ),
        phase(
            "100 crash, and 100 see it 2.5 s late",
            spread(600..700, 0, Event::Slow(2_500))
                .into_iter()
                .chain(spread(700..800, 0, Event::Crash(20)))
                .collect(),
            600,
        ),
        phase("all but 2 stop", spread(502..1000, 0, Event::Stop), 300),
        phase(
            "900 start at one moment, where 2 were",
            spread(2..500, 0, Event::Start)
                .into_iter()
                .chain(spread(502..904, 0, Event::Start))
                .collect(),
            600,
        ),
    ]
}

fn main() -> std::io::Result<()> {
    let mut fleet = Simulation::new(7, INSTANCES, 50, BUDGET);
    let (mut points, mut marks) = (Vec::new(), Vec::new());
    println!(
        "budget {BUDGET}\n\n| what happens | instances | connections each | most together | over the budget for | settled after the last of it |"
    );
    println!("|---|---|---|---|---|---|");
    for Phase {
        name,
        events,
        seconds,
    } in phases()
    {
        let began = fleet.now;
        marks.push((began, name));
        let last = events.iter().map(|(time, ..)| *time).max().unwrap_or(0);
        for (time, member, event) in events {
            fleet.at(began + time, member, event);
        }
        let (mut most, mut settled, mut over, mut longest) = (0, None, None, 0);
        while fleet.now < began + seconds * SECOND {
            let mut here = 0;
            let end = fleet.now + STEP;
            fleet.run_until(end, |fleet| {
                let sessions = fleet.sessions();
                here = here.max(sessions);
                match sessions > BUDGET {
                    true => longest = longest.max(fleet.now - *over.get_or_insert(fleet.now)),
                    false => over = None,
                }
                if !fleet.is_settled() {
                    settled = None;
                } else if settled.is_none() {
                    settled = Some(fleet.now.saturating_sub(began + last));
                }
            });
            most = most.max(here);
            points.push((
                fleet.now,
                if here == 0 { fleet.sessions() } else { here },
                fleet.alive(),
            ));
        }
        let (least, largest) = fleet.limits();
        let settled = settled.map_or("not".to_owned(), |after| {
            format!("{:.1} s", after as f64 / 1e3)
        });
        println!(
            "| {name} | {} | {least} to {largest} | {most} | {:.1} s | {settled} |",
            fleet.alive(),
            longest as f64 / 1e3
        );
    }
    match std::env::args().nth(1) {
        Some(file) => std::fs::write(file, plot(&points, &marks)),
        None => Ok(()),
    }
}

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 48.0;
const BOTTOM: f64 = 290.0;

/// Sessions and instances over time, the budget, and what happened when.
fn plot(points: &[(u64, u32, u32)], marks: &[(u64, &str)]) -> String {
    let end = points.last().map_or(1, |point| point.0) as f64;
    let x = |time: u64| LEFT + time as f64 / end * (WIDTH - LEFT - 8.0);
    let y = |count: u32| BOTTOM - f64::from(count) / 5000.0 * (BOTTOM - 12.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"11\">\n\
         <title>A simulated fleet: its sessions stay at the budget of {BUDGET} while up to {INSTANCES} instances come and go</title>\n\
         <style>svg {{ background: #fff; color: #222; fill: #222 }} polyline {{ fill: none; stroke-width: 1.6 }} .grid {{ stroke: #ddd }} \
         .sessions {{ stroke: #2563eb }} .instances {{ stroke: #d97706 }} .budget {{ stroke: #dc2626; stroke-dasharray: 5 4 }} .mark {{ stroke: #999; stroke-dasharray: 2 3 }}\n\
         @media (prefers-color-scheme: dark) {{ svg {{ background: #111; fill: #ddd }} .grid {{ stroke: #333 }} .sessions {{ stroke: #60a5fa }} .instances {{ stroke: #fbbf24 }} }}</style>\n"
    );
    for count in [0, 1000, 2000, 3000, 4000, 5000] {
        let at = y(count);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{count}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for (number, (time, _)) in marks.iter().enumerate() {
        let at = x(*time);
        let _ = writeln!(
            svg,
            "<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"12\" y2=\"{BOTTOM}\"/><text x=\"{:.1}\" y=\"{}\">{}</text>",
            at + 3.0,
            BOTTOM + 14.0,
            number + 1
        );
    }
    let line = |value: &dyn Fn(&(u64, u32, u32)) -> u32| {
        let each = points
            .iter()
            .map(|point| format!("{:.1},{:.1}", x(point.0), y(value(point))));
        each.collect::<Vec<_>>().join(" ")
    };
    let _ = writeln!(
        svg,
        "<polyline class=\"budget\" points=\"{LEFT},{0:.1} {WIDTH},{0:.1}\"/>",
        y(BUDGET)
    );
    let _ = writeln!(
        svg,
        "<polyline class=\"sessions\" points=\"{}\"/>",
        line(&|point| point.1)
    );
    let _ = writeln!(
        svg,
        "<polyline class=\"instances\" points=\"{}\"/>",
        line(&|point| point.2)
    );
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{:.1}\">budget {BUDGET}, sessions of all (most within 5 s); below: instances; {:.0} minutes</text>\n</svg>",
        LEFT + 8.0,
        y(BUDGET) - 8.0,
        end / 60e3
    );
    svg
}
