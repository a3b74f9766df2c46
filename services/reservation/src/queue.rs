//! Where writers wait: in the process, in a line for each thing that can be locked, and without a connection.
//!
//! A lock that is waited for in the database keeps a connection for so long, and a few who wait keep them all. So nobody
//! waits there: a statement takes its locks or says at once which one somebody else has. Then the writer stands in the line
//! of that one thing, and in no other, so it stalls nobody who wants something else.
//!
//! What is right does not depend on the lines: the locks and the constraints of the database say so. The lines only keep
//! the writers of one instance from all asking at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use server::{Error, Result};
use tokio::sync::{Mutex as Line, OwnedMutexGuard};
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long a writer waits in all, in lines and between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// The first pause between two attempts of one writer; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// The longest pause: a lock that another instance gives back is noticed within so long.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// What came of an attempt to write.
pub(crate) enum Attempt<T> {
    Done(T),
    /// Nothing was written, because somebody else has locked this.
    Locked(String),
}

/// The lines of one instance. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Queue(Arc<Mutex<Lines>>);

/// A line for each name that anybody waits for or writes to now; who has the lock of it is the first.
type Lines = HashMap<String, Arc<Line<()>>>;

impl Queue {
    /// Attempts to write, first in the line of this name and then in that of what was locked, until it is done.
    ///
    /// # Errors
    /// The attempt's own, or 503 if what it wants stays locked.
    pub(crate) async fn write<T, F>(&self, name: &str, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<Attempt<T>>>,
    {
        let deadline = Instant::now() + LONGEST_WAIT;
        let mut turn = self.turn(name.to_owned(), deadline).await?;
        // None before the first attempt in another line: the writers of this instance have waited for each other there.
        let mut pause = Duration::ZERO;
        loop {
            let locked = match attempt().await? {
                Attempt::Done(done) => return Ok(done),
                Attempt::Locked(locked) => locked,
            };
            if locked != turn.place.name {
                drop(turn);
                turn = self.turn(locked, deadline).await?;
            }
            // Of a random length, so that two instances do not meet again and again.
            let until = Instant::now() + pause.mul_f64(0.5 + fastrand::f64());
            if until >= deadline {
                return Err(busy(&turn.place.name));
            }
            sleep_until(until).await;
            pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        }
    }

    /// Waits in the line of this name until nobody is before.
    async fn turn(&self, name: String, deadline: Instant) -> Result<Turn> {
        let place = self.place(name);
        match timeout_at(deadline, place.line.clone().lock_owned()).await {
            Ok(first) => Ok(Turn {
                _first: first,
                place,
            }),
            Err(_) => Err(busy(&place.name)),
        }
    }

    fn place(&self, name: String) -> Place {
        let line = self.lines().entry(name.clone()).or_default().clone();
        Place {
            queue: self.clone(),
            name,
            line,
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first place of a line. It ends before the place does, as fields are dropped in their order.
struct Turn {
    _first: OwnedMutexGuard<()>,
    place: Place,
}

/// A place in a line, which ends with the last of them.
struct Place {
    queue: Queue,
    name: String,
    line: Arc<Line<()>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.queue.lines();
        // Two are that of the map and this one; nobody can take another one meanwhile.
        if Arc::strong_count(&self.line) == 2 {
            lines.remove(&self.name);
        }
    }
}

fn busy(name: &str) -> Error {
    let seconds = LONGEST_WAIT.as_secs();
    let detail = format!(
        "Others have been writing to {name} for {seconds} seconds. Nothing was changed; try again shortly."
    );
    Error::busy(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn writers_of_one_thing_take_turns_and_leave_nothing_behind() {
        let queue = Queue::default();
        let deadline = Instant::now() + LONGEST_WAIT;
        let first = queue.turn("a".to_owned(), deadline).await;
        let other = queue.turn("b".to_owned(), deadline).await;
        assert!(first.is_ok() && other.is_ok());
        let soon = Instant::now() + Duration::from_millis(10);
        assert!(queue.turn("a".to_owned(), soon).await.is_err());
        assert_eq!(queue.lines().len(), 2);
        drop(first);
        let second = queue.turn("a".to_owned(), soon).await;
        assert!(second.is_ok());
        drop((second, other));
        assert!(queue.lines().is_empty());
    }

    #[tokio::test]
    async fn who_waits_for_one_thing_holds_no_other() {
        let queue = Queue::default();
        let waits = queue.write("a", || async {
            assert!(queue.lines().len() == 1);
            Ok::<Attempt<()>, _>(Attempt::Locked("b".to_owned()))
        });
        let soon = Instant::now() + Duration::from_millis(500);
        tokio::select! {
            _ = waits => unreachable!("it stays locked for longer"),
            turn = async {
                tokio::task::yield_now().await;
                queue.turn("a".to_owned(), soon).await
            } => assert!(turn.is_ok()),
        }
        assert!(queue.lines().is_empty());
    }
}
