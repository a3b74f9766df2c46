//! The pool is exhausted: statements that wait for a lock hold all connections. What clients see, how the service explains
//! itself, and when it has recovered.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::options::{Options, PATH};
use super::plot::{Line, over_time};
use super::report;
use super::sample::{Sample, Sampler};
use super::service::{Pool, Private};
use crate::output::{Result, progress};
use crate::release;
use crate::survive::client::{self, Client};

/// Few connections, and callers who give up soon, so that everything happens within seconds.
const POOL: &str = "connection_limit=2&pool_timeout=1s&leak_threshold=1s";
const CLIENTS: usize = 20;

/// How long it is left alone, how long the lock is held, and how long it may take to recover, in seconds.
const BEFORE: f64 = 3.0;
const LOCKED: f64 = 6.0;
const AFTER: f64 = 4.0;

/// One answer: when it came, its status (0 for none), how long it took, and what it said if it was no 200.
struct Seen {
    at: f64,
    status: u16,
    milliseconds: f64,
    said: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let programs = release::build(&[&["customer"]])?;
    let mut private = Private::new(&programs)?;
    let log = private.stage.write("log", "")?;
    let port = private.start(POOL, Some(log.clone()))?;
    let (mut story, samples) = observe(&mut private, port)?;
    private.end()?;
    story.events = events(&fs::read_to_string(log)?);
    private.stage.stop();
    let title = "A pool that is exhausted";
    report::files(options, title, &story.markdown(), &story.plots(&samples))?;
    story.check()
}

/// What happens before, during and after the lock.
fn observe(private: &mut Private, port: u16) -> Result<(Story, Vec<Sample>)> {
    let sampler = Sampler::start(port, |_| ());
    let began = Instant::now();
    let (stop, clients) = clients(port, began);
    progress(format_args!(
        "{CLIENTS} clients, a pool of 2: {BEFORE} s as usual"
    ));
    private.stage.pause(Duration::from_secs_f64(BEFORE))?;
    progress(format_args!(
        "a lock on the table for {LOCKED} s: every statement waits"
    ));
    let (locked, explained) = lock(private, port, began)?;
    let released = began.elapsed().as_secs_f64();
    progress("the lock is gone");
    private.stage.pause(Duration::from_secs_f64(AFTER))?;
    stop.store(true, Relaxed);
    let mut seen = Vec::new();
    for client in clients {
        seen.extend(client.join().map_err(|_| "a client panicked: see above")?);
    }
    let story = Story {
        seen,
        locked,
        released,
        explained,
        events: Vec::new(),
    };
    Ok((story, sampler.stop()?))
}

/// Clients that ask again as soon as they are answered, until they are told to stop.
fn clients(port: u16, began: Instant) -> (Arc<AtomicBool>, Vec<JoinHandle<Vec<Seen>>>) {
    let stop = Arc::new(AtomicBool::new(false));
    let clients = (0..CLIENTS).map(|_| {
        let stop = stop.clone();
        thread::spawn(move || {
            let (request, mut client, mut seen) =
                (client::get(PATH, false), Client::new(port), Vec::new());
            while !stop.load(Relaxed) {
                let sent = Instant::now();
                let answer = client.send(&request);
                let (status, said) = match answer {
                    Ok(answer) if answer.status == 200 => (200, None),
                    Ok(answer) => {
                        let body = String::from_utf8_lossy(&answer.body).into_owned();
                        let retry = if answer.retry_after {
                            " (Retry-After)"
                        } else {
                            ""
                        };
                        (answer.status, Some(format!("{}{retry}", detail(&body))))
                    }
                    Err(error) => (0, Some(error.reason())),
                };
                seen.push(Seen {
                    at: began.elapsed().as_secs_f64(),
                    status,
                    milliseconds: sent.elapsed().as_secs_f64() * 1000.0,
                    said,
                });
                // As a client does that is not made for load.
                thread::sleep(Duration::from_millis(5));
            }
            seen
        })
    });
    let clients = clients.collect();
    (stop, clients)
}

/// The sentence for people in a problem.
fn detail(body: &str) -> &str {
    let detail = body.split_once("\"detail\":\"").map(|(_, rest)| rest);
    detail
        .and_then(|rest| rest.split_once(['"', '\\']))
        .map_or(body, |(detail, _)| detail)
}

/// Holds the lock for its time. When it began, and the sentences of the pool meanwhile, each once.
fn lock(private: &mut Private, port: u16, began: Instant) -> Result<(f64, Vec<String>)> {
    let sql = format!("begin; lock table customer; select pg_sleep({LOCKED})");
    let mut psql = Command::new("psql")
        .args(["-qAtX", "-d", &private.url(), "-c", &sql])
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("psql cannot be started: {error}"))?;
    let (locked, mut sentences) = (began.elapsed().as_secs_f64(), Vec::<String>::new());
    while psql.try_wait()?.is_none() {
        private.stage.pause(Duration::from_millis(400))?;
        let sentence = Pool::of(port)?.sentence().unwrap_or_default();
        if sentence.contains("wait") && !sentence.contains("nobody") && sentences.len() < 3 {
            sentences.push(sentence);
        }
    }
    Ok((locked, sentences))
}

/// The lines of the log with an event, the first of each kind.
fn events(log: &str) -> Vec<String> {
    let mut first = BTreeMap::new();
    for line in log.lines() {
        if let Some((_, event)) = line.split_once("event=\"") {
            let kind = event.split('"').next().unwrap_or_default();
            first
                .entry(kind.to_owned())
                .or_insert_with(|| line.to_owned());
        }
    }
    first.remove("summed_up");
    first.into_values().collect()
}

struct Story {
    seen: Vec<Seen>,
    locked: f64,
    released: f64,
    explained: Vec<String>,
    events: Vec<String>,
}

impl Story {
    /// Seconds from the release to the first 200, and to four fifths of what was served before.
    fn recovery(&self) -> (Option<f64>, Option<f64>) {
        let served = |from: f64, to: f64| {
            let served = self
                .seen
                .iter()
                .filter(|one| one.status == 200 && one.at >= from && one.at < to);
            served.count() as f64
        };
        let after = self
            .seen
            .iter()
            .filter(|one| one.status == 200 && one.at >= self.released);
        let first = after
            .map(|one| one.at - self.released)
            .min_by(f64::total_cmp);
        // Without the first second, in which connections are opened.
        let usual = served(1.0, self.locked) / (self.locked - 1.0);
        let halves = (0..(AFTER * 2.0) as u32 - 1).map(|half| f64::from(half) / 2.0);
        let mut halves = halves.filter(|half| {
            let from = self.released + half;
            served(from, from + 0.5) * 2.0 >= usual * 0.8
        });
        (first, halves.next().map(|half| half + 0.5))
    }

    /// Answers by kind, for each half second.
    fn answers(&self) -> [Line<'_>; 3] {
        let kind = |name, class, of: fn(u16) -> bool| {
            let mut counts = BTreeMap::<u32, f64>::new();
            for one in &self.seen {
                *counts.entry((one.at * 2.0) as u32).or_default() +=
                    f64::from(u8::from(of(one.status)));
            }
            let points = counts
                .into_iter()
                .map(|(half, count)| (f64::from(half) / 2.0, count));
            Line {
                name,
                class,
                points: points.collect(),
            }
        };
        [
            kind("200", "active", |status| status == 200),
            kind("503", "waiting", |status| status == 503),
            kind("anything else", "bad", |status| {
                status != 200 && status != 503
            }),
        ]
    }

    fn plots(&self, samples: &[Sample]) -> String {
        let line = |name, class, of: fn(&Sample) -> f64| Line {
            name,
            class,
            points: samples.iter().map(|one| (one.at, of(one))).collect(),
        };
        let connections = [
            line("waiting", "waiting", |one| one.waiting),
            line("in use", "used", |one| one.in_use),
        ];
        format!(
            "<div class=\"plots\">\n{}{}</div>\n",
            over_time("Answers in each half second", &self.answers()),
            over_time("Connections", &connections)
        )
    }

    fn markdown(&self) -> String {
        let mut text = format!(
            "{CLIENTS} clients ask `{PATH}` of a service with `{POOL}`. After {:.1} s somebody locks the table for {LOCKED} s, so \
             that every statement waits for `lock_timeout` (2 s), and the others for a connection.\n\n\
             | what clients saw | answers | longest | in the words of the first |\n|---|---|---|---|\n",
            self.locked
        );
        let mut kinds = BTreeMap::<(u16, &str), (u64, f64)>::new();
        for one in &self.seen {
            let said = one.said.as_deref().unwrap_or_default();
            // The figures in a text differ; its beginning is its kind.
            let kind = said.split([':', '(']).next().unwrap_or_default();
            let entry = kinds.entry((one.status, kind)).or_default();
            *entry = (entry.0 + 1, entry.1.max(one.milliseconds));
        }
        for ((status, kind), (count, longest)) in &kinds {
            let first = self.seen.iter().find(|one| {
                one.status == *status && one.said.as_deref().unwrap_or_default().starts_with(kind)
            });
            let said = first
                .and_then(|one| one.said.as_deref())
                .unwrap_or("the customers");
            let _ = writeln!(text, "| {status} | {count} | {longest:.0} ms | {said} |");
        }
        text += "\n\nHow the service explained itself, on `/pool` and in `/metrics/json`:\n\n";
        text += &list(&self.explained);
        text += "\n\nAnd in its log, the first line of each event:\n\n";
        text += &list(&self.events);
        let (first, full) = self.recovery();
        let seconds =
            |time: Option<f64>| time.map_or("never".to_owned(), |time| format!("{time:.2} s"));
        let _ = write!(
            text,
            "\n\n- From the end of the lock to the first 200: {}\n- To four fifths of the usual throughput, in half seconds: {}\n",
            seconds(first),
            seconds(full)
        );
        text
    }

    fn check(&self) -> Result<()> {
        let other = self
            .seen
            .iter()
            .filter(|one| !matches!(one.status, 200 | 503))
            .count();
        let refused = self.seen.iter().filter(|one| one.status == 503).count();
        let (first, full) = self.recovery();
        if other > 0 {
            return Err(format!("{other} answers were neither 200 nor 503").into());
        }
        if refused == 0 || self.explained.is_empty() {
            return Err(
                "the pool was not exhausted: nobody was refused, or nobody said why".into(),
            );
        }
        if first.is_none() || full.is_none() {
            return Err(format!("it has not recovered within {AFTER} s").into());
        }
        Ok(())
    }
}

fn list(lines: &[String]) -> String {
    lines.iter().map(|line| format!("- {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(after: u16) -> Story {
        let one = |at: f64, status| Seen {
            at,
            status,
            milliseconds: 5.0,
            said: (status != 200).then(|| "Timed out: 7".to_owned()),
        };
        let mut seen: Vec<Seen> = (0..300).map(|n| one(f64::from(n) / 100.0, 200)).collect();
        seen.push(one(5.0, 503));
        seen.extend((0..300).map(|n| one(9.3 + f64::from(n) / 100.0, after)));
        Story {
            seen,
            locked: 3.0,
            released: 9.0,
            explained: vec!["The pool is full".to_owned()],
            events: Vec::new(),
        }
    }

    #[test]
    fn recovery_is_timed_from_the_release() {
        let (first, full) = story(200).recovery();
        assert!((first.unwrap() - 0.3).abs() < 0.01);
        assert_eq!(full, Some(1.0));
        assert!(story(200).check().is_ok());
        let never = story(503).check().unwrap_err();
        assert!(never.to_string().contains("not recovered"), "{never}");
        let other = story(500).check().unwrap_err();
        assert!(other.to_string().contains("neither 200 nor 503"), "{other}");
        assert!(
            story(200)
                .markdown()
                .contains("| 503 | 1 | 5 ms | Timed out: 7 |")
        );
    }

    #[test]
    fn what_a_problem_says_is_its_detail() {
        let body = r#"{"type":"about:blank","title":"x","status":503,"detail":"It is full."}"#;
        assert_eq!(detail(body), "It is full.");
        assert_eq!(detail("plain"), "plain");
        let log =
            "a WARN event=\"pool_full\" one\nb WARN event=\"pool_full\" two\nc event=\"summed_up\"";
        assert_eq!(events(log), ["a WARN event=\"pool_full\" one"]);
    }
}
