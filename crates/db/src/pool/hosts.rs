//! Which of several hosts a connection is opened to: the one that was right last or, when it does not answer soon, is gone or
//! has changed, another one that fits. All connections of a pool are with one server.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sqlx::PgConnection;
use tokio::time::timeout;

use crate::config::TargetSessionAttrs;
use crate::config::hosts::Host;
use crate::connect_error::ConnectError;
use crate::fleet::Session;
use crate::pool::closing::evict;
use crate::pool::first_question::{self, First};
use crate::pool::handshake::{establish, tell_parts};
use crate::pool::state::Shared;

/// Whom the others do not wait for any longer: a host that is not there, or slow.
const HEAD_START: Duration = Duration::from_millis(250);

/// A connection to a server that fits.
pub(crate) struct Reached {
    pub(crate) inner: PgConnection,
    /// What it was asked, where that was needed to know whether it fits.
    pub(crate) first: Option<First>,
    /// The state's when it began to be opened, or once it had shown that the server is another one.
    pub(crate) generation: u64,
}

impl Reached {
    /// What the first question says, which is asked now if it has not been.
    pub(crate) async fn first(&mut self, pool: &Shared) -> Result<First, sqlx::Error> {
        match self.first.take() {
            Some(first) => Ok(first),
            None => first_question::ask(pool, &mut self.inner).await,
        }
    }
}

/// Opens a connection to the host that fits. One host is asked nothing.
pub(crate) async fn reach(pool: &Shared, session: Session) -> Result<Reached, ConnectError> {
    if pool.config.looks_at_role() {
        return race(pool, session).await;
    }
    let generation = pool.state().generation;
    Ok(Reached {
        inner: establish(pool, &pool.config.hosts()[0], session).await?,
        first: None,
        generation,
    })
}

/// Asks one of the hosts what it is.
async fn attempt(pool: &Shared, host: &Host, session: Session) -> Result<Reached, ConnectError> {
    let generation = pool.state().generation;
    let mut inner = establish(pool, host, session).await?;
    let first = first_question::ask(pool, &mut inner).await;
    let failed = |source| ConnectError::new(&pool.config.only(host), source);
    Ok(Reached {
        first: Some(first.map_err(failed)?),
        inner,
        generation,
    })
}

/// Tries one host after the other, each with a head start. Those that did not fit are asked again for as long as another one
/// has not answered: they may have been promoted.
async fn race(pool: &Shared, session: Session) -> Result<Reached, ConnectError> {
    let hosts = pool.config.hosts();
    let last = pool.servers.last();
    let mut next: VecDeque<usize> = (0..hosts.len()).map(|i| (last + i) % hosts.len()).collect();
    let mut errors: Vec<Option<ConnectError>> = hosts.iter().map(|_| None).collect();
    let (mut running, mut spare) = (FuturesUnordered::new(), None);
    let start = |place: usize| async move { (place, attempt(pool, &hosts[place], session).await) };
    running.extend(next.pop_front().map(start));
    loop {
        match timeout(HEAD_START, running.next()).await {
            Ok(Some((place, reached))) => {
                match reached.and_then(|reached| judge(pool, place, reached)) {
                    Ok(Verdict::Fits(reached)) => return Ok(reached),
                    Ok(Verdict::Spare(reached)) => spare = Some(reached),
                    Err(error) => errors[place] = Some(error),
                }
                running.extend(next.pop_front().map(start));
            }
            Ok(None) => break,
            Err(_) if next.is_empty() && spare.is_some() => break,
            Err(_) => {
                if next.is_empty() {
                    let ended = errors.iter_mut().enumerate();
                    next.extend(ended.filter_map(|(place, error)| error.take().map(|_| place)));
                }
                running.extend(next.pop_front().map(start));
            }
        }
    }
    let errors = errors.into_iter().flatten().collect();
    spare.ok_or_else(|| ConnectError::no_host(&pool.config, errors))
}

enum Verdict {
    Fits(Reached),
    /// To be had if there is nothing better.
    Spare(Reached),
}

fn judge(pool: &Shared, place: usize, mut reached: Reached) -> Result<Verdict, ConnectError> {
    let role = reached
        .first
        .as_ref()
        .map(|first| first.role)
        .unwrap_or_default();
    let wanted = pool.config.target_session_attrs;
    let host = &pool.config.hosts()[place];
    if !pool.servers.is_current(role.timeline) {
        let seen = pool.servers.timeline();
        let why = format!(
            "has been replaced: it is at timeline {}, and {seen} was seen",
            role.timeline
        );
        return Err(ConnectError::unfit(host, &why));
    }
    match role.unfit_for(wanted) {
        Some(_) if wanted == TargetSessionAttrs::PreferStandby => Ok(Verdict::Spare(reached)),
        Some(why) => Err(ConnectError::unfit(host, why)),
        None => {
            if pool.servers.found(place, role.timeline) {
                move_to(pool, place);
                reached.generation = pool.state().generation;
            }
            Ok(Verdict::Fits(reached))
        }
    }
}

/// All connections are opened anew, at the host at this place.
fn move_to(pool: &Shared, place: usize) {
    tracing::warn!(
        event = "failover",
        timeline = pool.servers.timeline(),
        "the server is {} now: all connections are opened anew",
        pool.config.hosts()[place]
    );
    evict(pool);
    tell_parts(pool);
}
