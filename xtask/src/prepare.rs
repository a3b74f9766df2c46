//! `cargo xtask prepare`: the data in `.sqlx`, with which builds check SQL without a database.
//!
//! Every file that has a query macro is compiled anew against a temporary PostgreSQL on which the migrations have run, and
//! the macros write what they learn.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use local_postgres::Cluster;

use crate::output::{Result, say};
use crate::touch::Touched;
use crate::workspace;

const HELP: &str = "\
Renews the query data in .sqlx, with which builds check SQL without a database. Commit the result.

cargo xtask prepare           renew it
cargo xtask prepare --check   change nothing; fail if it is stale";

/// What a query macro looks like; the bodies of functions that only mention one do no harm.
const MACROS: [&str; 3] = ["query!(", "query_as!(", "query_scalar!("];
const THIS_FILE: &str = "xtask/src/prepare.rs";

const DATABASE: &str = "prepare";

/// File names and contents.
type Queries = BTreeMap<String, Vec<u8>>;

pub(crate) fn run(options: &[String]) -> Result<()> {
    let Some(check) = read_check(options)? else {
        say(HELP);
        return Ok(());
    };
    let fresh = learn()?;
    let folder = workspace::root().join(".sqlx");
    let committed = read(&folder)?;
    if fresh == committed {
        say(format_args!(".sqlx is up to date: {} queries", fresh.len()));
        return Ok(());
    }
    if check {
        return Err(stale(&fresh, &committed).into());
    }
    replace(&folder, &fresh, &committed)
}

/// Whether `--check` is given; `None` when only help is wanted.
fn read_check(options: &[String]) -> Result<Option<bool>> {
    let options = options.join(" ");
    match options.as_str() {
        "" => Ok(Some(false)),
        "--check" => Ok(Some(true)),
        "--help" => Ok(None),
        _ => Err(format!("these options are not known: {options}\n\n{HELP}").into()),
    }
}

/// The query data as it is now; the first time it takes minutes, so each step is said.
fn learn() -> Result<Queries> {
    say("Starting a temporary PostgreSQL");
    let cluster = Cluster::temporary()?;
    cluster.create_database(DATABASE)?;
    migrate(&cluster)?;
    describe(&cluster)
}

/// Applies the migrations as they stand; it takes no build of a service, which could fail for want of query data.
fn migrate(cluster: &Cluster) -> Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(workspace::root().join("migrations"))? {
        files.push(entry?.path());
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    say(format_args!("Applying {} migrations", files.len()));
    for file in files {
        let sql = fs::read_to_string(&file)?;
        cluster
            .sql(DATABASE, &sql)
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}

/// Compiles every file with a query macro against the database and gives what the macros wrote.
fn describe(cluster: &Cluster) -> Result<Queries> {
    let sources = find_sources()?;
    if sources.is_empty() {
        return Ok(Queries::new());
    }
    // Goes with the cluster, even if we are interrupted.
    let folder = cluster.data_folder().with_file_name("queries");
    fs::create_dir(&folder)?;
    let mut check = check(&packages(&sources)?);
    check
        .env("DATABASE_URL", cluster.url(DATABASE))
        .env("SQLX_OFFLINE", "false")
        .env("SQLX_OFFLINE_DIR", &folder);
    let touched = sources.iter().map(|source| Touched::new(source));
    let touched = touched.collect::<Result<Vec<_>>>()?;
    let status = check.status()?;
    drop(touched);
    match status.success() {
        true => read(&folder),
        false => {
            Err("the workspace does not compile against the migrated database: see above".into())
        }
    }
}

/// `cargo check` of these packages.
fn check(packages: &BTreeSet<String>) -> Command {
    let names: Vec<_> = packages.iter().map(String::as_str).collect();
    say(format_args!("Compiling {} against it", names.join(", ")));
    let mut check = workspace::cargo();
    check.args(["check", "--all-targets"]);
    for name in names {
        check.args(["--package", name]);
    }
    check
}

/// The files that have query macros.
fn find_sources() -> Result<Vec<PathBuf>> {
    let mut sources = Vec::new();
    workspace::find_files(workspace::root(), "rs", &mut sources)?;
    sources.retain(|path| *path != workspace::root().join(THIS_FILE));
    let mut found = Vec::new();
    for path in sources {
        let text = fs::read_to_string(&path)?;
        if MACROS.iter().any(|name| text.contains(name)) {
            found.push(path);
        }
    }
    Ok(found)
}

/// The names of the packages that the files belong to.
fn packages(sources: &[PathBuf]) -> Result<BTreeSet<String>> {
    sources.iter().map(|source| package(source)).collect()
}

fn package(source: &Path) -> Result<String> {
    let manifests = source.ancestors().map(|folder| folder.join("Cargo.toml"));
    let manifest = manifests.into_iter().find(|manifest| manifest.exists());
    let manifest = manifest.ok_or_else(|| format!("{} belongs to no package", source.display()))?;
    let text = fs::read_to_string(&manifest)?;
    let mut lines = text.lines();
    let name = lines.find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    let name = name.ok_or_else(|| format!("{} has no name", manifest.display()))?;
    Ok(name.to_owned())
}

fn read(folder: &Path) -> Result<Queries> {
    let mut queries = Queries::new();
    if !folder.exists() {
        return Ok(queries);
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("query-") {
            queries.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(queries)
}

fn stale(fresh: &Queries, committed: &Queries) -> String {
    let missing = fresh
        .keys()
        .filter(|name| !committed.contains_key(*name))
        .count();
    let unused = committed
        .keys()
        .filter(|name| !fresh.contains_key(*name))
        .count();
    let changed = fresh
        .iter()
        .filter(|(name, data)| committed.get(*name).is_some_and(|old| old != *data))
        .count();
    format!(
        ".sqlx is stale: {missing} queries missing, {changed} changed, {unused} no longer used.\n\
         Run `cargo xtask prepare` and commit .sqlx."
    )
}

fn replace(folder: &Path, fresh: &Queries, committed: &Queries) -> Result<()> {
    fs::create_dir_all(folder)?;
    for name in committed.keys().filter(|name| !fresh.contains_key(*name)) {
        fs::remove_file(folder.join(name))?;
    }
    for (name, data) in fresh {
        fs::write(folder.join(name), data)?;
    }
    say(format_args!(
        ".sqlx renewed: {} queries, before {}",
        fresh.len(),
        committed.len()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_data_is_counted_by_what_is_wrong() {
        let queries = |entries: &[(&str, &str)]| {
            let entries = entries
                .iter()
                .map(|(name, data)| ((*name).to_owned(), data.as_bytes().to_vec()));
            entries.collect::<Queries>()
        };
        let fresh = queries(&[
            ("same", "1"),
            ("changed", "2"),
            ("new", "3"),
            ("newer", "4"),
        ]);
        let committed = queries(&[("same", "1"), ("changed", "0"), ("old", "5")]);
        let text = stale(&fresh, &committed);
        assert!(
            text.starts_with(".sqlx is stale: 2 queries missing, 1 changed, 1 no longer used.\n"),
            "{text}"
        );
    }
}
