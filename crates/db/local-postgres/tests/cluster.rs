//! What a cluster promises, on the PostgreSQL of this machine.

use std::fs;
use std::process::Command;

use local_postgres::{Cluster, Stop, database, shared};

#[test]
fn two_databases_are_isolated() {
    let (one, other) = (database(), database());
    assert_ne!(one, other);
    let name = |url: &str| url.rsplit('/').next().unwrap().to_owned();
    shared()
        .sql(&name(&one), "create table only_here (id int)")
        .unwrap();
    let error = shared()
        .sql(&name(&other), "select * from only_here")
        .unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
}

#[test]
fn restart_keeps_the_port_and_the_rows() {
    let cluster = Cluster::temporary().unwrap();
    cluster.create_database("kept").unwrap();
    cluster
        .sql("kept", "create table t (n int); insert into t values (7)")
        .unwrap();
    let url = cluster.url("kept");
    for mode in [Stop::Smart, Stop::Fast, Stop::Immediate] {
        cluster.restart(mode).unwrap();
        assert_eq!(cluster.sql("kept", "select n from t").unwrap(), "7");
        assert_eq!(cluster.url("kept"), url);
    }
}

#[test]
fn settings_of_the_caller_win() {
    let settings = [("max_connections", "20"), ("application_name", "it's")];
    let cluster = Cluster::temporary_with(&settings).unwrap();
    let show = "show max_connections; show fsync; select setting from pg_file_settings where name = 'application_name'";
    assert_eq!(cluster.sql("postgres", show).unwrap(), "20\noff\nit's");
}

#[test]
fn a_server_that_crashed_is_started_again() {
    let cluster = Cluster::temporary().unwrap();
    cluster
        .sql(
            "postgres",
            "create table t (n int); insert into t values (7)",
        )
        .unwrap();
    let pid_file = fs::read_to_string(cluster.data_folder().join("postmaster.pid")).unwrap();
    let killed = Command::new("kill")
        .args(["-9", pid_file.lines().next().unwrap()])
        .status()
        .unwrap();
    assert!(killed.success());
    // Right away: the server's children may still be about to notice.
    while cluster.sql("postgres", "select 1").is_ok() {}
    cluster.start().unwrap();
    assert_eq!(cluster.sql("postgres", "select n from t").unwrap(), "7");
}

#[test]
fn an_error_in_sql_is_an_error_and_ends_the_script() {
    let error = shared()
        .sql("postgres", "select 1; select 1/0; create database never")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("SQL on postgres: ERROR:  ") && error.contains("division by zero"),
        "{error}"
    );
    let count = "select count(*) from pg_database where datname = 'never'";
    assert_eq!(shared().sql("postgres", count).unwrap(), "0");
}

#[test]
fn sql_answers_rows_as_lines_with_fields_between_bars() {
    let script = "create table sql (n int, t text); -- one; two
        insert into sql values (1, 'a;b'), (2, null), (3, E'it\\'s');
        do $$ begin perform 1; raise notice 'not an answer'; end $$;
        select n, t from sql order by n; select 'ü'; copy sql to stdout";
    assert_eq!(
        shared().sql("postgres", script).unwrap(),
        "1|a;b\n2|\n3|it's\nü\n1\ta;b\n2\t\\N\n3\tit's"
    );
}

#[test]
fn each_statement_commits_by_itself_and_the_database_is_free_at_once() {
    shared().create_database("alone").unwrap();
    let long = format!("select length('{}')", "x".repeat(1 << 20));
    assert_eq!(shared().sql("alone", &long).unwrap(), "1048576");
    shared()
        .sql("alone", "create table kept (); select 1/0")
        .unwrap_err();
    assert_eq!(
        shared().sql("alone", "select count(*) from kept").unwrap(),
        "0"
    );
    // Not allowed in a transaction, nor while anybody is in it.
    shared()
        .sql("postgres", "drop database alone; vacuum")
        .unwrap();
}

#[test]
fn an_error_has_the_servers_detail_and_hint_and_a_stopped_server_is_one() {
    let cluster = Cluster::temporary().unwrap();
    let error = cluster
        .sql(
            "postgres",
            "do $$ begin raise 'm' using detail = 'd', hint = 'h'; end $$",
        )
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("SQL on postgres: ERROR:  m\nDETAIL:  d\nHINT:  h"),
        "{error}"
    );
    let error = cluster.sql("nowhere", "select 1").unwrap_err().to_string();
    assert_eq!(
        error,
        "SQL on nowhere: FATAL:  database \"nowhere\" does not exist"
    );
    let error = cluster
        .sql("postgres", "select pg_terminate_backend(pg_backend_pid())")
        .unwrap_err()
        .to_string();
    assert!(error.contains("terminating connection"), "{error}");
    cluster.stop(Stop::Fast).unwrap();
    let error = cluster.sql("postgres", "select 1").unwrap_err().to_string();
    assert!(error.contains("cannot connect to the server"), "{error}");
}

#[test]
fn nothing_of_a_dropped_cluster_is_left() {
    let cluster = Cluster::temporary().unwrap();
    let (folder, port) = (
        cluster.data_folder().parent().unwrap().to_owned(),
        cluster.port(),
    );
    assert!(folder.exists());
    drop(cluster);
    assert!(!folder.exists());
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}
