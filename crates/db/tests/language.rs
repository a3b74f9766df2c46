//! A server that speaks another language than English: nothing hangs on its words.

mod support;

use std::process::Command;

use local_postgres::Cluster;
use sqlx::{Connection, Executor, PgConnection};
use support::{pool_at, settled};

// A program's language is its environment's: the server inherits this process's.
#[tokio::test]
async fn a_changed_table_heals_unseen_in_another_language() {
    let mut process = Command::new(std::env::current_exe().expect("this program"));
    process
        .args(["--exact", "--ignored", "--nocapture", "in_german"])
        .env("LANGUAGE", "de");
    let output = process.output().expect("run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    println!("{text}");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn in_german() {
    let server = Cluster::temporary_with(&[("lc_messages", "C.UTF-8")]).expect("a server");
    let url = server.url("postgres");
    let mut plain = PgConnection::connect(&url).await.expect("a connection");
    let pool = pool_at(&url, "connection_limit=1");
    let read = "select * from thing where id::text <> $1";
    plain
        .execute("create table thing (id int); insert into thing values (1)")
        .await
        .expect("a table");
    for kind in ["bigint", "text", "varchar(10)"] {
        let theirs = sqlx::query(read).bind("0").execute(&mut plain).await;
        let ours = sqlx::query(read).bind("0").execute(&pool).await;
        ours.expect("before");
        server
            .sql(
                "postgres",
                &format!("alter table thing alter column id type {kind}"),
            )
            .expect("a change");
        theirs.expect("before");
        let theirs = sqlx::query(read).bind("0").execute(&mut plain).await;
        let said = theirs.expect_err("stale").to_string();
        println!("the server says: {said}");
        if said.contains("cached plan must not change result type") {
            println!("this machine has no messages of another language");
        }
        plain.clear_cached_statements().await.expect("forgotten");
        let ours = sqlx::query(read).bind("0").execute(&pool).await;
        ours.expect("prepared anew");
    }
    settled(&pool).await;
}
