//! Asking the services, and the server what that took.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use local_postgres::Cluster;

use crate::fill;
use crate::filters::lists::{self, List};
use crate::http::{self, Answer};
use crate::output::Result;
use crate::process::{Event, Process, Processes, free_port};
use crate::ready;

const DATABASE: &str = "filters";
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const WARM_UP: usize = 10;
const ROUNDS: usize = 5;
const REQUESTS: usize = 20;
/// How many pages of 100 rows before the deep page.
const DEEP: usize = 100;

/// What a page costs the server, and the rows it has.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) milliseconds: f64,
    pub(crate) rows: usize,
}

/// Each list with its first page and its deep one, if it is so long.
pub(crate) type Measured = Vec<(List, [Option<Cost>; 2])>;

/// Every list of a database with so many reservations.
pub(crate) fn all(programs: &Path, rows: u64) -> Result<Measured> {
    let cluster = start()?;
    let url = cluster.url(DATABASE);
    fill::migrate(programs, &url)?;
    // Five times as fast without; no list uses its index.
    cluster.sql(
        DATABASE,
        "alter table reservation drop constraint reservation_no_overlap",
    )?;
    fill::add(programs, &url, rows)?;
    let mut services = Services::start(programs, &url)?;
    let lists = lists::all(&cluster, DATABASE)?;
    let measured = lists.into_iter().map(|list| {
        let port = services.ports[list.service];
        let costs = both_pages(&cluster, port, &list.path)?;
        Ok((list, costs))
    });
    let measured = measured.collect();
    services.processes.stop();
    measured
}

/// A server that counts what each statement costs.
fn start() -> Result<Cluster> {
    let settings = [
        ("shared_preload_libraries", "pg_stat_statements"),
        ("pg_stat_statements.track_planning", "on"),
    ];
    let missing = |error: local_postgres::Error| {
        format!(
            "{error}\n\
             This takes PostgreSQL's module pg_stat_statements. Debian has it in the server's package, Fedora in \
             postgresql-contrib."
        )
    };
    let cluster = Cluster::temporary_with(&settings).map_err(missing)?;
    cluster.create_database(DATABASE)?;
    cluster
        .sql(DATABASE, "create extension pg_stat_statements")
        .map_err(missing)?;
    Ok(cluster)
}

/// Both services, ready.
struct Services {
    processes: Processes,
    ports: HashMap<&'static str, u16>,
}

impl Services {
    fn start(programs: &Path, url: &str) -> Result<Self> {
        let mut services = Self {
            processes: Processes::new(),
            ports: HashMap::new(),
        };
        for name in ["customer", "reservation"] {
            let port = free_port()?;
            let process = Process::new(name, &programs.join(name), &[], url).port(port);
            services.processes.start(process)?;
            services.ports.insert(name, port);
            services.wait(port)?;
        }
        Ok(services)
    }

    fn wait(&mut self, port: u16) -> Result<()> {
        let deadline = Instant::now() + LONGEST_WAIT;
        while let Err(reason) = ready::ask(port) {
            let ended = matches!(
                self.processes.next(Some(Duration::from_millis(20))),
                Some(Event::Ended { .. })
            );
            if ended || Instant::now() > deadline {
                self.processes.show_output();
                return Err(format!("a service is not ready: {reason}").into());
            }
        }
        Ok(())
    }
}

fn both_pages(cluster: &Cluster, port: u16, path: &str) -> Result<[Option<Cost>; 2]> {
    let first = Some(cost(cluster, port, path)?);
    let deep = match deep_page(port, path)? {
        None => None,
        Some(path) => Some(cost(cluster, port, &path)?),
    };
    Ok([first, deep])
}

/// The way to a page of 20 rows as far on as the list goes, at most [`DEEP`] pages of 100.
fn deep_page(port: u16, path: &str) -> Result<Option<String>> {
    for limit in ["limit=100", "limit=20"] {
        let mut deepest = None;
        let mut next = Some(format!("{path}&{limit}"));
        for _ in 0..DEEP {
            let Some(page) = next else { break };
            next = ask(port, &page)?.next().map(str::to_owned);
            deepest = next.clone().or(deepest);
        }
        if let Some(page) = deepest {
            return Ok(Some(page.replace(limit, "limit=20")));
        }
    }
    Ok(None)
}

/// The mean of some requests, in the round that was disturbed least.
fn cost(cluster: &Cluster, port: u16, path: &str) -> Result<Cost> {
    let mut rows = 0;
    for _ in 0..WARM_UP {
        rows = ask(port, path)?.body.matches("{\"id\":").count();
    }
    let mut milliseconds = f64::INFINITY;
    for _ in 0..ROUNDS {
        milliseconds = milliseconds.min(mean(cluster, port, path)?);
    }
    Ok(Cost { milliseconds, rows })
}

fn mean(cluster: &Cluster, port: u16, path: &str) -> Result<f64> {
    cluster.sql(DATABASE, "select pg_stat_statements_reset()")?;
    for _ in 0..REQUESTS {
        ask(port, path)?;
    }
    // What every list selects, and nothing else that the services send by themselves.
    let sql = format!(
        "select sum(total_plan_time + total_exec_time) / {REQUESTS} from pg_stat_statements
         where query like '%created_at, updated_at%' having sum(calls) = {REQUESTS}"
    );
    let time = cluster.sql(DATABASE, &sql)?;
    let uncounted =
        |_| format!("{path}: pg_stat_statements has not counted its {REQUESTS} calls").into();
    time.trim().parse().map_err(uncounted)
}

fn ask(port: u16, path: &str) -> Result<Answer> {
    let answer = http::get(port, path)?;
    match answer.is_ok() {
        true => Ok(answer),
        false => Err(format!("GET {path}: {} {}", answer.status(), answer.body).into()),
    }
}
