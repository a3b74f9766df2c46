//! TLS against a server that has it: what was asked for is what happens, and a failure says what to check.
#![cfg(feature = "tls")]

mod support;

use std::fs;
use std::sync::OnceLock;

use db::Pool;
use local_postgres::{Cluster, Stop};
use rcgen::{CertificateParams, DnType, KeyPair};
use support::certificates::{authority, write};
use support::{failure, pool_at};

/// A server with TLS. Its certificate is for `localhost` and signed by `ca.crt`; that and all other files lie in its data
/// folder. The database `guarded` is open to who shows a certificate with the role's name.
fn server() -> &'static Cluster {
    static SERVER: OnceLock<Cluster> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = Cluster::temporary().expect("a server");
        make_certificates(&server);
        let hba = server.data_folder().join("pg_hba.conf");
        let rules = fs::read_to_string(&hba).expect("its rules");
        // In front: the first rule that fits decides.
        fs::write(&hba, format!("hostssl guarded all all cert\n{rules}")).expect("written");
        server.create_database("guarded").expect("a database");
        let on = "alter system set ssl = on; alter system set ssl_ca_file = 'ca.crt'";
        server.sql("postgres", on).expect("set");
        // Unlike a reload it is over when it returns, and fails if the certificate or its key does not please.
        server.restart(Stop::Fast).expect("a restart");
        server
    })
}

fn make_certificates(server: &Cluster) {
    let (ca, ca_key) = authority("ours");
    write(server, "ca.crt", &ca.pem());
    write(server, "other.crt", &authority("another").0.pem());
    for (file, name) in [("server", "localhost"), ("client", "postgres")] {
        let mut wanted = CertificateParams::new([name.to_owned()]).expect("a name");
        wanted.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = wanted.signed_by(&key, &ca, &ca_key).expect("signed");
        write(server, &format!("{file}.crt"), &certificate.pem());
        write(server, &format!("{file}.key"), &key.serialize_pem());
    }
}

/// `DIR` stands for the folder with the files.
fn with_folder(parameters: &str) -> String {
    let folder = server().data_folder().to_str().expect("a name");
    parameters.replace("DIR", folder)
}

fn pool(database: &str, parameters: &str) -> Pool {
    pool_at(&server().url(database), &with_folder(parameters))
}

async fn refusal(database: &str, parameters: &str) -> String {
    failure(&server().url(database), &with_folder(parameters)).await
}

/// Whether the server sees TLS on it, and whose certificate.
async fn session(pool: &Pool) -> (bool, Option<String>) {
    let sql = "select ssl, client_dn from pg_stat_ssl where pid = pg_backend_pid()";
    let row = sqlx::query_as(sql).fetch_one(pool).await;
    row.expect("a row")
}

#[tokio::test]
async fn a_connection_is_encrypted_where_the_server_can() {
    for (parameters, encrypted, fact) in [
        ("", true, "TLS: on"),
        ("sslmode=prefer", true, "TLS: on"),
        ("sslmode=allow", true, "TLS: on"),
        ("sslmode=require", true, "TLS: on"),
        // Checked against nothing, as with libpq.
        (
            "sslmode=prefer&sslrootcert=DIR/other.crt",
            true,
            "sslmode=verify-full",
        ),
        (
            "sslmode=require&sslaccept=accept_invalid_certs&sslrootcert=DIR/other.crt",
            true,
            "sslmode=verify-full",
        ),
        ("sslmode=disable", false, "TLS: off"),
    ] {
        let pool = pool("postgres", parameters);
        assert_eq!(session(&pool).await, (encrypted, None), "{parameters}");
        let report = pool.examine().await.expect("a report").to_string();
        assert!(report.contains(fact), "{parameters}: {report}");
    }
}

#[tokio::test]
async fn a_server_that_can_prove_itself_is_accepted() {
    for parameters in [
        "sslmode=verify-full&sslrootcert=DIR/ca.crt&host=localhost",
        "sslaccept=strict&sslrootcert=DIR/ca.crt&host=localhost",
        "sslaccept=strict&sslcert=DIR/ca.crt&host=localhost",
        // Who signed it is what counts here, not that it is for `localhost` and not for 127.0.0.1.
        "sslmode=verify-ca&sslrootcert=DIR/ca.crt",
        "sslmode=verify-ca&sslcert=DIR/ca.crt",
        // libpq's rule: an authority that is named counts.
        "sslmode=require&sslrootcert=DIR/ca.crt",
        "sslmode=require&sslcert=DIR/ca.crt",
    ] {
        let pool = pool("postgres", parameters);
        assert_eq!(session(&pool).await, (true, None), "{parameters}");
    }
}

// sqlx reports these as I/O errors, as if nobody listened.
#[tokio::test]
async fn a_server_that_cannot_prove_itself_is_refused_and_the_error_says_why() {
    for (parameters, why) in [
        (
            "sslmode=verify-full&sslrootcert=DIR/other.crt&host=localhost",
            "UnknownIssuer",
        ),
        (
            "sslaccept=strict&sslcert=DIR/other.crt&host=localhost",
            "UnknownIssuer",
        ),
        (
            "sslmode=verify-ca&sslrootcert=DIR/other.crt",
            "UnknownIssuer",
        ),
        ("sslmode=require&sslrootcert=DIR/other.crt", "UnknownIssuer"),
        ("sslmode=require&sslcert=DIR/other.crt", "UnknownIssuer"),
        ("sslrootcert=system&host=localhost", "UnknownIssuer"),
        (
            "sslmode=verify-full&sslrootcert=DIR/ca.crt",
            "not valid for name",
        ),
        ("sslaccept=strict&sslcert=DIR/ca.crt", "not valid for name"),
    ] {
        let text = refusal("postgres", parameters).await;
        let expected = [
            "Error opening a TLS connection",
            why,
            "check sslmode, sslrootcert and sslcert",
        ];
        assert!(
            expected.iter().all(|part| text.contains(part)),
            "{parameters}: {text}"
        );
    }
}

#[tokio::test]
async fn a_client_certificate_logs_in() {
    for verified in [
        "",
        "&sslmode=verify-ca&sslrootcert=DIR/ca.crt",
        "&sslmode=verify-full&sslrootcert=DIR/ca.crt&host=localhost",
    ] {
        let parameters = format!("sslcert=DIR/client.crt&sslkey=DIR/client.key{verified}");
        let (encrypted, name) = session(&pool("guarded", &parameters)).await;
        assert_eq!(
            (encrypted, name.as_deref()),
            (true, Some("/CN=postgres")),
            "{parameters}"
        );
    }
    // `prefer` does without TLS then, as libpq does: psql connects here too.
    let (encrypted, name) = session(&pool("guarded", "")).await;
    assert_eq!((encrypted, name), (false, None));
    // Where TLS is asked for the password in the URL does not help.
    for (parameters, why) in [
        ("sslmode=require", "requires a valid client certificate"),
        (
            "sslmode=require&sslcert=DIR/server.crt&sslkey=DIR/server.key",
            "certificate authentication failed",
        ),
    ] {
        let text = refusal("guarded", parameters).await;
        let expected = text.contains("Access denied") && text.contains(why);
        assert!(expected, "{parameters}: {text}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named_by_its_parameter() {
    for (parameters, key) in [
        ("sslmode=verify-full&sslrootcert=DIR/absent", "sslrootcert"),
        // Unreadable for root too.
        ("sslmode=verify-full&sslrootcert=DIR", "sslrootcert"),
        ("sslaccept=strict&sslcert=DIR/absent", "sslcert"),
        ("sslcert=DIR/absent&sslkey=DIR/client.key", "sslcert"),
        ("sslcert=DIR/client.crt&sslkey=DIR/absent", "sslkey"),
    ] {
        let text = refusal("postgres", parameters).await;
        let expected = format!("the file that {key} names cannot be read");
        assert!(
            text.contains("TLS") && text.contains(&expected),
            "{parameters}: {text}"
        );
        // Somebody may have put the key itself there.
        assert!(!text.contains(&with_folder("DIR")), "{text}");
    }
}

/// Runs one test of this program once more, with this in its environment; what it needs to know comes with it.
fn again(test: &str, name: &str, value: &str) -> std::process::Output {
    std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env("TLS_TEST", test)
        .env(name, with_folder(value))
        .output()
        .expect("started")
}

#[tokio::test]
async fn without_a_file_the_store_of_the_system_counts() {
    const TEST: &str = "without_a_file_the_store_of_the_system_counts";
    if std::env::var("TLS_TEST").as_deref() != Ok(TEST) {
        let child = again(TEST, "SSL_CERT_FILE", "DIR/ca.crt");
        assert!(child.status.success(), "{child:?}");
        return;
    }
    // A server of this process's own: the file that the variable names is the other one's.
    let theirs = std::env::var("SSL_CERT_FILE").expect("named");
    let folder = std::path::Path::new(&theirs).parent().expect("a folder");
    for file in ["server.crt", "server.key"] {
        let text = fs::read_to_string(folder.join(file)).expect("read");
        write(server(), file, &text);
    }
    server().restart(Stop::Fast).expect("a restart");
    for parameters in [
        "sslmode=verify-full&host=localhost",
        "sslaccept=strict&host=localhost",
        "sslrootcert=system&host=localhost",
        "sslmode=verify-full&sslrootcert=system&host=localhost",
    ] {
        let pool = pool("postgres", parameters);
        assert_eq!(session(&pool).await, (true, None), "{parameters}");
    }
    // A file that is named counts alone.
    let alone = "sslmode=verify-full&sslrootcert=DIR/other.crt&host=localhost";
    let text = refusal("postgres", alone).await;
    assert!(text.contains("UnknownIssuer"), "{text}");
}

#[tokio::test]
async fn a_folder_of_a_socket_is_never_in_need_of_tls() {
    let url = server().socket_url("postgres");
    let pool = pool_at(&url, "sslmode=verify-full");
    assert_eq!(session(&pool).await, (false, None));
}
