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
use sqlx::postgres::{PgConnectOptions, PgExecutor, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions};
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

/// How many of 800 answers are not the answer to what was asked.
async fn mistakes<P>(pool: &P) -> usize
where
    for<'p> &'p P: PgExecutor<'p>,
{
    let tasks = (0..8).map(async |task| {
        let mut mistakes = 0;
        for round in 0..100 {
            // Each connection meets the statements in another order, so that it gives them other names.
            let number = (task * 7 + round) % 10;
            let sum = sqlx::query_scalar(AssertSqlSafe(format!("select $1::int8 + {number}")))
                .bind(1000_i64)
                .persistent(false)
                .fetch_one(pool)
                .await;
            mistakes += usize::from(!sum.is_ok_and(|sum: i64| sum == 1000 + number));
        }
        mistakes
    });
    join_all(tasks).await.into_iter().sum()
}

// sqlx prepares a statement without a name first and runs it later, perhaps in another session
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the program pgbouncer"]
async fn statements_are_not_confused_or_the_doctor_says_so() {
    let bouncer = Bouncer::start().await;
    let options: PgConnectOptions = bouncer.url().parse().expect("a URL");
    #[expect(clippy::disallowed_methods, reason = "the comparison is the point")]
    let theirs = PgPoolOptions::new()
        .max_connections(8)
        .connect_lazy_with(options.extra_float_digits(None).disable_statement_logging());
    assert_ne!(mistakes(&theirs).await, 0, "sqlx's own pool confuses them");

    let ours = pool_at(&bouncer.url(), "pgbouncer=true&connection_limit=8");
    let report = ours.examine().await.expect("a report").to_string();
    let warned = report.contains("prepared statements apart");
    assert_eq!(warned, version() < (1, 21), "{report}");
    if !warned {
        assert_eq!(mistakes(&ours).await, 0);
    }
}
