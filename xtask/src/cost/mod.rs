//! `cargo xtask cost`: what a request takes, counted, and compared with its budget.

mod budget;
mod callgrind;
mod idle;
mod requests;
mod table;
mod valgrind;
mod verdict;

use std::fs;
use std::path::Path;

use local_postgres::Cluster;

use self::budget::Budget;
use self::callgrind::Costs;
use self::requests::Request;
use self::valgrind::Service;
use crate::compare::machine;
use crate::output::{Result, progress, say};
use crate::survive::stage::Stage;
use crate::{performance, release};

const HELP: &str = "\
Counts what a request costs: instructions and allocations of our services for one row, a list, a create, a booking and a
404, and of the two programs in xtask/compare for a row and a list. The programs run as they are released under valgrind,
over a temporary PostgreSQL. The memory of an idle service, its start and the size of its program stand beside. All of it
is compared with xtask/cost/budget.txt: more than 2 % above is an error that names the functions that grew.
The table goes to standard output, everything else to standard error.

cargo xtask cost [options]
  --write   write what was counted into the budget and into docs/performance.md
  --help    print this

It takes up to three minutes after the build, and needs valgrind (Debian: apt install valgrind).";

const CUSTOMERS: &str = include_str!("../../compare/customers.sql");

/// deadpool apart, as for `cargo xtask compare`.
const BUILDS: [&[&str]; 2] = [
    &["customer", "reservation", "plain-sqlx"],
    &["plain-deadpool"],
];
const OURS: [&[&str]; 1] = [&["customer"]];

const LIST: &str = "/api/customers";
/// The pool of the other two programs has as many connections.
const POOL: &str = "connection_limit=20";
const NOBODY: &str = "019b0000-0000-7000-8000-000000000000";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let write = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--write"] => true,
        ["--help" | "-h", ..] => {
            say(HELP);
            return Ok(());
        }
        [unknown, ..] => return Err(format!("there is no option `{unknown}`.\n\n{HELP}").into()),
    };
    // Before the build, which may take minutes: what is missing is said at once.
    let valgrind = valgrind::version()?;
    let budget = match write {
        true => None,
        false => Some(Budget::read()?),
    };
    let commit = performance::commit()?;
    let named = release::build_with_names(&BUILDS)?;
    let copies = named.with_file_name("cost");
    for packages in BUILDS {
        valgrind::copy(&named, packages, &copies)?;
    }
    let released = release::build(&OURS)?;
    progress("Starting the released service");
    let idle = idle::measure(&released)?;
    let costs = count(&copies)?;
    let now = Budget::new(commit, &costs, idle);
    let machine = format!("{}; {valgrind}; commit {}.", machine::here()?, now.commit);
    let table = format!("{machine}\n\n{}", table::table(&costs, &now.idle));
    say(&table);
    match budget {
        None => {
            now.write()?;
            performance::write("cost", &table)
        }
        Some(budget) => judge(&budget, &now),
    }
}

fn judge(budget: &Budget, now: &Budget) -> Result<()> {
    let lower = budget.undercut_by(now);
    if !lower.is_empty() {
        progress(format_args!(
            "\nBelow the budget:\n{}\nWrite it down with the change that brought it: cargo xtask cost --write",
            lower.join("\n")
        ));
    }
    let errors = budget.exceeded_by(now);
    match errors.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "a request costs more than its budget, which is that of commit {}:\n\n{}\n\n\
             If the change is worth it: cargo xtask cost --write, and say so in the commit.",
            budget.commit,
            errors.join("\n\n")
        )
        .into()),
    }
}

/// All requests of all programs, one program at a time.
fn count(programs: &Path) -> Result<Costs> {
    progress("Starting a temporary PostgreSQL");
    let cluster = Cluster::temporary()?;
    trust(&cluster)?;
    let mut stage = Stage::new(programs, cluster)?;
    let mut costs = Costs::new();
    let mut service = start(&mut stage, "customer", POOL, "/readyz")?;
    stage.sql(CUSTOMERS)?;
    let id = stage.sql("select id from customer order by id limit 1 offset 5000")?;
    let row = Request::Get(format!("{LIST}/{id}"));
    let list = Request::Get(LIST.to_owned());
    service.measure_idle(&mut stage, &row, 200)?;
    measure(&mut service, "ours, row", &row, 200, &mut costs)?;
    measure(&mut service, "ours, list", &list, 200, &mut costs)?;
    measure(
        &mut service,
        "ours, create",
        &Request::Customer,
        201,
        &mut costs,
    )?;
    let nobody = Request::Get(format!("{LIST}/{NOBODY}"));
    measure(&mut service, "ours, 404", &nobody, 404, &mut costs)?;
    stage.end("customer", "TERM")?;
    // The lists that follow are those of before.
    stage.sql("delete from customer where name = 'Cost'; vacuum analyze customer")?;

    let mut service = start(&mut stage, "reservation", POOL, "/readyz")?;
    let booking = Request::Booking(id);
    service.measure_idle(&mut stage, &booking, 201)?;
    measure(&mut service, "ours, booking", &booking, 201, &mut costs)?;
    stage.end("reservation", "TERM")?;

    for (name, package) in [("plain sqlx", "plain-sqlx"), ("deadpool", "plain-deadpool")] {
        let mut service = start(&mut stage, package, "", LIST)?;
        service.measure_idle(&mut stage, &row, 200)?;
        measure(&mut service, &format!("{name}, row"), &row, 200, &mut costs)?;
        measure(
            &mut service,
            &format!("{name}, list"),
            &list,
            200,
            &mut costs,
        )?;
        stage.end(package, "KILL")?;
    }
    stage.stop();
    Ok(costs)
}

/// Without a password: the 4096 rounds of hashing of each connection are fifty requests' instructions, and a connection is
/// opened now and then.
fn trust(cluster: &Cluster) -> Result<()> {
    fs::write(
        cluster.data_folder().join("pg_hba.conf"),
        "local all all trust\nhost all all 127.0.0.1/32 trust\n",
    )?;
    cluster.sql("postgres", "select pg_reload_conf()")?;
    Ok(())
}

fn start(stage: &mut Stage, package: &'static str, pool: &str, path: &str) -> Result<Service> {
    progress(format_args!("Starting {package} under valgrind"));
    Service::start(stage, package, pool, path)
}

fn measure(
    service: &mut Service,
    name: &str,
    request: &Request,
    status: u16,
    costs: &mut Costs,
) -> Result<()> {
    let profile = service
        .measure(request, status)
        .map_err(|error| format!("{name}: {error}"))?;
    let (instructions, allocations) = (profile.instructions(), profile.allocations);
    progress(format_args!(
        "{name}: {instructions:.0} instructions, {allocations:.1} allocations"
    ));
    costs.push((name.to_owned(), profile));
    Ok(())
}
