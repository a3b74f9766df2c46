//! haproxy before two instances, as a deployment has it, except that it hides nothing: what fails is not tried again.

use std::process::Command;

use crate::http;
use crate::output::Result;
use crate::process::free_port;
use crate::survive::stage::{Instance, Stage};

/// Where it is; Debian has it in a folder that is not in everybody's PATH.
const PROGRAMS: [&str; 2] = ["haproxy", "/usr/sbin/haproxy"];

/// Its path, unless it is missing.
pub(crate) fn find() -> Result<&'static str> {
    let runs = |program: &&str| {
        let output = Command::new(program).arg("-v").output();
        output.is_ok_and(|output| output.status.success())
    };
    let found = PROGRAMS.into_iter().find(runs);
    found.ok_or_else(|| "haproxy is missing (Debian: apt install haproxy)".into())
}

pub(crate) struct Balancer {
    pub(crate) port: u16,
    /// Where it tells what it knows.
    state_port: u16,
}

impl Balancer {
    pub(crate) fn start(stage: &mut Stage, instances: &[Instance]) -> Result<Self> {
        let balancer = Self {
            port: free_port()?,
            state_port: free_port()?,
        };
        let file = stage.write("haproxy.cfg", &balancer.configuration(instances))?;
        stage.start_other(find()?, &["-f", &file.to_string_lossy()])?;
        for instance in instances {
            balancer.wait_until_up(stage, &instance.name)?;
        }
        Ok(balancer)
    }

    /// `no option redispatch` and `retries 0`: a request is sent once, to one instance.
    fn configuration(&self, instances: &[Instance]) -> String {
        let Self { port, state_port } = self;
        let servers = instances.iter().map(|instance| {
            let Instance { name, port, .. } = instance;
            format!("  server {name} 127.0.0.1:{port} check\n")
        });
        format!(
            "\
global
  maxconn 1000
defaults
  mode http
  retries 0
  no option redispatch
  option http-keep-alive
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  timeout check 1s
frontend all
  bind 127.0.0.1:{port}
  default_backend instances
backend instances
  balance roundrobin
  option httpchk GET /readyz
  default-server inter 200ms fall 1 rise 1
{}frontend state
  bind 127.0.0.1:{state_port}
  stats enable
  stats uri /
",
            servers.collect::<String>()
        )
    }

    pub(crate) fn wait_until_up(&self, stage: &mut Stage, name: &str) -> Result<()> {
        let what = format!("haproxy does not see {name} up");
        let port = self.state_port;
        stage.wait_until(&what, || {
            let table = http::body(port, "/;csv")?;
            match state(&table, name) {
                Some("UP") => Ok(()),
                other => Err(other.unwrap_or("unknown").to_owned()),
            }
        })?;
        Ok(())
    }
}

/// What the balancer's table says of a server. The first field of a row is the backend, the second the server.
fn state<'a>(table: &'a str, name: &str) -> Option<&'a str> {
    // Before the titles stands the length of the first chunk.
    let titles = table.lines().find(|line| line.starts_with("# "))?;
    let column = titles.split(',').position(|title| title == "status")?;
    let mut rows = table.lines().map(|row| row.split(','));
    let mut row = rows.find(|row| row.clone().nth(1) == Some(name))?;
    row.nth(column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_stands_in_its_column() {
        let table =
            "# pxname,svname,qcur,status,weight\ninstances,one,0,UP,1\ninstances,two,0,DOWN,1\n";
        assert_eq!(state(table, "one"), Some("UP"));
        assert_eq!(state(table, "two"), Some("DOWN"));
        assert_eq!(state(table, "three"), None);
    }
}
