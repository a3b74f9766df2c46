//! The service that is loaded: one that runs already, or a private one for each limit.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use local_postgres::Cluster;

use crate::http;
use crate::output::Result;
use crate::survive::stage::{DATABASE, Instance, Stage};

const CUSTOMERS: &str = include_str!("../../compare/customers.sql");
const SERVICE: &str = "customer";
const WATCHER: &str = "psql";

/// Looks at the server itself ten times a second: the moment, and the sessions that run something.
const WATCH: &str = "select extract(epoch from clock_timestamp()), count(*) from pg_stat_activity \
                     where state = 'active' and backend_type = 'client backend' and pid <> pg_backend_pid() \\watch 0.1\n";

/// A private PostgreSQL with ten thousand customers, and the service beside it.
pub(crate) struct Private {
    pub(crate) stage: Stage,
    watched: PathBuf,
}

impl Private {
    pub(crate) fn new(programs: &Path) -> Result<Self> {
        let stage = Stage::new(programs, Cluster::temporary()?)?;
        let watched = stage.write("sessions", "")?;
        Ok(Self { stage, watched })
    }

    /// Starts the service with this pool, and gives its port.
    pub(crate) fn start(&mut self, pool: &str, log: Option<PathBuf>) -> Result<u16> {
        let mut instance = Instance::new(SERVICE, SERVICE)?;
        pool.clone_into(&mut instance.pool);
        instance.log = log;
        self.stage.start_ready(&instance)?;
        if self.stage.sql("select count(*) from customer")? == "0" {
            self.stage.sql(CUSTOMERS)?;
        }
        Ok(instance.port)
    }

    pub(crate) fn end(&mut self) -> Result<()> {
        self.stage.end(SERVICE, "TERM").map(drop)
    }

    /// The address of the database, for programs.
    pub(crate) fn url(&self) -> String {
        self.stage.cluster().url(DATABASE)
    }

    /// Begins to look at the server's sessions.
    pub(crate) fn watch(&mut self) -> Result<()> {
        let (url, script) = (self.url(), self.stage.write("watch.sql", WATCH)?);
        let (watched, script) = (
            self.watched.display().to_string(),
            script.display().to_string(),
        );
        let arguments = ["-qAtX", "-d", &url, "-o", &watched, "-f", &script];
        self.stage.start_other(WATCHER, &arguments)
    }

    /// Ends looking. The active sessions since `began`, by seconds.
    pub(crate) fn watched(&mut self, began: SystemTime) -> Result<Vec<(f64, f64)>> {
        self.stage.end(WATCHER, "KILL")?;
        let began = began.duration_since(UNIX_EPOCH)?.as_secs_f64();
        let text = fs::read_to_string(&self.watched)?;
        let read = |line: &str| {
            let (at, count) = line.split_once('|')?;
            let at = at.parse::<f64>().ok()? - began;
            (at >= 0.0).then_some(())?;
            Some((at, count.parse().ok()?))
        };
        Ok(text.lines().filter_map(read).collect())
    }
}

/// What the object `pool` of `/metrics/json` says.
pub(crate) struct Pool(String);

impl Pool {
    pub(crate) fn of(port: u16) -> Result<Self> {
        let text = http::body(port, "/metrics/json").map_err(|reason| {
            format!(
                "no service with /metrics/json answers on port {port} ({reason}); start one, for instance with `cargo dev`"
            )
        })?;
        // The last member of the object.
        let pool = text
            .rsplit_once("\"pool\":{")
            .map(|(_, pool)| pool.to_owned());
        pool.map(Self)
            .ok_or_else(|| format!("/metrics/json on port {port} has no object `pool`").into())
    }

    /// The last number with this name: members of the pool itself come after those of its parts.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        number(self.0.rsplit_once(&format!("\"{name}\":"))?.1)
    }

    /// p99 of the waits of the last minute, in milliseconds.
    pub(crate) fn wait_p99(&self) -> Option<f64> {
        let (_, wait) = self.0.split_once("\"wait_ms\":{")?;
        number(wait.split_once("\"p99\":")?.1)
    }

    pub(crate) fn sentence(&self) -> Option<String> {
        let (_, text) = self.0.split_once("\"sentence\":\"")?;
        let (text, _) = text.split_once("\",\"")?;
        Some(text.replace("\\\"", "\""))
    }
}

fn number(text: &str) -> Option<f64> {
    let end = text.find([',', '}'])?;
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pools_own_numbers_are_told_from_those_of_its_parts() {
        let text = r#"{"idle":2,"in_use":8,"last_minute":{"acquired":3,"hold_ms":{"p50":1.0,"p99":2.0},"shed":5,
"timeouts":6,"wait_ms":{"p50":0.5,"p99":7.25}},"limit":10,"longest_holder":null,"sentence":"The pool is \"full\".",
"server":{"budget":77,"usable":97},"shed":50,"state":"full","timeouts":60,"waiting":4}}"#;
        let pool = Pool(text.replace('\n', ""));
        assert_eq!(pool.number("timeouts"), Some(60.0));
        assert_eq!(pool.number("shed"), Some(50.0));
        assert_eq!(pool.number("waiting"), Some(4.0));
        assert_eq!(pool.number("usable"), Some(97.0));
        assert_eq!(pool.wait_p99(), Some(7.25));
        assert_eq!(pool.sentence().unwrap(), "The pool is \"full\".");
    }
}
