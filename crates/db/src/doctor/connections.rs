//! What the pool takes of the server's connections, in words.

use crate::config::Config;
use crate::doctor::checks::Check;
use crate::fleet::Fleet;

/// What the pool may take and takes.
pub(crate) fn summary(
    config: &Config,
    limit: i32,
    open: i32,
    fleet: &Fleet,
    pooled: bool,
) -> String {
    let (budget, address) = (fleet.budget(), config.address());
    if pooled {
        return format!(
            "PostgreSQL {} behind a pooler at {address}: this pool takes up to {limit} connections to the pooler, which has \
             {} of the server's {} now, those of all others included",
            fleet.version,
            fleet.sessions,
            fleet.usable()
        );
    }
    let (limit, share) = match config.follows() {
        // Not what it has in its first seconds.
        true => (
            fleet.view().share(config.connection_limit_max) as i32,
            ", its share,",
        ),
        false => (limit, ""),
    };
    let instances = match fleet.instances.max(1) {
        1 => "this instance is alone".to_owned(),
        more => format!("this is one of {more} instances"),
    };
    format!(
        "PostgreSQL {} at {address}: this pool takes up to {limit}{share} of the {budget} connections that all instances \
         together may take (80 % of {}); {instances}; others have {} open",
        fleet.version,
        fleet.usable(),
        fleet.others(open),
    )
}

/// What the fleet takes of the server, and what to do if that is too much.
pub(crate) fn max_connections(config: &Config, limit: i32, fleet: &Fleet, pooled: bool) -> Check {
    const NAME: &str = "max_connections";
    if pooled {
        let decides = "the pooler decides how many the server has: see its default_pool_size";
        return Check::unless(NAME, None, decides);
    }
    if config.follows() {
        return share(fleet);
    }
    let (budget, strangers) = (fleet.budget(), fleet.strangers[0]);
    let by_instances = fleet.by_instances(limit);
    let what = match fleet.instances.max(1) {
        1 => format!("this instance may take {by_instances}"),
        more => format!("{more} instances may take {by_instances}"),
    };
    let change = (fleet.left(limit) < 0).then(|| {
        format!(
            "{what} connections, and others have {strangers} open: more than the {budget} there are for all: lower \
             connection_limit or the number of instances, set connection_limit=auto, or raise max_connections"
        )
    });
    let room = format!(
        "{what} connections, and others have {strangers} open, within the {budget} there are for all"
    );
    Check::unless(NAME, change, room)
}

/// What there is to share. Each instance takes two at least: one, and its control connection.
fn share(fleet: &Fleet) -> Check {
    let (instances, left) = (i64::from(fleet.following.max(1)), fleet.view().budget);
    let change = (left < 2 * instances).then(|| {
        format!(
            "{left} connections are left for {instances} with connection_limit=auto, and each takes two at least: start fewer \
             instances, lower the limits of others, or raise max_connections"
        )
    });
    let budget = fleet.budget();
    let room =
        format!("{left} of the {budget} there are for all are left to share, for {instances}");
    Check::unless("max_connections", change, room)
}
