//! What a cluster promises, on the PostgreSQL of this machine.

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
