//! The fleet: the instances that share a role of a server, as the server's list of sessions shows them.
//!
//! Each session says in its `application_name` whose it is: `shop #4f2a9c1b 10` is one of at most ten that this instance
//! of `shop` has; without a number it belongs to one whose limit follows the fleet, which says in the name of its control
//! connection how many it may have: `shop #4f2a9c1b auto 12`. `+` is one beside the limit.

use std::fmt;

use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::server_limits::ServerLimits;
use crate::share::View;

/// PostgreSQL cuts longer names, and with them what is said at their end.
const LONGEST_NAME: usize = 63 - " #00000000 auto 10000".len();

/// The server's sessions, and which of them are clients'; of those where that is not known, the how many-eth possible worker each is.
///
/// Of another role's sessions only few things can be read without pg_read_all_stats, and the kind is not among them. What runs beside
/// the clients takes no connection of theirs: from PostgreSQL 17 on the number of its place says so, which is beyond those of
/// clients. Before, what shares its leader's snapshot is taken for a parallel worker, as far as there can be so many; and
/// whoever streams to a standby, or from another server, can be read to do so.
const SESSION: &str = "\
    place as (
      select pg_stat_get_backend_pid(id) as pid, id from pg_stat_get_backend_idset() as id
       where current_setting('server_version_num')::int >= 170000),
    beside as (
      select pid from pg_stat_get_wal_senders() union all select pid from pg_stat_get_subscription(null) where pid is not null),
    known as (
      select a.*,
             case when backend_type is not null then backend_type = 'client backend'
                  when datid is null or usesysid is null or pid in (select pid from beside) then false
                  when id is not null then id < current_setting('max_connections')::int
                  when backend_xmin is null then true end as certain,
             row_number() over (partition by backend_type, datid, usesysid, application_name, backend_xmin::text order by pid) as nth
        from pg_stat_activity a left join place using (pid)),
    session as (
      select usesysid, datname, application_name, coalesce(certain, nth = 1 or null) as client,
             sum((certain is null and nth > 1)::int) over (order by pid) as worker
        from known)";

/// What a session is to its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    /// One of at most so many.
    Fixed(u32),
    /// One of a limit that follows the fleet.
    Following,
    /// The one that says what the instance may have open.
    Claiming(u32),
    /// One that is not part of the limit.
    Beside,
    /// The same, to find out whether a pooler is between.
    Asking,
}

/// One pool among those of its role.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    name: String,
    /// Eight hexadecimal digits.
    id: String,
}

impl Instance {
    /// A new one, of the program or service of this name.
    pub(crate) fn new(name: &str) -> Self {
        // What PostgreSQL shows as it is, and what needs no quoting.
        let plain = |c: char| match c {
            '\'' | '\\' => '?',
            ' ' | '!'..='~' => c,
            _ => '?',
        };
        Self {
            name: name.chars().map(plain).take(LONGEST_NAME).collect(),
            id: format!("{:08x}", fastrand::u32(..)),
        }
    }

    /// What tells it from all others.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The `application_name` of one of its sessions.
    pub(crate) fn name_of(&self, session: Session) -> String {
        match session {
            Session::Fixed(limit) => format!("{self} {limit}"),
            Session::Following => self.to_string(),
            Session::Claiming(claim) => format!("{self} auto {claim}"),
            Session::Beside | Session::Asking => format!("{self} +"),
        }
    }

    /// The question about the fleet, in one statement that gives one row.
    pub(crate) fn question(&self) -> String {
        // `reserved_connections` exists from PostgreSQL 16 on. Names are taken apart once for all sessions that share them.
        format!(
            "with {SESSION},
             named as (
               select usesysid = (select oid from pg_roles where rolname = session_user) as ours,
                      datname = current_database() as here, application_name as name, count(*)::int as sessions
                 from session
                where coalesce(client, worker > current_setting('max_worker_processes')::int)
                group by 1, 2, 3),
             client as (
               select *, case when ours and name ~ ' #[0-9a-f]{{8}}( [+]| [0-9]{{1,5}}| auto [0-9]{{1,5}})?$'
                              then split_part(name, ' #', -1) end as tag from named),
             instance as (
               select left(tag, 8) as id, bool_or(tag like '% auto %') as follows,
                      coalesce(sum(sessions) filter (where tag not like '% auto %' and tag not like '% +'), 0)::int as open,
                      coalesce(sum(sessions) filter (where tag like '% auto %' or tag like '% +'), 0)::int as beside,
                      max(case when tag like '% %' and tag not like '% +' then split_part(tag, ' ', -1)::int else 0 end) as claim
                 from client where tag is not null group by 1),
             taking as (select *, id = '{id}' as this, greatest(open, claim) + beside as taken from instance),
             stranger as (select * from client where tag is null)
             select current_setting('server_version'),
                    current_setting('max_connections')::int,
                    current_setting('superuser_reserved_connections')::int
                      + coalesce(current_setting('reserved_connections', true)::int, 0),
                    (select rolconnlimit from pg_roles where rolname = session_user),
                    (select datconnlimit from pg_database where datname = current_database()),
                    (select sum(sessions)::int from client),
                    (select coalesce(sum(sessions), 0)::int from stranger),
                    (select coalesce(sum(sessions), 0)::int from stranger where ours),
                    (select coalesce(sum(sessions), 0)::int from stranger where here),
                    count(*)::int,
                    (count(*) filter (where follows))::int,
                    (count(*) filter (where follows and id < '{id}'))::int,
                    coalesce(sum(taken) filter (where follows and not this), 0)::int,
                    coalesce(sum(taken) filter (where not follows and not this), 0)::int,
                    coalesce(sum(open) filter (where this), 0)::int,
                    coalesce(sum(beside) filter (where this), 0)::int,
                    (select coalesce(sum(sessions), 0)::int from client where ours),
                    (select coalesce(sum(sessions), 0)::int from client where here)
               from taking",
            id = self.id
        )
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{}", self.name, self.id)
    }
}

/// What the server allows, and who has what of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fleet {
    pub(crate) version: String,
    pub(crate) most: i32,
    pub(crate) reserved: i32,
    /// The role's own limit and the database's, -1 for none.
    pub(crate) of_role: i32,
    pub(crate) of_database: i32,
    /// All clients' sessions.
    pub(crate) sessions: i32,
    /// Those of nobody in the fleet: all, those of the role, and those of the database.
    pub(crate) strangers: [i32; 3],
    pub(crate) instances: i32,
    /// Those of them that follow, and how many of these come before this one.
    pub(crate) following: i32,
    pub(crate) rank: i32,
    /// What the others may have open, those that follow and those with a limit of their own.
    pub(crate) taken: i32,
    pub(crate) fixed: i32,
    /// What this one has open, within its limit and beside it.
    pub(crate) open: i32,
    pub(crate) beside: i32,
    /// All sessions of the role, and all in the database.
    pub(crate) of_role_open: i32,
    pub(crate) of_database_open: i32,
}

impl Fleet {
    pub(crate) fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let number = |index: usize| row.try_get::<i32, _>(index);
        Ok(Self {
            version: row.try_get(0)?,
            most: number(1)?,
            reserved: number(2)?,
            of_role: number(3)?,
            of_database: number(4)?,
            sessions: number(5)?,
            strangers: [number(6)?, number(7)?, number(8)?],
            instances: number(9)?,
            following: number(10)?,
            rank: number(11)?,
            taken: number(12)?,
            fixed: number(13)?,
            open: number(14)?,
            beside: number(15)?,
            of_role_open: number(16)?,
            of_database_open: number(17)?,
        })
    }

    /// What the server gives to this role, all instances together.
    pub(crate) fn usable(&self) -> i32 {
        let limits = [self.of_role, self.of_database];
        let limits = limits.into_iter().filter(|limit| *limit >= 0);
        limits.fold(self.most - self.reserved, i32::min)
    }

    /// Four fifths of that: the rest is for deployments and for psql.
    pub(crate) fn budget(&self) -> i32 {
        four_fifths(self.usable())
    }

    /// What all instances may take together, beside what strangers have: of the server, of the role and of the database.
    fn for_instances(&self) -> i32 {
        let limits = [self.most - self.reserved, self.of_role, self.of_database];
        let left = limits.into_iter().zip(self.strangers);
        let left = left
            .filter(|(limit, _)| *limit >= 0)
            .map(|(limit, strangers)| four_fifths(limit) - strangers);
        left.min().unwrap_or(0)
    }

    /// What this instance sees, as far as its share depends on it.
    pub(crate) fn view(&self) -> View {
        let count = |number: i32| u32::try_from(number).unwrap_or(0);
        View {
            budget: i64::from(self.for_instances() - self.fixed),
            members: count(self.following),
            rank: count(self.rank),
            taken: i64::from(self.taken),
            open: i64::from(self.open),
            beside: i64::from(self.beside),
        }
    }

    /// What the instances may have open together, with this one's limit.
    pub(crate) fn by_instances(&self, limit: i32) -> i32 {
        self.taken + self.fixed + limit.max(self.open) + self.beside
    }

    /// How many connections the instances could take more, or have too many if it is less than none.
    pub(crate) fn left(&self, limit: i32) -> i32 {
        self.for_instances() - self.by_instances(limit)
    }

    /// The same for everybody to see. This instance may have `limit` connections, and knows of so many that are `open`.
    pub(crate) fn limits(&self, limit: i32, open: i32) -> ServerLimits {
        let count = |number: i32| u32::try_from(number).unwrap_or(0);
        let others = self.others(open);
        ServerLimits {
            version: self.version.clone(),
            max_connections: count(self.most),
            usable: count(self.usable()),
            budget: count(self.budget()),
            others: count(others),
            room: count(self.budget() - others - limit),
            instances: count(self.instances).max(1),
            taken: count(self.budget() - self.left(limit)),
        }
    }

    /// Whether one more session would be refused.
    pub(crate) fn is_full(&self) -> bool {
        let limits = [
            (self.most - self.reserved, self.sessions),
            (self.of_role, self.of_role_open),
            (self.of_database, self.of_database_open),
        ];
        let mut limits = limits.into_iter();
        limits.any(|(limit, open)| limit >= 0 && open >= limit)
    }

    /// Sessions of others. Behind a pooler not all that are open can be seen to be this pool's.
    pub(crate) fn others(&self, open: i32) -> i32 {
        (self.sessions - open.max(self.open + self.beside)).max(0)
    }
}

/// Eighty percent.
fn four_fifths(limit: i32) -> i32 {
    limit * 4 / 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_length_leaves_room_for_what_is_said() {
        let instance = Instance::new(&"it's größe ".repeat(20));
        let longest = instance.name_of(Session::Claiming(10_000));
        assert_eq!(longest.len(), 63);
        assert!(longest.starts_with("it?s gr??e it?s"), "{longest}");
        assert_ne!(instance.id, Instance::new("").id);
    }

    #[test]
    fn the_role_and_the_database_may_have_less_than_the_server() {
        let fleet = Fleet {
            most: 100,
            reserved: 3,
            of_role: 50,
            of_database: -1,
            strangers: [20, 3, 20],
            ..Fleet::default()
        };
        assert_eq!((fleet.usable(), fleet.budget()), (50, 40));
        assert_eq!(fleet.view().budget, 37, "psql has 3 of the role's 40");
        let unlimited = Fleet {
            of_role: -1,
            ..fleet
        };
        assert_eq!(unlimited.view().budget, 57, "others have 20 of the 77");
    }
}
