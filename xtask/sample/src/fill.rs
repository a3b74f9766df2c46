//! Many customers and reservations, to measure with.

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use db::{Config, Pool};

const DAY: i64 = 86_400;
/// Of them there are ten years, of which two months are to come.
const PERIODS: i64 = 118;
const PERIOD_DAYS: i64 = 31;
const PERIODS_TO_COME: i64 = 2;
/// Resources in one statement, at most: it makes some 10,000 rows and takes a second.
const RESOURCES_AT_ONCE: i64 = 200;
/// Statements that run at a time, each for other resources.
const LANES: i64 = 4;
const CUSTOMERS_AT_ONCE: i64 = 20_000;

/// What is to be made, and out of what.
struct Fill {
    pool: Pool,
    rows: i64,
    /// Seconds since 1970.
    now: i64,
    customers: i64,
    /// The moments of which the customers' ids are made, in milliseconds: of the first, and from one to the next.
    first_customer: i64,
    customer_step: i64,
    resources: i64,
    added: AtomicI64,
}

/// Puts `rows` reservations, a tenth as many customers and fitting resources into the database that `DATABASE_URL` names.
pub(crate) async fn run(rows: i64) -> Result<(), Box<dyn Error>> {
    let mut config = Config::from_env()?;
    // For `vacuum` at the end, and for a slow machine.
    config.statement_timeout = None;
    config.socket_timeout = None;
    config.slow_statement_threshold = None;
    let fill = Fill::new(Pool::new(config), rows)?;
    fill.refuse_rows().await?;
    let started = Instant::now();
    fill.add_customers().await?;
    tokio::try_join!(
        fill.add_lane(0),
        fill.add_lane(1),
        fill.add_lane(2),
        fill.add_lane(3)
    )?;
    println!("\rVacuum and analyze…                             ");
    // Index-only scans need the first, good plans the second.
    sqlx::query("vacuum analyze customer, reservation")
        .execute(&fill.pool)
        .await?;
    println!(
        "{rows} reservations of {} customers and {} resources are in: {:.0} s.",
        fill.customers,
        fill.resources,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

impl Fill {
    fn new(pool: Pool, rows: i64) -> Result<Self, Box<dyn Error>> {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        let customers = (rows / 10).max(1);
        Ok(Self {
            pool,
            rows,
            now,
            customers,
            // In the year before the first reservation.
            first_customer: (now - (PERIODS * PERIOD_DAYS + 400) * DAY) * 1000,
            customer_step: 365 * DAY * 1000 / customers,
            // A resource could have half as many again.
            resources: rows / 4000 + 20,
            added: AtomicI64::new(0),
        })
    }

    /// What is there already would be in the way of the new, and nobody could tell them apart.
    async fn refuse_rows(&self) -> Result<(), Box<dyn Error>> {
        let has_rows: bool = sqlx::query_scalar(
            "select exists (select from customer) or exists (select from reservation)",
        )
        .fetch_one(&self.pool)
        .await?;
        if has_rows {
            return Err(
                "there are customers or reservations already, and only an empty database is filled.\n\
                 Empty it (`truncate customer, reservation`), name another one in DATABASE_URL or, where none is set, \
                 use --fresh."
                    .into(),
            );
        }
        Ok(())
    }

    async fn add_customers(&self) -> Result<(), sqlx::Error> {
        let mut first = 0;
        while first < self.customers {
            let last = (first + CUSTOMERS_AT_ONCE).min(self.customers) - 1;
            sqlx::query(include_str!("../../fill/customers.sql"))
                .bind(first)
                .bind(last)
                .bind(self.first_customer)
                .bind(self.customer_step)
                .execute(&self.pool)
                .await?;
            first = last + 1;
            progress("customers", first, self.customers);
        }
        Ok(())
    }

    /// A share of the reservations. Period by period, as time has made them, so that the table lies on the disk as it would.
    async fn add_lane(&self, lane: i64) -> Result<(), sqlx::Error> {
        let share = |part: i64, parts: i64, all: i64| all * part / parts;
        let first = share(lane, LANES, self.resources);
        let end = share(lane + 1, LANES, self.resources);
        let rows = share(lane + 1, LANES, self.rows) - share(lane, LANES, self.rows);
        let groups = (end - first + RESOURCES_AT_ONCE - 1) / RESOURCES_AT_ONCE;
        let statements = PERIODS * groups;
        let mut added = 0;
        for statement in 0..statements {
            let (period, group) = (statement / groups, statement % groups);
            let resources = first + group * RESOURCES_AT_ONCE;
            let last = (resources + RESOURCES_AT_ONCE).min(end) - 1;
            let wanted = share(statement + 1, statements, rows) - added;
            added += self.add(period, (resources, last), wanted).await?;
        }
        Ok(())
    }

    /// Adds the reservations of one period and of these resources; gives how many there were.
    async fn add(
        &self,
        period: i64,
        resources: (i64, i64),
        wanted: i64,
    ) -> Result<i64, sqlx::Error> {
        let today = self.now / DAY;
        let done = sqlx::query(include_str!("../../fill/reservations.sql"))
            .bind(resources.0)
            .bind(resources.1)
            .bind(today + (period - PERIODS + PERIODS_TO_COME) * PERIOD_DAYS)
            .bind(wanted)
            .bind(self.now)
            .bind(self.customers)
            .bind(self.first_customer)
            .bind(self.customer_step)
            .execute(&self.pool)
            .await?;
        let added = i64::try_from(done.rows_affected()).unwrap_or(wanted);
        let so_far = self.added.fetch_add(added, Ordering::Relaxed) + added;
        progress("reservations", so_far, self.rows);
        Ok(added)
    }
}

/// One line that changes on a terminal; into a file, only the last.
fn progress(what: &str, done: i64, all: i64) {
    if std::io::stdout().is_terminal() {
        print!("\r{what}: {done} of {all} ({} %) ", done * 100 / all);
        let _ = std::io::stdout().flush();
        if done == all {
            println!();
        }
    } else if done == all {
        println!("{what}: {done}");
    }
}
