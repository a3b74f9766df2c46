//! The database of `cargo dev`: a private one, or the developer's own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use env_file::EnvFile;
use local_postgres::{Cluster, Stop};

use crate::given::Given;
use crate::output::{Result, say};
use crate::workspace;

const NAME: &str = "reservoir";

pub(crate) enum Database {
    /// A cluster of this checkout, whose data survives.
    Private {
        cluster: Box<Cluster>,
        folder: PathBuf,
        url: String,
    },
    /// It is neither started nor stopped.
    Given(Given),
}

impl Database {
    /// Offline, no PostgreSQL is brought for a private one.
    pub(crate) fn open(given: Option<Given>, fresh: bool, offline: bool) -> Result<Self> {
        match given {
            None => Self::open_private(fresh, offline),
            Some(_) if fresh => Err(
                "--fresh removes the private database, but DATABASE_URL is set.\n\
                 Unset it (look into .env too), or empty that database yourself."
                    .into(),
            ),
            Some(given) => Ok(Self::Given(given)),
        }
    }

    fn open_private(fresh: bool, offline: bool) -> Result<Self> {
        let folder = folder();
        if fresh {
            Cluster::remove(&folder)?;
        }
        let cluster = match offline {
            true => Cluster::persistent_offline(&folder)?,
            false => Cluster::persistent(&folder)?,
        };
        let known = cluster.sql(
            "postgres",
            &format!("select 1 from pg_database where datname = '{NAME}'"),
        )?;
        if known.is_empty() {
            cluster.create_database(NAME)?;
        }
        let url = cluster.url(NAME);
        Ok(Self::Private {
            cluster: Box::new(cluster),
            folder,
            url,
        })
    }

    pub(crate) fn url(&self) -> &str {
        match self {
            Self::Private { url, .. } => url,
            Self::Given(given) => given.url(),
        }
    }

    /// Stops a private server; its data stays.
    pub(crate) fn close(self) -> Result<()> {
        if let Self::Private {
            cluster, folder, ..
        } = self
        {
            cluster.stop(Stop::Fast)?;
            say(format_args!(
                "PostgreSQL has stopped. The data is in {}.",
                folder.display()
            ));
        }
        Ok(())
    }
}

/// How to look into it, without a password.
impl fmt::Display for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private { cluster, .. } => {
                let (folder, port) = (cluster.socket_folder().display(), cluster.port());
                match cluster.psql() {
                    Some(psql) => write!(
                        formatter,
                        "{} -h {folder} -p {port} -U postgres {NAME}",
                        psql.display()
                    ),
                    // For any other client.
                    None => write!(
                        formatter,
                        "postgres://postgres@localhost:{port}/{NAME}?host={folder}"
                    ),
                }?;
                write!(formatter, "\n                {}", cluster.postgres())
            }
            Self::Given(given) => write!(formatter, "{given}, which DATABASE_URL names"),
        }
    }
}

/// What `DATABASE_URL` names, if it is set.
pub(crate) fn given() -> Result<Option<Given>> {
    given_url()?.map(Given::parse).transpose()
}

/// `DATABASE_URL` from the environment or else from `.env`, as the services read it; empty is unset.
fn given_url() -> Result<Option<String>> {
    let url = match std::env::var("DATABASE_URL") {
        Ok(url) => Some(url),
        Err(_) => url_of_file(&workspace::root().join(".env"))?,
    };
    Ok(url.filter(|url| !url.is_empty()))
}

fn url_of_file(path: &Path) -> Result<Option<String>> {
    if !path.is_file() {
        return Ok(None);
    }
    let file = EnvFile::read(path)?;
    Ok(file.get("DATABASE_URL").map(str::to_owned))
}

/// Inside the checkout, except for root, whose checkouts PostgreSQL's user can often not reach.
fn folder() -> PathBuf {
    let id = Command::new("id").arg("-u").output();
    if id.is_ok_and(|output| output.stdout == b"0\n") {
        return format!(
            "/var/tmp/reservoir-{:016x}",
            fingerprint(workspace::root().as_os_str().as_encoded_bytes())
        )
        .into();
    }
    workspace::root().join(".local/postgres")
}

/// FNV-1a: std's hashes may change with the compiler, and the data would not be found again.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_the_env_file_is_taken_as_it_is() {
        let path = std::env::temp_dir().join(format!("xtask-env-{}", std::process::id()));
        let found = |text: &str| {
            std::fs::write(&path, text).unwrap();
            url_of_file(&path)
        };
        let url = "postgres://app:pa$word@db/shop";
        for quote in ["", "\"", "'"] {
            let text = format!("A=b c\nDATABASE_URL={quote}{url}{quote}\r\n");
            assert_eq!(found(&text).unwrap().as_deref(), Some(url), "{text}");
        }
        let error = found("A=1\nDATABASE_URL canary").unwrap_err().to_string();
        assert!(
            error.contains("line 2") && !error.contains("canary"),
            "{error}"
        );
        std::fs::remove_file(&path).unwrap();
        assert_eq!(url_of_file(&path).unwrap(), None);
    }
}
