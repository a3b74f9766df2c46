//! Behind a PgBouncer in transaction mode, a real one, which has to be installed:
//! `cargo test -p db --test pgbouncer -- --ignored`.

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use futures_util::future::join_all;
use local_postgres::Cluster;
use support::{failure, pool_at, until};

/// A PgBouncer with two sessions of its own, in front of a server of its own.
struct Bouncer {
    port: u16,
    process: Child,
    _server: Cluster,
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Bouncer {
    async fn start() -> Self {
        let server = Cluster::temporary().expect("a server");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let url = url::Url::parse(&server.url("")).expect("a URL");
        // An older one does not know this setting.
        let prepared = match version() >= (1, 21) {
            true => "max_prepared_statements = 200\n",
            false => "",
        };
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres password={}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 2\n{prepared}",
            server.port(),
            url.password().expect("a password"),
        );
        let owner = server.data_folder().metadata().expect("its owner");
        let file = server.data_folder().join("pgbouncer.ini");
        fs::write(&file, settings).expect("written");
        chown(&file, Some(owner.uid()), Some(owner.gid())).expect("given");
        // It does not run as root either.
        let process = Command::new("pgbouncer")
            .arg(&file)
            .uid(owner.uid())
            .gid(owner.gid())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbouncer is installed");
        let bouncer = Self {
            port,
            process,
            _server: server,
        };
        until("PgBouncer listens", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_ok()
        })
        .await;
        bouncer
    }

    fn url(&self) -> String {
        format!(
            "postgres://anybody:anything@127.0.0.1:{}/postgres",
            self.port
        )
    }
}

fn version() -> (u32, u32) {
    static VERSION: OnceLock<(u32, u32)> = OnceLock::new();
    *VERSION.get_or_init(|| {
        let output = Command::new("pgbouncer").arg("--version").output();
        let text = output.expect("pgbouncer is installed").stdout;
        let text = String::from_utf8_lossy(&text).into_owned();
        let number = text.split_whitespace().nth(1).expect("a version");
        let mut parts = number
            .split('.')
            .map(|part| part.parse().expect("a number"));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    })
}

#[tokio::test]
#[ignore = "needs the program pgbouncer"]
async fn without_its_parameter_the_error_names_it() {
    let bouncer = Bouncer::start().await;
    let text = failure(&bouncer.url(), "").await;
    assert!(text.contains("add pgbouncer=true"), "{text}");
}

// D8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the program pgbouncer"]
async fn one_that_confuses_prepared_statements_is_named_and_any_other_confuses_none() {
    let bouncer = Bouncer::start().await;
    let pool = pool_at(&bouncer.url(), "pgbouncer=true&connection_limit=8");
    let report = pool.examine().await.expect("a report");
    let confuses = report.to_string().contains("prepared statements apart");
    assert_eq!(confuses, version() < (1, 21), "{report}");
    if confuses {
        return;
    }
    let tasks = (0..8).map(|task| {
        let pool = pool.clone();
        tokio::spawn(async move {
            for round in 0..100 {
                // Another order of the statements on each connection, so that their names differ.
                let number = (task * 7 + round) % 10;
                let sql = sqlx::AssertSqlSafe(format!("select $1::int8 + {number}"));
                let sum: i64 = sqlx::query_scalar(sql)
                    .bind(1000_i64)
                    .fetch_one(&pool)
                    .await
                    .expect("a row");
                assert_eq!(sum, 1000 + number);
            }
        })
    });
    for task in join_all(tasks).await {
        task.expect("each statement is its own");
    }
}
