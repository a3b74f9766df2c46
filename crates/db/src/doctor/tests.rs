//! What the doctor warns of, and what it does not.

use super::*;

fn healthy() -> Answers {
    Answers {
        fleet: Fleet {
            version: "17.0".to_owned(),
            most: 100,
            reserved: 3,
            of_role: -1,
            of_database: -1,
            sessions: 6,
            strangers: [5, 0, 5],
            instances: 1,
            open: 1,
            ..Fleet::default()
        },
        statement_timeout: "5s".to_owned(),
        tls: true,
        port: Some(5432),
        idle_session_timeout: 0,
        pooled: false,
        rights: None,
        overridden: None,
    }
}

fn warnings(parameters: &str, change: impl Fn(&mut Answers)) -> String {
    let config = Config::parse(&format!("postgres://u@db.example/d?{parameters}")).expect("valid");
    let mut answers = healthy();
    change(&mut answers);
    report(&config, config.connection_limit as i32, 1, &answers)
        .warnings
        .join("\n")
}

#[test]
fn several_hosts_need_to_know_which_of_them_is_wanted() {
    let of = |url: &str| {
        let config = Config::parse(url).expect("valid");
        report(&config, 10, 1, &healthy()).warnings.join(" ")
    };
    let any = of("postgres://a,b/d");
    assert!(any.contains("set target_session_attrs=read-write"), "{any}");
    assert_eq!(of("postgres://a,b/d?target_session_attrs=read-write"), "");
    assert_eq!(of("postgres://a/d"), "");
}

#[test]
fn the_checklist_asks_for_a_limit_and_for_a_role() {
    let changes = |parameters: &str, rights: Option<&str>| {
        let config =
            Config::parse(&format!("postgres://u@db.example/d?{parameters}")).expect("valid");
        let answers = Answers {
            rights: rights.map(str::to_owned),
            ..healthy()
        };
        let report = report(&config, 10, 1, &answers);
        let changes = report.checks.into_iter();
        let changes = changes.filter(|check| check.verdict == Verdict::Change);
        changes.map(|check| check.name).collect::<Vec<_>>()
    };
    assert_eq!(changes("connection_limit=10", None), [""; 0]);
    assert_eq!(changes("", None), ["limit"]);
    assert_eq!(
        changes("connection_limit=10", Some("is a superuser")),
        ["role"]
    );
    assert_eq!(
        changes("connection_limit=10&lock_timeout=6s", None),
        ["timeouts"]
    );
}

#[test]
fn each_fault_has_its_warning_and_the_defaults_have_none() {
    assert_eq!(warnings("", |_| {}), "");
    assert!(warnings("connection_limit=90", |_| {}).contains("lower connection_limit"));
    assert!(warnings("", |answers| answers.fleet.of_role = 10).contains("than the 8 there are"));
    assert!(
        warnings("lock_timeout=6s", |_| {})
            .contains("lock_timeout (6s) should be shorter than statement_timeout (5s)")
    );
    assert!(
        warnings("statement_timeout=0", |_| {})
            .contains("statement_timeout (none) should be shorter than socket_timeout")
    );
    assert!(warnings("", |answers| answers.tls = false).contains("not encrypted"));
    let blind = "sslmode=prefer&sslrootcert=/ca.pem";
    assert!(warnings(blind, |_| {}).contains("is not checked"));
    for checked in ["sslaccept=strict", "sslmode=require", "sslmode=verify-ca"] {
        let parameters = format!("{checked}&sslrootcert=/ca.pem");
        assert_eq!(warnings(&parameters, |_| {}), "");
    }
    assert!(
        warnings("", |answers| answers.idle_session_timeout = 60).contains("ends idle sessions")
    );
    let behind = |timeout: &str| {
        warnings("", |answers| {
            answers.pooled = true;
            answers.statement_timeout = timeout.to_owned();
        })
    };
    assert!(behind("0").contains("alter role \"u\" set statement_timeout"));
    assert_eq!(behind("5s"), "");
}

#[test]
fn a_share_that_is_too_small_for_all_has_its_warning() {
    let auto = |following| {
        warnings("connection_limit=auto", |answers| {
            answers.fleet.following = following;
        })
    };
    assert_eq!(auto(0), "", "it has not said that it follows yet");
    assert_eq!(auto(36), "", "72 are left");
    assert!(auto(37).contains("72 connections are left for 37"));
}
