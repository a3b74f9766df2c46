//! What a role lacks is named with the statement that grants it, and that statement is enough.

mod support;

use std::borrow::Cow;

use local_postgres::Cluster;
use sqlx::SqlStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use support::pool_at;

fn migrator(sql: &'static str) -> Migrator {
    let migration = Migration::new(
        1,
        Cow::Borrowed("one"),
        MigrationType::Simple,
        SqlStr::from_static(sql),
        false,
    );
    Migrator {
        migrations: Cow::Owned(vec![migration]),
        ..Migrator::DEFAULT
    }
}

#[tokio::test]
async fn each_statement_that_is_named_is_the_one_that_was_missing() {
    let server = Cluster::temporary().expect("a server");
    server
        .sql("postgres", "create role \"Shy\" login password 'shy'")
        .expect("a role");
    let url = format!("postgres://Shy:shy@127.0.0.1:{}", server.port());
    for (database, before, parameters, sql, named) in [
        (
            "a",
            "revoke create on schema public from public",
            "",
            "create table t (i int)",
            "grant usage, create on schema public to \"Shy\"",
        ),
        (
            "b",
            "grant create on schema public to \"Shy\"",
            "",
            "create extension btree_gist",
            "grant create on database b to \"Shy\"",
        ),
        (
            "c",
            "select 1",
            "schema=My%20Shop",
            "create table t (i int)",
            "create schema \"My Shop\" authorization \"Shy\"",
        ),
        (
            "d",
            "create schema shop",
            "options=-c%20search_path%3Dshop,public",
            "create table t (i int)",
            "grant usage, create on schema shop to \"Shy\"",
        ),
    ] {
        server.create_database(database).expect("a database");
        server
            .sql(database, "revoke all on schema public from public")
            .expect("revoked");
        server.sql(database, before).expect("done");
        if database == "b" {
            server
                .sql(database, "grant usage on schema public to \"Shy\"")
                .expect("granted");
        }
        let pool = pool_at(&format!("{url}/{database}"), parameters);
        let migrator = migrator(sql);
        let error = pool.migrate(&migrator).await.expect_err("no right");
        assert!(error.is_of_rights(), "{database}: {error}");
        assert!(!error.to_string().contains(" at line "), "{error}");
        let lacking = pool.lacking_rights(true).await.expect("an answer");
        let lacking = lacking.unwrap_or_else(|| panic!("{database}: {error}"));
        assert!(lacking.ends_with(named), "{database}: {lacking}");
        let (_, statement) = lacking.split_once(": ").expect("a statement");
        server.sql(database, statement).expect("granted");
        pool.migrate(&migrator).await.expect("migrated");
        assert_eq!(pool.lacking_rights(false).await.expect("an answer"), None);
    }
}

#[tokio::test]
async fn tables_that_a_role_may_not_read_are_named_with_their_grant() {
    let server = Cluster::temporary().expect("a server");
    let sql = "create role reader login password 'r'; create table thing (i int); create table _sqlx_migrations (i int)";
    server.sql("postgres", sql).expect("a role and tables");
    let port = server.port();
    let pool = pool_at(
        &format!("postgres://reader:r@127.0.0.1:{port}/postgres"),
        "",
    );
    let lacking = pool.lacking_rights(false).await.expect("an answer");
    let lacking = lacking.expect("something is lacking");
    assert!(lacking.contains("may not read thing:"), "{lacking}");
    let (_, grant) = lacking.split_once(": ").expect("a statement");
    server.sql("postgres", grant).expect("granted");
    assert_eq!(pool.lacking_rights(false).await.expect("an answer"), None);
}
