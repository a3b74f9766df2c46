//! Clients that write, and keep what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::ledger::{Outcome, Write};
use crate::output::Result;
use crate::survive::client::{self, Answer, Client, NoAnswer};
use crate::survive::load::{Load, Pace, Stop};

/// So many of each kind.
const WRITERS: u32 = 8;

const PERIOD: Duration = Duration::from_millis(10);

/// Reservations are of so many resources.
const RESOURCES: u64 = 20;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Customers,
    Reservations,
}

/// What one writer was told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) writes: Vec<Write>,
    /// When the 201 came.
    pub(crate) acknowledged: Vec<Instant>,
}

/// How many writes were acknowledged so far, for the progress.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<AtomicU64>);

impl Count {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Adds the writers of one kind to the load; `customer` is who reserves.
pub(crate) fn add(
    load: &mut Load<(Kind, Told)>,
    kind: Kind,
    port: u16,
    customer: &str,
    count: &Count,
) -> Result<()> {
    let numbers = Count::default();
    for writer in 0..WRITERS {
        let mut writer = Writer {
            client: Client::new(port),
            pace: Pace::new(PERIOD, f64::from(writer) / f64::from(WRITERS)),
            customer: customer.to_owned(),
            numbers: numbers.clone(),
            count: count.clone(),
        };
        load.add(move |stop| (kind, writer.run(kind, &stop)))?;
    }
    Ok(())
}

struct Writer {
    client: Client,
    pace: Pace,
    customer: String,
    /// Counts the writes of all writers of this kind.
    numbers: Count,
    count: Count,
}

impl Writer {
    fn run(&mut self, kind: Kind, stop: &Stop) -> Told {
        let mut told = Told::default();
        loop {
            self.pace.wait();
            if stop.is_told() {
                return told;
            }
            let number = self.numbers.0.fetch_add(1, Ordering::Relaxed);
            let (key, request) = match kind {
                Kind::Customers => customer(number),
                Kind::Reservations => reservation(number, &self.customer),
            };
            let outcome = outcome(self.client.send(&request));
            if matches!(outcome, Outcome::Stored(_)) {
                told.acknowledged.push(Instant::now());
                self.count.0.fetch_add(1, Ordering::Relaxed);
            }
            told.writes.push((key, outcome));
        }
    }
}

fn customer(number: u64) -> (String, Vec<u8>) {
    let email = format!("crash.{number}@example.com");
    let json = format!(r#"{{"name":"Crash","email":"{email}"}}"#);
    (email, client::post("/api/customers", &json, false))
}

/// Two writers at a time want the same slot: the second asks for an hour that begins within the first one's. Slots are
/// taken from all resources in turn, in an order that jumps.
fn reservation(number: u64, customer: &str) -> (String, Vec<u8>) {
    let (slot, second) = (number / 2, number % 2 == 1);
    let resource = format!("table-{}", slot % RESOURCES);
    let hours = slot / RESOURCES * 2;
    let (day, hour) = (hours / 24, hours % 24);
    // Every month is taken to have 28 days.
    let (year, month, day) = (1971 + day / 336, day % 336 / 28 + 1, day % 28 + 1);
    let (from, to) = match second {
        false => (format!("{hour:02}:00"), format!("{:02}:00", hour + 1)),
        true => (format!("{hour:02}:30"), format!("{:02}:30", hour + 1)),
    };
    let date = format!("{year:04}-{month:02}-{day:02}");
    let json = format!(
        r#"{{"customer_id":"{customer}","resource":"{resource}","party_size":2,
             "starts_at":"{date}T{from}:00Z","ends_at":"{date}T{to}:00Z"}}"#
    );
    let request = client::post("/api/reservations", &json, false);
    (format!("{resource} {date} {from}"), request)
}

fn outcome(answer: std::result::Result<Answer, NoAnswer>) -> Outcome {
    match answer {
        Ok(answer) if answer.status == 201 => match id(&answer.body) {
            Some(id) => Outcome::Stored(id),
            None => Outcome::Unknown,
        },
        Ok(answer) if answer.status == 409 => Outcome::Conflict,
        Ok(answer) => Outcome::Refused(answer.status),
        Err(NoAnswer::NotSent(_)) => Outcome::NotSent,
        Err(NoAnswer::Unknown(_)) => Outcome::Unknown,
    }
}

/// The first field of the services' answers.
fn id(body: &[u8]) -> Option<String> {
    let body = std::str::from_utf8(body).ok()?;
    let (id, _) = body.strip_prefix(r#"{"id":""#)?.split_once('"')?;
    Some(id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_reservations_in_turn_want_one_slot_and_others_do_not() {
        let key = |number| reservation(number, "c").0;
        assert_eq!(key(0), "table-0 1971-01-01 00:00");
        assert_eq!(key(1), "table-0 1971-01-01 00:30");
        assert_eq!(key(2), "table-1 1971-01-01 00:00");
        assert_eq!(key(RESOURCES * 2 * 11 + 1), "table-0 1971-01-01 22:30");
        assert_eq!(key(RESOURCES * 2 * 12 * 28), "table-0 1971-02-01 00:00");
        assert_eq!(key(RESOURCES * 2 * 12 * 336), "table-0 1972-01-01 00:00");
    }
}
