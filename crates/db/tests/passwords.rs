//! Every password that libpq sends is sent, and no character of one is printed.

mod support;

use std::fmt::Write;

use db::{Config, Error, Pool};
use local_postgres::{Cluster, Stop};

/// With what SASLprep does not allow: control characters, a private one, and writing in two directions.
const PASSWORDS: [&str; 5] = [
    "tab\there",
    "bell\u{7}",
    "private\u{e000}use",
    "a\u{5d0}1b",
    "line\nend",
];

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "%{byte:02X}");
        text
    })
}

fn url(server: &Cluster, password: &str, parameters: &str) -> String {
    let port = server.port();
    let password = encoded(password);
    format!("postgres://odd:{password}@127.0.0.1:{port}/postgres?{parameters}")
}

#[tokio::test]
async fn a_password_is_sent_as_it_is_where_saslprep_does_not_allow_it() {
    let server = Cluster::temporary().expect("a server");
    server
        .sql("postgres", "create role odd login")
        .expect("a role");
    let hba = server.data_folder().join("pg_hba.conf");
    let rules = std::fs::read_to_string(&hba).expect("its rules");
    // In front: the first rule that fits decides.
    std::fs::write(&hba, format!("local all odd scram-sha-256\n{rules}")).expect("written");
    server.restart(Stop::Fast).expect("a restart");
    for password in PASSWORDS {
        let sql = format!("alter role odd password '{password}'");
        server.sql("postgres", &sql).expect("set");
        for mode in ["", "sslmode=disable", "sslmode=allow"] {
            let config = Config::parse(&url(&server, password, mode)).expect("a URL");
            let pool = Pool::new(config);
            let sum: i32 = sqlx::query_scalar("select 1 + 1")
                .fetch_one(&pool)
                .await
                .unwrap_or_else(|error| panic!("{password:?}: {error}"));
            assert_eq!(sum, 2);
        }
        // The same by the socket, for whom the server asks for it there too.
        let (folder, port) = (server.socket_folder().display(), server.port());
        let password_ = encoded(password);
        let by_socket = format!("postgres://odd:{password_}@:{port}/postgres?host={folder}");
        let pool = Pool::new(Config::parse(&by_socket).expect("a URL"));
        let local: bool = sqlx::query_scalar("select inet_server_port() is null")
            .fetch_one(&pool)
            .await
            .unwrap_or_else(|error| panic!("{password:?}: {error}"));
        assert!(local, "by the socket, not by TCP");
        // Another one is wrong all the same, and is not printed.
        let wrong = format!("{password}\u{1}Zq");
        let text = refusal(&url(&server, &wrong, "")).await;
        assert!(
            text.contains("the password for `odd` is not valid"),
            "{text}"
        );
    }
}

/// What is printed of it, for people and for those who look closely, on every level.
async fn refusal(url: &str) -> String {
    let pool = Pool::new(Config::parse(url).expect("a URL"));
    let error = pool.acquire().await.expect_err("refused");
    let Error::Connect(connect) = &error else {
        panic!("{error:?}");
    };
    let mut text = format!("{error} {error:?} {connect:#?}");
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        let _ = write!(text, " {error} {error:?}");
        cause = error.source();
    }
    for secret in [
        "\\t", "\\u{7}", "\\u{1}", "Zq", "tab", "bell", "private", "\\n",
    ] {
        assert!(!error.to_string().contains(secret), "{text}");
        let printed = text.replace("\n", " ");
        assert!(!printed.contains(secret), "{secret:?} in {printed}");
    }
    text
}

#[tokio::test]
async fn where_the_password_cannot_be_sent_none_of_its_characters_is_printed() {
    let server = Cluster::temporary().expect("a server");
    let sql = "create role odd login password 'tab\there'";
    server.sql("postgres", sql).expect("a role");
    // It has no TLS, so it is by a pool of sqlx's own that such a password gets as far as the driver.
    let pool = Pool::new(Config::parse(&url(&server, "tab\there", "")).expect("a URL"));
    let theirs = pool.sqlx_pool(1).await.expect("a pool");
    let error = theirs.acquire().await.expect_err("sqlx sends none");
    let text = db::said(&error) + &Error::from(error).to_string();
    assert!(text.contains("password") && !text.contains("\\t"), "{text}");
}
