//! The requests whose cost is measured, and the clients that send them.

use std::thread;

use crate::output::Result;
use crate::survive::client::{self, Client};

/// Connections, each with one request at a time. With five the counts of two runs differ least: a row's by 0.3 %, with
/// twenty by 1 %.
const CLIENTS: u32 = 5;

/// What is asked for.
pub(crate) enum Request {
    /// `GET` of this path.
    Get(String),
    /// A customer with an address of its own.
    Customer,
    /// An hour of a resource of its own, for the customer of this id.
    Booking(String),
}

impl Request {
    fn bytes(&self, number: u32) -> Vec<u8> {
        match self {
            Self::Get(path) => client::get(path, false),
            Self::Customer => {
                let json = format!(r#"{{"name":"Cost","email":"cost.{number:07}@example.com"}}"#);
                client::post("/api/customers", &json, false)
            }
            Self::Booking(customer) => {
                let json = format!(
                    r#"{{"customer_id":"{customer}","resource":"table-{number:07}","party_size":2,"starts_at":"2026-01-01T18:00:00Z","ends_at":"2026-01-01T19:00:00Z"}}"#
                );
                client::post("/api/reservations", &json, false)
            }
        }
    }
}

/// Connections to one service, which stay open from the first request to the last.
pub(crate) struct Clients {
    clients: Vec<Client>,
    /// Of the next request.
    number: u32,
}

impl Clients {
    pub(crate) fn new(port: u16) -> Self {
        let clients = (0..CLIENTS).map(|_| Client::new(port));
        Self {
            clients: clients.collect(),
            number: 0,
        }
    }

    /// Sends so many requests, as many on each connection; an answer with another status is an error.
    pub(crate) fn send(&mut self, request: &Request, status: u16, requests: u32) -> Result<()> {
        let (first, each) = (self.number, requests / CLIENTS);
        self.number += each * CLIENTS;
        let outcomes = thread::scope(|scope| {
            let threads: Vec<_> = (first..)
                .step_by(each as usize)
                .zip(&mut self.clients)
                .map(|(first, client)| {
                    scope.spawn(move || send_some(client, request, status, first..first + each))
                })
                .collect();
            let outcomes = threads.into_iter().map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err("a thread of the load has panicked".to_owned()))
            });
            outcomes.collect::<std::result::Result<(), String>>()
        });
        Ok(outcomes?)
    }
}

fn send_some(
    client: &mut Client,
    request: &Request,
    status: u16,
    numbers: std::ops::Range<u32>,
) -> std::result::Result<(), String> {
    for number in numbers {
        let answer = client
            .send(&request.bytes(number))
            .map_err(|none| none.reason())?;
        if answer.status != status {
            let body = String::from_utf8_lossy(&answer.body);
            return Err(format!(
                "a request was answered with {}, not {status}: {body}",
                answer.status
            ));
        }
    }
    Ok(())
}
