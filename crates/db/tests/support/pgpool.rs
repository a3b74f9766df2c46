//! A pgpool-II in front of a primary and a standby of its own. `PGPOOL` names its program where it is another one than that of the
//! `PATH`.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use local_postgres::Cluster;

use crate::support::until;

pub(crate) struct Pgpool {
    port: u16,
    process: Child,
    pub(crate) primary: Cluster,
    pub(crate) standby: Cluster,
}

impl Drop for Pgpool {
    fn drop(&mut self) {
        // It ends its children, which a kill would leave behind.
        let pid = self.process.id().to_string();
        let _ = Command::new("kill").args(["-INT", &pid]).status();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr());
    listener.expect("a free port").port()
}

impl Pgpool {
    /// With further lines of its file.
    pub(crate) async fn start_with(settings: &str) -> Self {
        let primary = Cluster::temporary().expect("a server");
        let standby = primary.standby().expect("a standby");
        let (port, folder) = (free_port(), primary.data_folder().display().to_string());
        let backend = |number: usize, server: &Cluster| {
            format!(
                "backend_hostname{number} = '{}'\nbackend_port{number} = {}\nbackend_weight{number} = 1\n",
                server.socket_folder().display(),
                server.port()
            )
        };
        let text = format!(
            "backend_clustering_mode = 'streaming_replication'\nlisten_addresses = '127.0.0.1'\nport = {port}\n\
             socket_dir = '{folder}'\npcp_socket_dir = '{folder}'\npcp_port = {}\npid_file_name = '{folder}/pgpool.pid'\n\
             logdir = '{folder}'\n{}{}sr_check_user = 'postgres'\nsr_check_period = 1\nload_balance_mode = on\n\
             enable_pool_hba = off\nnum_init_children = 40\nmax_pool = 1\n{settings}\n",
            free_port(),
            backend(0, &primary),
            backend(1, &standby),
        );
        let file = primary.data_folder().join("pgpool.conf");
        fs::write(&file, text).expect("written");
        let process = spawn(&file);
        let pgpool = Self {
            port,
            process,
            primary,
            standby,
        };
        until("pgpool listens", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_ok()
        })
        .await;
        pgpool
    }

    pub(crate) fn url(&self) -> String {
        let port = self.port;
        format!("postgres://postgres@127.0.0.1:{port}/postgres")
    }
}

fn spawn(file: &Path) -> Child {
    let folder = file.parent().expect("a folder");
    let owner = folder.metadata().expect("its owner");
    chown(file, Some(owner.uid()), Some(owner.gid())).expect("given");
    let program = std::env::var_os("PGPOOL").unwrap_or_else(|| "pgpool".into());
    let log = fs::File::create(folder.join("pgpool.log")).expect("a log");
    Command::new(program)
        .args(["-n", "-f"])
        .arg(file)
        .args(["-F", "/dev/null", "-a", "/dev/null"])
        .uid(owner.uid())
        .gid(owner.gid())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("pgpool is installed")
}
