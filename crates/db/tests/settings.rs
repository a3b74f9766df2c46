//! `DATABASE_URL` and its parameters, without touching the environment.

mod support;

use std::time::Duration;

use db::{Config, ConfigError, PARAMETERS, Pool, TargetSessionAttrs};
use proptest::prelude::*;

const URL: &str = "postgres://user:canary@host:5432/database";

fn parse(parameters: &str) -> Result<Config, String> {
    Config::parse(&format!("{URL}?{parameters}")).map_err(|error| error.to_string())
}

#[test]
fn each_parameter_is_read_with_its_unit() {
    let seconds = |n| Some(Duration::from_secs(n));
    type Check = fn(&Config) -> bool;
    let accepted: [(&str, Check); 17] = [
        ("", |c| {
            c.connection_limit == 10 && c.pool_timeout == Some(Duration::from_secs(20))
        }),
        ("connection_limit=5&pool_timeout=7", |c| {
            c.connection_limit == 5 && c.pool_timeout == Some(Duration::from_secs(7))
        }),
        ("connection_limit=5", |c| c.queue_limit == 10_000),
        ("queue_limit=0", |c| c.queue_limit == 0),
        ("connection_limit=5", |c| c.queue_target.is_none()),
        ("queue_target=50ms", |c| {
            c.queue_target == Some(Duration::from_millis(50))
        }),
        ("pool_timeout=0", |c| c.pool_timeout.is_none()),
        ("connect_timeout=250ms", |c| {
            c.connect_timeout == Some(Duration::from_millis(250))
        }),
        ("socket_timeout=2min", |c| {
            c.socket_timeout == Some(Duration::from_secs(120))
        }),
        ("statement_timeout=1500", |c| {
            c.statement_timeout == Some(Duration::from_millis(1500))
        }),
        ("lock_timeout=1s", |c| {
            c.lock_timeout == Some(Duration::from_secs(1))
        }),
        ("min_connections=3", |c| c.min_connections == 3),
        ("pgbouncer=true&schema=public&statement_timeout=5", |c| {
            c.pgbouncer && c.statement_timeout == Some(Duration::from_millis(5))
        }),
        ("target_session_attrs=read-write", |c| {
            c.target_session_attrs == TargetSessionAttrs::ReadWrite
        }),
        ("host=/var/run/postgresql", |c| {
            c.address() == "/var/run/postgresql"
        }),
        ("sslmode=require&sslaccept=strict&sslcert=/ca.pem", |_| true),
        (
            "options=-c%20geqo%3Doff%20--work_mem%3D8MB&channel_binding=prefer",
            |_| true,
        ),
    ];
    for (parameters, check) in accepted {
        let config = parse(parameters).unwrap_or_else(|error| panic!("{parameters}: {error}"));
        assert!(check(&config), "{parameters}: {config:?}");
    }
    assert_eq!(
        parse("max_idle_connection_lifetime=60")
            .expect("valid")
            .max_idle_connection_lifetime,
        seconds(60)
    );
}

#[tokio::test]
async fn the_url_sets_tcps_keepalive_on_the_servers_side() {
    let pool = support::pool("options=-c%20tcp_keepalives_idle=61%20-c%20tcp_keepalives_count=3");
    let sql = "select current_setting('tcp_keepalives_idle') || ' ' || current_setting('tcp_keepalives_count')";
    let set: String = sqlx::query_scalar(sql)
        .fetch_one(&pool)
        .await
        .expect("read");
    assert_eq!(
        set, "61 3",
        "the kernel has them: it is asked for what is shown"
    );
}

#[test]
fn a_bad_parameter_is_named_with_what_it_takes_but_never_its_value() {
    let refused = [
        (
            "connection_limit=canary",
            "`connection_limit`",
            "a whole number from 1 to 10000",
        ),
        ("connection_limit=0", "`connection_limit`", "from 1"),
        ("connection_limit=-1", "`connection_limit`", "from 1"),
        (
            "connection_limit=99999999999999999999",
            "`connection_limit`",
            "from 1",
        ),
        (
            "conection_limit=canary",
            "`conection_limit`",
            "did you mean `connection_limit`?",
        ),
        (
            "poolTimeout=canary",
            "`poolTimeout`",
            "write `pool_timeout`",
        ),
        ("canary_zzz=1", "unknown parameter", ""),
        ("pool_timeout=1.5", "`pool_timeout`", "a whole number"),
        ("pool_timeout=99999999", "`pool_timeout`", "at most 20 days"),
        ("pool_timeout=5canary", "`pool_timeout`", "`500ms`"),
        (
            "pool_timeout=1&pool_timeout=2",
            "`pool_timeout`",
            "given once",
        ),
        ("pgbouncer=yes", "`pgbouncer`", "true or false"),
        ("sslmode=canary", "`sslmode`", "verify-full"),
        ("sslaccept=canary", "`sslaccept`", "strict"),
        ("sslmode=disable&sslaccept=strict", "`sslaccept`", "absent"),
        (
            "sslidentity=canary.p12&sslpassword=canary",
            "`sslidentity`",
            "PEM",
        ),
        ("sslpassword=canary", "`sslpassword`", "PEM"),
        ("sslkey=canary", "`sslkey`", "sslcert"),
        ("min_connections=11", "`min_connections`", "from 0 to 10"),
        ("options=canary", "`options`", "-c name=value"),
        ("pgbouncer=true&schema=canary", "`schema`", "alter role"),
        ("application_name=a%00canary", "`application_name`", "NUL"),
        (
            "single_use_connections=true",
            "`single_use_connections`",
            "false",
        ),
    ];
    for (parameters, key, hint) in refused {
        let error = parse(parameters).expect_err(parameters);
        assert!(
            error.contains(key) && error.contains(hint),
            "{parameters}: {error}"
        );
        assert!(
            parameters.starts_with("canary") || !error.contains("canary"),
            "{parameters}: {error}"
        );
    }
    for url in [
        "",
        "canary",
        "mysql://u:canary@h/d",
        "postgres://u:canary@h:canary/d",
        "postgres://u:canary%ff@h/d",
    ] {
        let error = Config::parse(url).expect_err(url);
        assert!(
            matches!(error, ConfigError::Url { .. }) && !error.to_string().contains("canary"),
            "{url}: {error}"
        );
    }
}

#[test]
fn an_unencoded_password_is_refused_and_no_piece_of_it_is_printed() {
    for password in [
        "can@ary",
        "canary#canary",
        "can@ary#can/ary",
        "can@ary/canary",
        "can@ary?canary",
        "can@ary?canary&canary=canary",
        "12/canary",
        "12?canary",
        "#canary",
    ] {
        let url = format!("postgres://user:{password}@host:5432/database");
        let error = Config::parse(&url).expect_err(&url);
        let printed = format!("{error} {error:?} {error:#?}");
        assert!(printed.contains("percent-encode"), "{url}: {printed}");
        assert!(
            !printed.contains("can") && !printed.contains("ary"),
            "{url}: {printed}"
        );
    }
    for parameters in ["schema=a#canary", "application_name=a@canary"] {
        let error = parse(parameters).expect_err(parameters);
        assert!(error.contains("percent-encode"), "{parameters}: {error}");
        assert!(!error.contains("canary"), "{parameters}: {error}");
    }
    let config =
        Config::parse("postgres://user:p%40ss%23w%2Frd%3F@host/data%40base").expect("valid");
    assert_eq!(config.database(), "data@base");
}

#[test]
fn a_url_in_quotes_is_refused_with_a_word_about_them() {
    for quote in ['"', '\''] {
        let error = Config::parse(&format!("{quote}{URL}{quote}\n")).expect_err("quoted");
        let printed = format!("{error} {error:?}");
        assert!(printed.contains("remove"), "{printed}");
        assert!(!printed.contains("canary"), "{printed}");
    }
}

#[test]
fn the_table_of_settings_has_every_parameter_with_its_default() {
    for (key, default, _) in PARAMETERS {
        if default.bytes().all(|byte| byte.is_ascii_digit())
            || matches!(*key, "pgbouncer" | "sslmode" | "sslaccept")
        {
            let beside = match *key {
                "connection_limit_max" => "connection_limit=auto",
                _ => "",
            };
            let (given, absent) = (
                parse(&format!("{beside}&{key}={default}")).expect(key),
                parse(beside).expect("valid"),
            );
            assert_eq!(format!("{given:#?}"), format!("{absent:#?}"), "{key}");
        }
    }
    let rows: String = PARAMETERS
        .iter()
        .map(|(key, default, meaning)| format!("| `{key}` | {default} | {meaning} |\n"))
        .collect();
    let readme = include_str!("../README.md");
    assert!(
        readme.contains(&rows),
        "README.md lacks these rows:\n{rows}"
    );
}

proptest! {
    #[test]
    fn parsing_never_panics(text in "\\PC*", key in "[a-z_]{0,40}", value in "\\PC*") {
        let _ = Config::parse(&text);
        let _ = Config::parse(&format!("{URL}?{key}={value}"));
        let _ = Config::parse(&format!("{URL}?{text}"));
        for (known, ..) in PARAMETERS {
            let _ = Config::parse(&format!("{URL}?{known}={value}"));
        }
    }
}

/// everything is printed at every level, and the password is in none of it.
#[tokio::test]
async fn no_secret_is_ever_printed() {
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("a lock").write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let theirs = "postgres://user:canary@host/db"
        .parse::<sqlx::postgres::PgConnectOptions>()
        .expect("valid");
    assert!(
        format!("{theirs:?}").contains("canary"),
        "sqlx prints the password"
    );

    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let server = local_postgres::shared();
    let config = Config::parse(&format!(
        "postgres://postgres:canary@127.0.0.1:{}/postgres?connect_timeout=2",
        server.port()
    ))
    .expect("valid");
    let mut printed = format!("{config:?} {config:#?}");
    let pool = Pool::new(config);
    let error = pool.acquire().await.expect_err("a wrong password");
    printed += &format!("{pool:?} {error} {error:?}");
    printed += &format!("{:?}", sqlx::Error::from(error));
    let check = pool.check().await.expect_err("a wrong password");
    printed += &format!("{check} {check:?} {:?}", pool.close(Duration::ZERO).await);
    drop(guard);
    printed += &String::from_utf8_lossy(&log.0.lock().expect("a lock"));
    assert!(printed.contains("Authentication failed"), "{printed}");
    assert!(!printed.contains("canary"), "{printed}");
}
