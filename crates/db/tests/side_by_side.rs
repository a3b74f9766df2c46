//! A column gets another name while instances of the old program and of the new one run side by side, under load: expand,
//! move over, contract. No request fails, and with the rename at once they do.

mod support;

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use db::Pool;
use futures_util::future::{join, join_all};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Executor, SqlSafeStr};
use support::{pool_at, until};

const CUSTOMERS: i64 = 2000;

/// What a program knows of the table.
struct Program {
    write: &'static str,
    read: &'static str,
}

const OLD: Program = Program {
    write: "update customer set phone = $2 where id = $1",
    read: "select phone from customer where id = $1",
};

/// Writes both, and reads the old one where nobody has moved it over yet.
const BETWEEN: Program = Program {
    write: "update customer set phone = $2, telephone = $2 where id = $1",
    read: "select coalesce(telephone, phone) from customer where id = $1",
};

const NEW: Program = Program {
    write: "update customer set telephone = $2 where id = $1",
    read: "select telephone from customer where id = $1",
};

/// The migrations up to this version.
fn migrations(last: i64) -> Migrator {
    let all = [
        "create table customer (id int8 primary key, phone text not null);
         insert into customer select n, n::text from generate_series(1, 2000) n",
        // Expand: what is new may be missing, and old writes reach it too.
        "alter table customer add column telephone text;
         create function moved() returns trigger language plpgsql as $$
         begin
           if new.phone is distinct from old.phone and new.telephone is not distinct from old.telephone then
             new.telephone := new.phone;
           end if;
           return new;
         end $$;
         create trigger moved before update on customer for each row execute function moved()",
        // Contract, first what only the old program needed of itself, then the column.
        "drop trigger moved on customer; drop function moved(); alter table customer alter phone drop not null",
        "alter table customer drop column phone",
    ];
    let each = all.into_iter().zip(1..=last).map(|(sql, version)| {
        let sql = AssertSqlSafe(sql.to_owned()).into_sql_str();
        let description = Cow::Borrowed("test");
        Migration::new(version, description, MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(each.collect())
}

/// An instance with eight callers, each of whom writes to customers of its own, and reads what it wrote.
struct Instance {
    pool: Pool,
    stop: AtomicBool,
    done: AtomicU64,
    failed: AtomicU64,
}

impl Instance {
    fn new(url: &str) -> Self {
        Self {
            pool: pool_at(url, "connection_limit=4"),
            stop: AtomicBool::new(false),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    async fn run(&self, program: &Program, seed: i64) {
        let callers = (0..8).map(async |caller: i64| {
            let mut round = 0;
            while !self.stop.load(Relaxed) {
                round += 1;
                let id = 1 + (caller * 251 + round * 8 + seed) % CUSTOMERS;
                let number = format!("{seed} {round}");
                let write = sqlx::query(program.write).bind(id).bind(&number);
                let written = write.execute(&self.pool).await.map(drop);
                let read = sqlx::query_scalar::<_, Option<String>>(program.read).bind(id);
                let read = read.fetch_one(&self.pool).await;
                let well = written.is_ok() && read.as_ref().is_ok_and(Option::is_some);
                if !well {
                    println!("{written:?} {read:?}");
                }
                let count = if well { &self.done } else { &self.failed };
                count.fetch_add(1, Relaxed);
            }
        });
        join_all(callers).await;
    }

    async fn serves(&self) {
        let before = self.done.load(Relaxed);
        until("it has served some more", async || {
            self.done.load(Relaxed) > before + 200
        })
        .await;
    }

    fn end(&self) {
        self.stop.store(true, Relaxed);
    }
}

/// In batches, so that nobody waits for a row for long, and nothing is held up that cannot keep pace.
async fn move_over(pool: &Pool) {
    let sql = "with batch as (select id from customer where telephone is null limit 100 for update skip locked)
               update customer set telephone = phone from batch where customer.id = batch.id";
    loop {
        pool.execute(sql).await.expect("a batch");
        let left: i64 = sqlx::query_scalar("select count(*) from customer where telephone is null")
            .fetch_one(pool)
            .await
            .expect("a count");
        if left == 0 {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_and_new_instances_run_side_by_side_and_no_request_fails() {
    let url = local_postgres::database();
    let tool = pool_at(&url, "connection_limit=1");
    tool.migrate(&migrations(1)).await.expect("the table");
    let [old, between, new] = [0; 3].map(|_| Instance::new(&url));
    let deployment = async {
        old.serves().await;
        tool.migrate(&migrations(2)).await.expect("expanded");
        join(old.serves(), between.serves()).await;
        // Only instances that write both are left: what nobody has written since is moved over.
        old.end();
        move_over(&tool).await;
        tool.migrate(&migrations(3)).await.expect("contracted");
        join(between.serves(), new.serves()).await;
        between.end();
        tool.migrate(&migrations(4)).await.expect("gone");
        new.serves().await;
        new.end();
    };
    let after = async |version: i64, instance: &Instance, program: &Program, seed| {
        until("its migration has run", async || {
            let sql = "select coalesce(max(version), 0) from _sqlx_migrations where success";
            sqlx::query_scalar::<_, i64>(sql)
                .fetch_one(&instance.pool)
                .await
                .is_ok_and(|last| last >= version)
        })
        .await;
        instance.run(program, seed).await;
    };
    let running = join(
        old.run(&OLD, 1),
        join(after(2, &between, &BETWEEN, 2), after(3, &new, &NEW, 3)),
    );
    join(deployment, running).await;
    let count = |count: fn(&Instance) -> &AtomicU64| {
        [&old, &between, &new].map(|instance| count(instance).load(Relaxed))
    };
    println!("{:?} requests", count(|one| &one.done));
    assert_eq!(count(|one| &one.failed), [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_at_once_fails_every_request_of_the_old_program() {
    let url = local_postgres::database();
    let tool = pool_at(&url, "connection_limit=1");
    tool.migrate(&migrations(1)).await.expect("the table");
    let old = Instance::new(&url);
    let deployment = async {
        old.serves().await;
        let rename = "alter table customer rename column phone to telephone";
        tool.execute(rename).await.expect("renamed");
        until("they fail", async || old.failed.load(Relaxed) > 20).await;
        old.end();
    };
    join(deployment, old.run(&OLD, 1)).await;
}
