//! Transactions inside transactions: `Ok` of a commit means committed, whatever was done on a lent connection.

mod support;

use db::{Connection, Error, Pool};
use sqlx::Executor;
use support::{pool, settled};

async fn table(parameters: &str) -> Pool {
    let pool = pool(parameters);
    pool.execute("create table t (n int)").await.expect("made");
    pool
}

async fn store(connection: &mut Connection, n: i32) {
    let insert = sqlx::query("insert into t values ($1)").bind(n);
    insert.execute(connection).await.expect("stored");
}

async fn fail(connection: &mut Connection) {
    connection
        .execute("select 1 / 0")
        .await
        .expect_err("an error");
}

async fn rows(pool: &Pool) -> Vec<i32> {
    sqlx::query_scalar("select n from t order by n")
        .fetch_all(pool)
        .await
        .expect("rows")
}

#[tokio::test]
async fn a_commit_after_a_nested_rollback_on_a_lent_connection_stores_the_rest() {
    let pool = table("connection_limit=2").await;
    let mut transaction = pool.begin().await.expect("begun");
    store(&mut transaction, 1).await;
    let mut inner = sqlx::Connection::begin(transaction.as_mut())
        .await
        .expect("a savepoint");
    inner
        .execute("insert into t values (2)")
        .await
        .expect("stored");
    inner.rollback().await.expect("rolled back");
    store(&mut transaction, 3).await;
    let committed = transaction.commit().await;
    assert_eq!(
        (committed.is_ok(), rows(&pool).await),
        (true, vec![1, 3]),
        "Ok means committed"
    );
    settled(&pool).await;
}

#[tokio::test]
async fn a_commit_of_a_transaction_that_was_ended_on_a_lent_connection_is_an_error() {
    let pool = table("connection_limit=2").await;
    for (ending, stored) in [("rollback", false), ("commit", true)] {
        let mut transaction = pool.begin().await.expect("begun");
        store(&mut transaction, 1).await;
        transaction.as_mut().execute(ending).await.expect("ended");
        let error = transaction
            .commit()
            .await
            .expect_err("not this commit's doing");
        assert!(matches!(error, Error::TransactionFailed(_)), "{error:?}");
        assert_eq!(rows(&pool).await.len(), usize::from(stored), "{ending}");
    }
    let mut transaction = pool.begin().await.expect("begun");
    for sql in ["rollback", "commit and chain", "-- x\n end", "begin"] {
        let error = (&mut *transaction).execute(sql).await.expect_err(sql);
        assert!(error.to_string().contains("not by SQL"), "{error}");
    }
    transaction.commit().await.expect("nothing was sent");
    settled(&pool).await;
}

#[tokio::test]
async fn a_savepoint_that_was_left_open_on_a_lent_connection_is_committed_too() {
    let pool = table("connection_limit=2").await;
    let mut transaction = pool.begin().await.expect("begun");
    let mut inner = sqlx::Connection::begin(transaction.as_mut())
        .await
        .expect("a savepoint");
    inner
        .execute("insert into t values (1)")
        .await
        .expect("stored");
    inner.commit().await.expect("left to the outer one");
    transaction.commit().await.expect("committed");
    assert_eq!(rows(&pool).await, [1]);
    settled(&pool).await;
}

#[tokio::test]
async fn the_inner_transaction_goes_and_the_outer_one_stays() {
    let pool = table("connection_limit=2").await;
    let mut transaction = pool.begin().await.expect("begun");
    store(&mut transaction, 1).await;
    {
        let mut dropped = transaction.begin().await.expect("a savepoint");
        store(&mut dropped, 2).await;
        fail(&mut dropped).await;
    }
    let mut kept = transaction.begin().await.expect("a savepoint");
    store(&mut kept, 3).await;
    let mut undone = kept.begin().await.expect("a savepoint in it");
    store(&mut undone, 4).await;
    fail(&mut undone).await;
    undone.rollback().await.expect("rolled back");
    kept.commit().await.expect("left to the outer one");
    transaction.commit().await.expect("committed");
    assert_eq!(rows(&pool).await, [1, 3]);
    settled(&pool).await;
}

#[tokio::test]
async fn a_failure_inside_a_savepoint_that_is_not_rolled_back_fails_the_commit() {
    let pool = table("connection_limit=2").await;
    let mut transaction = pool.begin().await.expect("begun");
    let mut inner = transaction.begin().await.expect("a savepoint");
    fail(&mut inner).await;
    inner.commit().await.expect_err("it has failed");
    let error = transaction.commit().await.map(drop);
    assert!(
        error.is_ok(),
        "the savepoint was undone when it was dropped: {error:?}"
    );
    settled(&pool).await;
}

#[tokio::test]
async fn a_begin_given_up_inside_a_transaction_lets_nothing_be_stored_outside_it() {
    let pool = table("connection_limit=2").await;
    for polls in 1..4 {
        let mut transaction = pool.begin().await.expect("begun");
        store(&mut transaction, 1).await;
        if support::dropped_after(polls, transaction.begin())
            .await
            .is_some()
        {
            continue;
        }
        let stored = (&mut *transaction)
            .execute("insert into t values (2)")
            .await;
        let committed = transaction.commit().await;
        assert_eq!(stored.is_ok(), committed.is_ok());
        assert_eq!(rows(&pool).await.len(), 2 * usize::from(committed.is_ok()));
        pool.execute("truncate t").await.expect("emptied");
    }
    settled(&pool).await;
}

#[tokio::test]
async fn the_next_caller_begins_a_transaction_and_not_a_savepoint() {
    let pool = table("connection_limit=1").await;
    // Dropped, so that it is rolled back in the background, two levels deep.
    let mut transaction = pool.begin().await.expect("begun");
    let inner = transaction.begin().await.expect("a savepoint");
    drop(inner);
    drop(transaction);
    let mut next = pool.begin().await.expect("begun");
    store(&mut next, 1).await;
    let depth: bool = sqlx::query_scalar("select pg_current_xact_id_if_assigned() is not null")
        .fetch_one(&mut *next)
        .await
        .expect("an answer");
    assert!(depth);
    next.commit().await.expect("committed");
    assert_eq!(rows(&pool).await, [1]);
    // A lease that begins by itself and forgets it.
    let mut lease = pool.acquire().await.expect("a lease");
    (&mut lease).execute("begin").await.expect("begun");
    (&mut lease)
        .execute("insert into t values (2)")
        .await
        .expect("stored");
    drop(lease);
    let mut next = pool.begin().await.expect("begun");
    store(&mut next, 3).await;
    next.commit().await.expect("committed");
    assert_eq!(rows(&pool).await, [1, 3]);
    settled(&pool).await;
}

#[tokio::test]
async fn a_savepoint_whose_commit_was_given_up_does_not_make_a_commit_lie() {
    let pool = table("connection_limit=2").await;
    for polls in 1..4 {
        let mut transaction = pool.begin().await.expect("begun");
        store(&mut transaction, 1).await;
        let inner = transaction.begin().await.expect("a savepoint");
        let _ = support::dropped_after(polls, inner.commit()).await;
        let committed = transaction.commit().await;
        let stored = rows(&pool).await.len();
        assert_eq!(stored, usize::from(committed.is_ok()), "{committed:?}");
        pool.execute("truncate t").await.expect("emptied");
    }
    settled(&pool).await;
}

#[tokio::test]
async fn an_inner_begin_that_fails_does_not_make_a_savepoint_commit_the_whole() {
    let pool = table("connection_limit=1").await;
    let mut transaction = pool.begin().await.expect("begun");
    let mut outer = transaction.begin().await.expect("a savepoint");
    store(&mut outer, 1).await;
    fail(&mut outer).await;
    outer.begin().await.map(drop).expect_err("it has failed");
    let error = outer.commit().await.expect_err("it was undone");
    assert!(matches!(error, Error::TransactionFailed(_)), "{error:?}");
    transaction.rollback().await.expect("rolled back");
    assert_eq!(rows(&pool).await.len(), 0);
    settled(&pool).await;
}

#[tokio::test]
async fn a_rollback_after_a_failed_begin_leaves_no_transaction_to_the_next_caller() {
    let pool = table("connection_limit=1").await;
    for _ in 0..10 {
        let mut transaction = pool.begin().await.expect("begun");
        fail(&mut transaction).await;
        transaction
            .begin()
            .await
            .map(drop)
            .expect_err("it has failed");
        transaction.rollback().await.expect("rolled back");
        pool.execute("insert into t values (1)")
            .await
            .expect("in no transaction of another's");
    }
    assert_eq!(rows(&pool).await.len(), 10);
    settled(&pool).await;
}

#[tokio::test]
async fn a_transaction_on_a_lease_ends_before_the_leases_next_statement() {
    let pool = table("connection_limit=1").await;
    let mut lease = pool.acquire().await.expect("a lease");
    let mut kept = lease.begin().await.expect("begun");
    store(&mut kept, 1).await;
    kept.commit().await.expect("committed");
    let mut dropped = lease.begin().await.expect("begun");
    store(&mut dropped, 2).await;
    fail(&mut dropped).await;
    drop(dropped);
    store(&mut lease, 3).await;
    let mut undone = lease.begin().await.expect("begun");
    store(&mut undone, 4).await;
    undone.rollback().await.expect("rolled back");
    let mut last = lease.begin().await.expect("begun");
    store(&mut last, 5).await;
    drop(last);
    drop(lease);
    assert_eq!(rows(&pool).await, [1, 3]);
    settled(&pool).await;
}

#[tokio::test]
async fn a_begin_given_up_on_a_lease_loses_no_later_statement_in_silence() {
    let pool = table("connection_limit=1").await;
    for polls in 1..4 {
        let mut lease = pool.acquire().await.expect("a lease");
        if support::dropped_after(polls, lease.begin()).await.is_some() {
            continue;
        }
        let stored = lease.execute("insert into t values (1)").await;
        drop(lease);
        assert_eq!(
            rows(&pool).await.len(),
            usize::from(stored.is_ok()),
            "{stored:?}"
        );
        pool.execute("truncate t").await.expect("emptied");
    }
    settled(&pool).await;
}

#[tokio::test]
async fn a_function_takes_the_pool_a_lease_or_a_transaction() {
    async fn store_both(mut db: impl db::Acquire, fails: bool) -> Result<(), Error> {
        let mut transaction = db.begin().await?;
        store(&mut transaction, 1).await;
        if fails {
            transaction.execute("select 1 / 0").await?;
        }
        transaction.commit().await
    }
    async fn count(mut db: impl db::Acquire) -> Result<i64, Error> {
        let mut connection = db.acquire().await?;
        let count = sqlx::query_scalar("select count(*) from t");
        Ok(count.fetch_one(&mut *connection).await?)
    }
    let pool = table("connection_limit=1").await;
    store_both(&pool, true).await.expect_err("divided by zero");
    store_both(&pool, false).await.expect("stored");
    let mut lease = pool.acquire().await.expect("a lease");
    store_both(&mut lease, true)
        .await
        .expect_err("divided by zero");
    store_both(&mut lease, false).await.expect("stored");
    assert_eq!(count(&mut lease).await.expect("a count"), 2);
    drop(lease);
    let mut transaction = pool.begin().await.expect("begun");
    store_both(&mut transaction, true)
        .await
        .expect_err("divided by zero");
    store_both(&mut transaction, false).await.expect("stored");
    let mut inner = transaction.begin().await.expect("a savepoint");
    store_both(&mut inner, false).await.expect("stored");
    assert_eq!(count(&mut inner).await.expect("a count"), 4);
    inner.rollback().await.expect("undone");
    transaction.commit().await.expect("committed");
    // Spawned, as in a handler.
    let task = tokio::spawn({
        let pool = pool.clone();
        async move {
            store_both(&pool, false).await?;
            let mut transaction = pool.begin().await?;
            store_both(&mut transaction, false).await?;
            transaction.commit().await?;
            let options = db::TransactionOptions::default();
            let fails = [false, false];
            let work = async |mut transaction: db::Transaction<'static>| {
                for fails in fails.iter() {
                    store_both(&mut transaction, *fails).await?;
                }
                Ok::<_, Error>(())
            };
            pool.transaction(options, work).await
        }
    });
    task.await.expect("no panic").expect("stored");
    assert_eq!(count(&pool).await.expect("a count"), 7);
    settled(&pool).await;
}

#[tokio::test]
async fn a_closure_may_end_its_transaction_but_not_keep_it() {
    let pool = table("connection_limit=2").await;
    let options = db::TransactionOptions::default();
    let run = async |how: &str| {
        let kept = std::sync::Mutex::new(None);
        let result = pool.transaction(options, async |mut transaction| {
            store(&mut transaction, 1).await;
            match how {
                "commit" => transaction.commit().await?,
                "roll back" => transaction.rollback().await?,
                "keep" => *kept.lock().expect("a lock") = Some(transaction),
                "fail" => fail(&mut transaction).await,
                _ => {}
            }
            Ok::<_, Error>(())
        });
        (result.await, rows(&pool).await.len())
    };
    assert!(matches!(run("leave").await, (Ok(()), 1)));
    assert!(matches!(run("commit").await, (Ok(()), 2)));
    assert!(matches!(run("roll back").await, (Ok(()), 2)));
    assert!(matches!(
        run("fail").await,
        (Err(Error::TransactionFailed(_)), 2)
    ));
    let (result, rows) = run("keep").await;
    let error = result.expect_err("nothing is committed").to_string();
    assert!(
        error.contains("kept beyond the closure") && rows == 2,
        "{error}"
    );
    settled(&pool).await;
}
