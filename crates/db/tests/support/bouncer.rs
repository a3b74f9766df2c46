//! A PgBouncer in transaction mode, in front of a server of its own. `PGBOUNCER` names its program where it is another one
//! than that of the `PATH`.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use local_postgres::Cluster;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::support::until;

/// With two sessions of its own for each database.
pub(crate) struct Bouncer {
    pub(crate) port: u16,
    process: Child,
    file: PathBuf,
    pub(crate) server: Cluster,
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Bouncer {
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// With further lines of its file.
    pub(crate) async fn start_with(settings: &str) -> Self {
        let server = Cluster::temporary().expect("a server");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let url = url::Url::parse(&server.url("")).expect("a URL");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres password={}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             admin_users = admin\npool_mode = transaction\ndefault_pool_size = 2\nserver_login_retry = 1\nauth_file = {}\n{settings}\n",
            server.port(),
            url.password().expect("a password"),
            users(&server).display(),
        );
        let file = server.data_folder().join("pgbouncer.ini");
        write(&file, &text);
        write(&users(&server), &user("anything"));
        let process = Self::spawn(&file);
        let bouncer = Self {
            port,
            process,
            file,
            server,
        };
        bouncer.listens().await;
        bouncer
    }

    fn spawn(file: &PathBuf) -> Child {
        let owner = file.metadata().expect("its owner");
        // It does not run as root.
        Command::new(program())
            .arg(file)
            .uid(owner.uid())
            .gid(owner.gid())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbouncer is installed")
    }

    async fn listens(&self) {
        until("PgBouncer listens", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", self.port))
                .await
                .is_ok()
        })
        .await;
    }

    /// As by `kill -9`, and a new one.
    pub(crate) async fn restart(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.process = Self::spawn(&self.file);
        self.listens().await;
    }

    pub(crate) fn url(&self) -> String {
        let port = self.port;
        format!("postgres://anybody:anything@127.0.0.1:{port}/postgres")
    }

    /// Whether somebody who connects gets through to the server.
    pub(crate) async fn ask(&self) -> Result<(), sqlx::Error> {
        let options: PgConnectOptions = self.url().parse()?;
        let mut asking = options.extra_float_digits(None).connect().await?;
        sqlx::raw_sql("select 1").execute(&mut asking).await?;
        asking.close().await
    }

    /// Gives its user another password.
    pub(crate) async fn rotate(&self, password: &str) {
        write(&users(&self.server), &user(password));
        self.tell("RELOAD").await;
    }

    /// Says something to its console, such as `PAUSE`.
    pub(crate) async fn tell(&self, command: &str) {
        let port = self.port;
        let url = format!("postgres://admin:anything@127.0.0.1:{port}/pgbouncer");
        let options: PgConnectOptions = url.parse().expect("a URL");
        let console = options.extra_float_digits(None).connect().await;
        let mut console = console.expect("the console");
        let told = sqlx::raw_sql(AssertSqlSafe(command.to_owned()));
        told.execute(&mut console).await.expect(command);
        let _ = console.close().await;
    }
}

fn users(server: &Cluster) -> PathBuf {
    server.data_folder().join("users.txt")
}

fn user(password: &str) -> String {
    format!("\"admin\" \"anything\"\n\"anybody\" \"{password}\"\n")
}

/// Writes a file that it may read, and nobody else.
fn write(file: &Path, text: &str) {
    fs::write(file, text).expect("written");
    let folder = file.parent().expect("a folder");
    let owner = folder.metadata().expect("its owner");
    chown(file, Some(owner.uid()), Some(owner.gid())).expect("given");
}

fn program() -> PathBuf {
    std::env::var_os("PGBOUNCER").map_or_else(|| "pgbouncer".into(), PathBuf::from)
}

/// From 1.21 on it keeps prepared statements apart.
pub(crate) fn keeps_apart() -> bool {
    static VERSION: OnceLock<(u32, u32)> = OnceLock::new();
    let version = VERSION.get_or_init(|| {
        let output = Command::new(program()).arg("--version").output();
        let text = output.expect("pgbouncer is installed").stdout;
        let text = String::from_utf8_lossy(&text).into_owned();
        let number = text.split_whitespace().nth(1).expect("a version");
        let mut parts = number
            .split('.')
            .map(|part| part.parse().expect("a number"));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    });
    *version >= (1, 21)
}
