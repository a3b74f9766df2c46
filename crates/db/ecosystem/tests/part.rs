//! Crates that want a pool of sqlx's own get a part of this pool's limit, and the server never has more sessions than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use apalis::prelude::{BoxDynError, Data, TaskBuilder, TaskSink, WorkerBuilder, WorkerContext};
use apalis_postgres::{PostgresStorage, queries};
use db::{Config, Pool};
use futures_util::future::join_all;
use sea_orm::entity::prelude::*;
use sea_orm::{ActiveValue::Set, SqlxPostgresConnector, TransactionTrait};
use sqlx::postgres::PgListener;

fn pool(url: &str) -> Pool {
    Pool::new(Config::parse(&format!("{url}?connection_limit=5")).expect("a valid URL"))
}

/// The most sessions of the database of `pool` that the server has while `work` runs, looked at from another database, once
/// those have gone that a pool opens at first to find out whose its sessions are.
async fn most_sessions(url: &str, pool: &Pool, work: impl Future<Output = ()>) -> i64 {
    let name = url.rsplit('/').next().expect("a database");
    let watcher = self::pool(&url.replace(name, "postgres"));
    let count = "select count(*) from pg_stat_activity where datname = $1 and backend_type = 'client backend'";
    let count = || async {
        let now = sqlx::query_scalar::<_, i64>(count).bind(name);
        now.fetch_one(&watcher).await.expect("a count")
    };
    pool.examine().await.expect("a report");
    while count().await > i64::from(pool.stats().open) {}
    let (over, mut most) = (AtomicBool::new(false), 0);
    let watch = async {
        while !over.load(Relaxed) {
            most = most.max(count().await);
        }
    };
    let work = async {
        work.await;
        over.store(true, Relaxed);
    };
    tokio::join!(watch, work);
    most
}

/// Work on all that is left of the pool, until `over`.
async fn keep_busy(pool: &Pool, over: &AtomicBool) {
    let one = || async {
        while !over.load(Relaxed) {
            sqlx::query("select pg_sleep(0.001)")
                .execute(pool)
                .await
                .expect("served");
        }
    };
    join_all((0..8).map(|_| one())).await;
}

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "cake")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i32,
    pub name: String,
}

impl ActiveModelBehavior for ActiveModel {}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sea_orm_writes_and_reads_within_the_limit() {
    let url = local_postgres::database();
    let (pool, over) = (pool(&url), AtomicBool::new(false));
    let table =
        "create table cake (id int generated always as identity primary key, name text not null)";
    sqlx::raw_sql(table).execute(&pool).await.expect("a table");
    let work = async {
        let theirs = pool.sqlx_pool(2).await.expect("a part");
        let orm = SqlxPostgresConnector::from_sqlx_postgres_pool(theirs);
        join_all((0..20).map(async |number| {
            let transaction = orm.begin().await.expect("begun");
            let cake = ActiveModel {
                name: Set(format!("cake {number}")),
                ..Default::default()
            };
            cake.insert(&transaction).await.expect("inserted");
            transaction.commit().await.expect("committed");
        }))
        .await;
        let found = Entity::find()
            .filter(Column::Name.eq("cake 7"))
            .all(&orm)
            .await;
        assert_eq!(found.expect("read").len(), 1);
        orm.close().await.expect("closed");
        over.store(true, Relaxed);
    };
    let both = async {
        tokio::join!(work, keep_busy(&pool, &over));
    };
    let most = most_sessions(&url, &pool, both).await;
    assert!((4..=5).contains(&most), "{most} sessions");
    let cakes: i64 = sqlx::query_scalar("select count(*) from cake")
        .fetch_one(&pool)
        .await
        .expect("a count");
    assert_eq!(cakes, 20, "seen through this pool too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apalis_does_its_jobs_within_the_limit() {
    let url = local_postgres::database();
    let (pool, over) = (pool(&url), AtomicBool::new(false));
    let done = Arc::new(AtomicU32::new(0));
    let work = async {
        let theirs = pool.sqlx_pool(2).await.expect("a part");
        PostgresStorage::setup(&theirs).await.expect("its tables");
        let mut storage = PostgresStorage::new(&theirs);
        for number in 0..9_u32 {
            storage.push(number).await.expect("pushed");
        }
        // The tenth with what it belongs to, in a transaction of this pool.
        let mut transaction = pool.begin().await.expect("begun");
        sqlx::query("create table paid ()")
            .execute(&mut *transaction)
            .await
            .expect("done");
        let queue = std::any::type_name::<u32>();
        let task = TaskBuilder::new(b"9".to_vec()).build();
        queries::push_tasks(&mut *transaction, queue, vec![task])
            .await
            .expect("pushed");
        transaction.commit().await.expect("committed");
        async fn job(
            number: u32,
            done: Data<Arc<AtomicU32>>,
            worker: WorkerContext,
        ) -> Result<(), BoxDynError> {
            if done.fetch_add(number, Relaxed) + number == 45 {
                worker.stop()?;
            }
            Ok(())
        }
        let worker = WorkerBuilder::new("jobs")
            .backend(storage)
            .data(done.clone())
            .build(job);
        let ran = tokio::time::timeout(Duration::from_secs(60), worker.run()).await;
        ran.expect("in time").expect("well");
        theirs.close().await;
        over.store(true, Relaxed);
    };
    let both = async {
        tokio::join!(work, keep_busy(&pool, &over));
    };
    let most = most_sessions(&url, &pool, both).await;
    assert!((4..=5).contains(&most), "{most} sessions");
    assert_eq!(done.load(Relaxed), 45, "each job once");
}

#[tokio::test]
async fn a_listener_hears_within_the_limit() {
    let url = local_postgres::database();
    let pool = pool(&url);
    let work = async {
        let theirs = pool.sqlx_pool(1).await.expect("a part");
        let mut listener = PgListener::connect_with(&theirs).await.expect("connected");
        listener.listen("orders").await.expect("listens");
        join_all((0..100).map(|_| sqlx::query("notify orders, 'new'").execute(&pool))).await;
        let heard = listener.recv().await.expect("heard");
        assert_eq!(heard.payload(), "new");
        drop(listener);
    };
    let most = most_sessions(&url, &pool, work).await;
    assert!((2..=5).contains(&most), "{most} sessions");
}
