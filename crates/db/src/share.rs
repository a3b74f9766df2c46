//! How many connections one instance of a fleet may take, by what it sees of the others. No clock and no database in here,
//! so that a thousand instances can be simulated with this very code (`examples/simulate.rs`).
//!
//! Every instance says at the server what it may have open (its claim) before it looks at what the others say. It grows
//! only to what it had claimed before it looked, and only as far as all claims together fit: of two that grow at the same
//! time, the one that claimed later sees the other's claim. So growing never takes the fleet over its budget. What does is
//! an instance that joins a fleet that has taken everything: it has one connection at once, and the others give theirs back
//! when they next look.

use std::time::Duration;

/// The fleet together asks the server no more often than this, because its answer takes longer with each session (30 ms
/// with 1,000 instances and 4,000 sessions), and each instance once a second at most.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
const SHORTEST: Duration = Duration::from_secs(1);
/// A claim that was made is looked at again so soon.
const VERIFY: Duration = Duration::from_millis(100);
/// A larger share has to last for so many looks before it is claimed. An instance that has not seen the others for as long
/// may be gone for them, and they may have taken what it had: until it sees them it opens no new connection but one.
const LOOKS: u32 = 3;

/// What an instance sees of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// What all that follow may take together.
    pub(crate) budget: i64,
    /// How many they are, this one among them.
    pub(crate) members: u32,
    /// The place of this one in their order.
    pub(crate) rank: u32,
    /// What the others of them may have open: the claim of each, or what it has open if that is more.
    pub(crate) taken: i64,
    /// What this one has open within its limit, and beside it.
    pub(crate) open: i64,
    pub(crate) beside: i64,
}

impl View {
    /// The limit of this instance when all have their share, the shares as equal as whole connections can be.
    pub(crate) fn share(&self, most: u32) -> u32 {
        let (all, members) = (self.budget.max(0), i64::from(self.members.max(1)));
        let share = all / members + i64::from(i64::from(self.rank) < all % members);
        self.within_limit(share).clamp(1, most)
    }

    /// What is left of so many for the limit.
    fn within_limit(&self, connections: i64) -> u32 {
        u32::try_from(connections - self.beside).unwrap_or(0)
    }
}

/// The limit of one instance.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    most: u32,
    limit: u32,
    claim: u32,
    /// The claim was raised by the last look, and nothing of it has been taken yet.
    claimed: bool,
    /// The smallest of the larger shares that were seen, and since when there is a larger one.
    larger: Option<(u32, Duration)>,
    /// When the last look began that was answered.
    seen: Option<Duration>,
    members: u32,
}

impl Share {
    /// That of an instance that has not seen the fleet yet, and will never have more than `most`.
    pub(crate) fn new(most: u32) -> Self {
        Self {
            most,
            limit: 1,
            claim: 1,
            claimed: false,
            larger: None,
            seen: None,
            members: 1,
        }
    }

    /// How many connections the instance may have now, beside those that are not part of its limit.
    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// Up to how many it may open new ones: as long as it does not see the others, those that break are not replaced.
    pub(crate) fn may_open(&self) -> u32 {
        self.seen.map_or(1, |_| self.limit)
    }

    /// What it has to say before it looks.
    pub(crate) fn claim(&self) -> u32 {
        self.claim
    }

    /// How long to wait before the next look.
    pub(crate) fn pause(&self) -> Duration {
        match self.claimed {
            true => VERIFY,
            false => self.period(),
        }
    }

    /// How long it is from now on until the instance counts as gone, if nothing is seen meanwhile. Without end if it does.
    pub(crate) fn time_left(&self, now: Duration) -> Duration {
        let left = |seen: Duration| (seen + self.period() * LOOKS).saturating_sub(now);
        self.seen.map_or(Duration::MAX, left)
    }

    fn period(&self) -> Duration {
        (BETWEEN_LOOKS * self.members).max(SHORTEST)
    }

    /// Takes in a look that began at this time, after the claim was made.
    pub(crate) fn saw(&mut self, view: &View, began: Duration) {
        let joins = self.seen.replace(began).is_none();
        if joins {
            // What is still open was counted by all.
            let open = u32::try_from(view.open).unwrap_or(0);
            self.limit = open.clamp(1, self.most);
        }
        self.members = view.members.max(1);
        let share = view.share(self.most);
        let claimed = std::mem::take(&mut self.claim);
        self.claimed = false;
        if share <= self.limit {
            // At once.
            (self.limit, self.claim, self.larger) = (share, share, None);
            return;
        }
        let possible = view.within_limit(view.budget - view.taken).min(share);
        self.limit = self.limit.max(possible.min(claimed));
        let (least, since) = match self.larger.take() {
            Some((least, since)) if least > self.limit => (least.min(share), since),
            _ => (share, began),
        };
        self.claim = match began - since >= self.period() * LOOKS {
            true => least,
            // Enough to begin with, and yet not what others need who join at the same time.
            false if joins => possible / 4,
            false => claimed.min(share),
        }
        .max(self.limit);
        self.claimed = self.claim > claimed.max(self.limit);
        self.larger = Some((least, since));
    }

    /// Nothing was seen until now.
    pub(crate) fn saw_nothing(&mut self, now: Duration) {
        if self.seen.is_none() || self.time_left(now).is_zero() {
            (self.seen, self.larger, self.claim) = (None, None, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(budget: i64) -> View {
        View {
            budget,
            members: 1,
            rank: 0,
            taken: 0,
            open: 0,
            beside: 1,
        }
    }

    const fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// The limit after looks at these times that all show the same.
    fn after(share: &mut Share, view: &View, looks: &[u64]) -> u32 {
        for look in looks {
            share.saw(view, at(*look));
        }
        share.limit()
    }

    #[test]
    fn one_instance_begins_with_a_quarter_and_soon_has_all_but_its_control_connection() {
        let mut share = Share::new(100);
        assert_eq!(after(&mut share, &alone(77), &[0]), 1, "nothing is claimed");
        assert_eq!((share.claim(), share.pause()), (19, VERIFY));
        assert_eq!(after(&mut share, &alone(77), &[100, 1100, 2100]), 19);
        assert_eq!(after(&mut share, &alone(77), &[3100]), 19, "claimed only");
        assert_eq!(after(&mut share, &alone(77), &[3200]), 76);
    }

    #[test]
    fn it_shrinks_at_once_and_grows_when_a_larger_share_has_lasted() {
        let mut share = Share::new(50);
        let full = after(&mut share, &alone(77), &[0, 100, 3100, 3200]);
        assert_eq!(full, 50, "connection_limit_max");
        let two = View {
            members: 2,
            rank: 1,
            taken: 2,
            ..alone(77)
        };
        assert_eq!(after(&mut share, &two, &[4200]), 37);
        assert_eq!(after(&mut share, &alone(77), &[5200, 6200, 7200]), 37);
        let briefly = after(&mut share, &two, &[7300]);
        assert_eq!(briefly, 37, "the other one is back");
        let again = after(&mut share, &alone(77), &[8300, 9300, 10_300, 11_200]);
        assert_eq!(again, 37);
        assert_eq!(after(&mut share, &alone(77), &[11_300, 11_400]), 50);
    }

    #[test]
    fn it_takes_no_more_than_the_others_leave_and_never_less_than_one() {
        let mut share = Share::new(50);
        let late = View {
            members: 2,
            rank: 1,
            taken: 70,
            ..alone(77)
        };
        let left = after(&mut share, &late, &[0, 100, 3100, 3200, 3300]);
        assert_eq!(
            left, 6,
            "37 are its share, and the other one has not shrunk"
        );
        assert_eq!(share.claim(), 37, "which it says");
        assert_eq!(share.pause(), SHORTEST, "and does not ask for more often");
        let crowded = View {
            members: 90,
            rank: 80,
            taken: 178,
            ..alone(77)
        };
        assert_eq!(after(&mut share, &crowded, &[4300]), 1);
        assert_eq!(after(&mut share, &alone(-20), &[5300]), 1);
    }

    #[test]
    fn who_has_seen_nothing_for_long_opens_nothing_more() {
        let mut share = Share::new(50);
        let _ = after(&mut share, &alone(77), &[0, 100, 3100, 3200]);
        share.saw_nothing(at(6100));
        assert_eq!(share.may_open(), 50, "a restart takes less");
        assert_eq!(share.time_left(at(6100)), at(100));
        share.saw_nothing(at(6200));
        let states = |share: &Share| (share.limit(), share.may_open(), share.claim());
        assert_eq!(states(&share), (50, 1, 1), "what is open stays");
        let some = View {
            open: 3,
            ..alone(77)
        };
        share.saw(&some, at(8000));
        assert_eq!(states(&share), (3, 3, 12), "it joins anew");
    }

    #[test]
    fn a_large_fleet_asks_no_more_often_together() {
        let mut share = Share::new(50);
        let thousand = View {
            members: 1000,
            rank: 3,
            taken: 2000,
            ..alone(4000)
        };
        share.saw(&thousand, at(0));
        share.saw(&thousand, at(100));
        assert_eq!(share.period(), Duration::from_secs(100));
    }
}
