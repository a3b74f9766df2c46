//! A fleet on virtual time: a server that counts sessions, and instances that run the pool's own code for their share.
//! Every instance always wants all it may have, which is the worst case.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::share::{Share, View};

/// How long the database takes at most to hear, and to be heard.
const DELAY: u64 = 20;
/// A look always ends.
const LONGEST_LOOK: Duration = Duration::from_secs(5);
/// How long a connection that is over the limit may still be in use.
const IN_USE: u64 = 200;

/// Something that happens to an instance, at a millisecond.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Start,
    /// As by SIGTERM: its sessions end.
    Stop,
    /// As by `kill -9`, or with its machine: the server notices after so long.
    Crash(u64),
    /// It is cut off from the server for so long. The server ends its sessions at once.
    CutOff(u64),
    /// Its looks take so long from now on, each way.
    Slow(u64),
    Look,
    Arrives {
        began: u64,
        claim: u32,
    },
    Answer {
        began: u64,
        view: Option<View>,
    },
    /// What was over the limit has come back.
    Returned,
    /// The server notices that it is gone.
    Noticed,
}

struct Member {
    share: Share,
    /// Counts its lives: what was sent in an earlier one is not heard.
    life: u32,
    alive: bool,
    /// What the server has of it.
    claim: Option<u32>,
    open: u32,
    cut_off_until: u64,
    delay: u64,
}

/// The server and its fleet.
pub(crate) struct Simulation {
    pub(crate) now: u64,
    pub(crate) budget: u32,
    members: Vec<Member>,
    /// By time, and in the order in which they were sent: to whom, in which of its lives, and what.
    events: BTreeMap<(u64, u64), (usize, u32, Event)>,
    sent: u64,
    random: fastrand::Rng,
    most: u32,
}

impl Simulation {
    /// Of so many instances at most, each with at most so many connections.
    pub(crate) fn new(seed: u64, instances: usize, most: u32, budget: u32) -> Self {
        let member = || Member {
            share: Share::new(most),
            life: 0,
            alive: false,
            claim: None,
            open: 0,
            cut_off_until: 0,
            delay: DELAY,
        };
        Self {
            now: 0,
            budget,
            members: (0..instances).map(|_| member()).collect(),
            events: BTreeMap::new(),
            sent: 0,
            random: fastrand::Rng::with_seed(seed),
            most,
        }
    }

    /// Has something happen at this millisecond.
    pub(crate) fn at(&mut self, time: u64, member: usize, event: Event) {
        let life = self.members[member].life;
        self.sent += 1;
        self.events.insert((time, self.sent), (member, life, event));
    }

    fn soon(&mut self, after: u64, member: usize, event: Event) {
        self.at(self.now + after, member, event);
    }

    /// All sessions, control connections counted.
    pub(crate) fn sessions(&self) -> u32 {
        let of = |one: &Member| one.open + u32::from(one.claim.is_some());
        self.members.iter().map(of).sum()
    }

    pub(crate) fn alive(&self) -> u32 {
        self.members.iter().filter(|one| one.alive).count() as u32
    }

    /// The smallest limit and the largest.
    pub(crate) fn limits(&self) -> (u32, u32) {
        let alive = self.members.iter().filter(|one| one.alive);
        let limits = alive.map(|one| one.share.limit());
        (limits.clone().min().unwrap_or(0), limits.max().unwrap_or(0))
    }

    /// Whether every instance has its part, and no part is larger than another by more than one.
    pub(crate) fn is_settled(&self) -> bool {
        let (least, most) = self.limits();
        let alive = self.alive();
        let all = self.budget.clamp(2 * alive, (self.most + 1) * alive);
        most - least <= 1 && self.sessions() == all
    }

    /// Goes on until this time, and shows each moment in which something happened.
    pub(crate) fn run_until(&mut self, end: u64, mut seen: impl FnMut(&Self)) {
        while let Some(first) = self.events.first_entry() {
            let (time, _) = *first.key();
            if time > end {
                break;
            }
            let (member, life, event) = first.remove();
            self.now = time;
            if life == self.members[member].life {
                self.happens(member, event);
                seen(self);
            }
        }
        self.now = end;
    }

    fn happens(&mut self, index: usize, event: Event) {
        let now = self.now;
        let member = &mut self.members[index];
        match event {
            Event::Start if !member.alive => {
                member.alive = true;
                member.share = Share::new(self.most);
                // Its first connection, for which nobody is asked.
                member.open = 1;
                self.soon(0, index, Event::Look);
            }
            Event::Stop if member.alive => self.end(index),
            Event::Crash(after) if member.alive => {
                member.alive = false;
                member.life += 1;
                self.soon(after, index, Event::Noticed);
            }
            Event::Noticed => self.end(index),
            Event::CutOff(time) if member.alive => {
                member.cut_off_until = now + time;
                (member.open, member.claim) = (0, None);
            }
            Event::Slow(delay) => member.delay = delay,
            Event::Look if member.alive => self.look(index),
            Event::Arrives { began, claim } => self.arrives(index, began, claim),
            Event::Answer { began, view } => self.answered(index, began, view),
            Event::Returned => member.open = member.open.min(member.share.limit()),
            _ => {}
        }
    }

    fn end(&mut self, index: usize) {
        let member = &mut self.members[index];
        (member.alive, member.open, member.claim) = (false, 0, None);
        member.life += 1;
    }

    fn look(&mut self, index: usize) {
        let began = self.now;
        let member = &self.members[index];
        let claim = member.share.claim().max(member.open);
        let left = member.share.time_left(Duration::from_millis(began));
        let patience = left.min(LONGEST_LOOK).as_millis() as u64;
        let there = self.random.u64(0..=member.delay);
        if self.now < member.cut_off_until || there >= patience {
            return self.soon(patience, index, Event::Answer { began, view: None });
        }
        self.soon(there, index, Event::Arrives { began, claim });
    }

    fn arrives(&mut self, index: usize, began: u64, claim: u32) {
        let member = &mut self.members[index];
        let back = self.random.u64(0..=member.delay);
        if self.now < member.cut_off_until {
            return self.soon(1000, index, Event::Answer { began, view: None });
        }
        member.claim = Some(claim);
        let view = self.view(index);
        self.soon(
            back,
            index,
            Event::Answer {
                began,
                view: Some(view),
            },
        );
    }

    /// What the server's list of sessions says to this one.
    fn view(&self, index: usize) -> View {
        let (mut members, mut rank, mut taken) = (0, 0, 0);
        for (other, one) in self.members.iter().enumerate() {
            let follows = one.claim.is_some();
            members += u32::from(follows);
            rank += u32::from(follows && other < index);
            if other != index {
                taken += one.open.max(one.claim.unwrap_or(0)) + u32::from(follows);
            }
        }
        View {
            budget: i64::from(self.budget),
            members,
            rank,
            taken: i64::from(taken),
            open: i64::from(self.members[index].open),
            beside: 1,
        }
    }

    fn answered(&mut self, index: usize, began: u64, view: Option<View>) {
        let now = Duration::from_millis(self.now);
        let in_use = self.random.u64(0..=IN_USE);
        let jitter = 0.8 + 0.4 * self.random.f64();
        let cut_off = self.now < self.members[index].cut_off_until;
        let member = &mut self.members[index];
        let gone = member.share.time_left(now).is_zero();
        match view {
            // Who has waited for too long has given up.
            Some(view) if !gone && !cut_off => {
                member.share.saw(&view, Duration::from_millis(began));
            }
            _ => member.share.saw_nothing(now),
        }
        let pause = member.share.pause().mul_f64(jitter);
        let pause = pause.min(member.share.time_left(now)).as_millis() as u64;
        if !cut_off {
            // Opened at once; given back when the statement is over.
            member.open = member.open.max(member.share.may_open());
        }
        if member.open > member.share.limit() {
            self.soon(in_use, index, Event::Returned);
        }
        self.soon(pause, index, Event::Look);
    }
}
