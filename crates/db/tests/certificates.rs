//! Certificates that OpenSSL takes and rustls does not: who checks nothing is served, and whoever checks is told what is wrong.
#![cfg(feature = "tls")]

mod support;

use std::io;
use std::process::Command;
use std::sync::{Arc, Mutex};

use db::Pool;
use local_postgres::{Cluster, Stop};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};
use support::certificates::write;
use support::{failure, pool_at};

/// Made by the recipe in PostgreSQL's manual with OpenSSL 3.0, for `localhost` and a hundred years. Newer ones make another.
const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBJDCBywIUKgfjqWVzn1iEeXKql9RGWC3js3wwCgYIKoZIzj0EAwIwFDESMBAG
A1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyOTE2NTgyOFoYDzIxMjYxMTA1MTY1ODI4
WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AATmE/r4obj9xkiXjpUsQamfGWtJ5k520xs5/NUc2oJAmwFDZVABDiR5SbdGgquC
2X4phcxvaWWHuromVAZZrriWMAoGCCqGSM49BAMCA0gAMEUCIQCgZHccV0dACqFs
aVFgTN9sn7+J/YKJ8IMDMSqQelIPqQIgBsejR1thKFEAwxbbj6c06FI2LKeLVouH
0pZH5KNjc3s=
-----END CERTIFICATE-----
";
const KEY_OF_VERSION_1: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg7UnUlw/jRBOD6RmR
25ptb+vKgnyJlNHuTO/iZ4j+uX2hRANCAATmE/r4obj9xkiXjpUsQamfGWtJ5k52
0xs5/NUc2oJAmwFDZVABDiR5SbdGgquC2X4phcxvaWWHuromVAZZrriW
-----END PRIVATE KEY-----
";

/// The modes that check nothing, the default among them.
const UNCHECKED: [&str; 4] = ["", "sslmode=allow", "sslmode=prefer", "sslmode=require"];

/// A server that shows this certificate. It is in `server.crt` of the data folder, for `DIR`.
fn server(certificate: &str, key: &str) -> Cluster {
    let server = Cluster::temporary().expect("a server");
    write(&server, "server.crt", certificate);
    write(&server, "server.key", key);
    set(&server, "ssl = on");
    server
}

fn set(server: &Cluster, setting: &str) {
    let sql = format!("alter system set {setting}");
    server.sql("postgres", &sql).expect("set");
    server.restart(Stop::Fast).expect("a restart");
}

fn parameters(server: &Cluster, text: &str) -> String {
    text.replace("DIR", server.data_folder().to_str().expect("a name"))
}

/// One that has signed itself, for `localhost`.
fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut wanted = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    wanted
        .distinguished_name
        .push(DnType::CommonName, "localhost");
    change(&mut wanted);
    let key = KeyPair::generate().expect("a key");
    let certificate = wanted.self_signed(&key).expect("signed");
    (certificate.pem(), key.serialize_pem())
}

async fn is_encrypted(pool: &Pool) -> bool {
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let row: Result<bool, _> = sqlx::query_scalar(sql).fetch_one(pool).await;
    row.expect("a row")
}

/// Who checks nothing has TLS; whoever checks is told this, and what to do.
async fn shows(server: &Cluster, wrong: &str) {
    for mode in UNCHECKED {
        let pool = pool_at(&server.url("postgres"), mode);
        assert!(is_encrypted(&pool).await, "{wrong}: {mode}");
        // All that a connection is for, and not only its first answer.
        let long: String = sqlx::query_scalar("select repeat('x', 1000000)")
            .fetch_one(&pool)
            .await
            .expect("a row");
        assert_eq!(long.len(), 1_000_000);
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let checked = format!("host=localhost&sslmode={mode}&sslrootcert=DIR/server.crt");
        let text = failure(&server.url("postgres"), &parameters(server, &checked)).await;
        for part in [
            wrong,
            "`openssl req -new -x509",
            "CN=localhost",
            "DNS:localhost",
            "CA:FALSE",
        ] {
            assert!(text.contains(part), "{mode}: {text}");
        }
    }
}

#[tokio::test]
async fn a_certificate_of_version_1_serves_whoever_checks_nothing() {
    shows(&server(VERSION_1, KEY_OF_VERSION_1), "X.509 version 1").await;
}

#[tokio::test]
async fn a_certificate_of_an_authority_serves_whoever_checks_nothing() {
    let (certificate, key) = self_signed(|wanted| {
        wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    shows(&server(&certificate, &key), "(CA:TRUE)").await;
}

#[tokio::test]
async fn a_certificate_that_has_expired_serves_whoever_checks_nothing() {
    let (certificate, key) = self_signed(|wanted| {
        wanted.is_ca = IsCa::ExplicitNoCa;
        wanted.not_before = date_time_ymd(2020, 1, 1);
        wanted.not_after = date_time_ymd(2021, 1, 1);
    });
    shows(&server(&certificate, &key), "has expired").await;
}

#[tokio::test]
async fn the_command_of_the_error_makes_a_certificate_that_every_mode_takes() {
    let server = server(VERSION_1, KEY_OF_VERSION_1);
    let checked = parameters(
        &server,
        "host=localhost&sslmode=verify-full&sslrootcert=DIR/server.crt",
    );
    let text = failure(&server.url("postgres"), &checked).await;
    let command = text.split('`').find(|part| part.starts_with("openssl "));
    let made = Command::new("sh")
        .args(["-c", command.expect("a command")])
        .current_dir(server.data_folder())
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{made:?}");
    for file in ["server.crt", "server.key"] {
        // Whose it is matters to the server.
        let text = std::fs::read_to_string(server.data_folder().join(file)).expect("made");
        write(&server, file, &text);
    }
    server.restart(Stop::Fast).expect("a restart");
    let mut all = UNCHECKED.to_vec();
    all.push(&checked);
    for mode in all {
        let pool = pool_at(&server.url("postgres"), mode);
        assert!(is_encrypted(&pool).await, "{mode}");
    }
}

/// Keeps the log of a test.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// What this thread logs from now on.
    fn of_this_thread() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// The lines that warn and have this in them.
    fn warnings(&self, part: &str) -> Vec<String> {
        let bytes = self.0.lock().expect("a log").clone();
        let text = String::from_utf8(bytes).expect("text");
        let warns = |line: &&str| line.contains("WARN") && line.contains(part);
        text.lines().filter(warns).map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("a log").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_is_less_than_it_sounds_is_said_once() {
    let version_1 = server(VERSION_1, KEY_OF_VERSION_1);
    let (log, _guard) = Log::of_this_thread();
    let pool = pool_at(&version_1.url("postgres"), "sslmode=require");
    let all = [pool.acquire().await, pool.acquire().await];
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    let at_start = log.warnings("checks neither the server's certificate nor its name");
    assert_eq!(at_start.len(), 1, "{at_start:?}");
    assert!(
        at_start[0].contains("write sslmode=verify-full"),
        "{at_start:?}"
    );
    let unread = log.warnings("X.509 version 1");
    assert_eq!(unread.len(), 1, "{unread:?}");

    let (certificate, key) = self_signed(|wanted| wanted.is_ca = IsCa::ExplicitNoCa);
    let server = server(&certificate, &key);
    set(&server, "ssl_max_protocol_version = 'TLSv1.2'");
    set(&server, "ssl_ciphers = 'ECDHE-ECDSA-AES128-SHA'");
    let pool = pool_at(&server.url("postgres"), "");
    let all = [pool.acquire().await, pool.acquire().await];
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    let plain = log.warnings("are not encrypted, which sslmode=prefer allows");
    assert_eq!(plain.len(), 1, "{plain:?}");
}

#[tokio::test]
async fn prefer_does_without_tls_where_it_cannot_be_had() {
    let (certificate, key) = self_signed(|wanted| wanted.is_ca = IsCa::ExplicitNoCa);
    let server = server(&certificate, &key);
    set(&server, "ssl_max_protocol_version = 'TLSv1.2'");
    // What rustls has no word of.
    set(&server, "ssl_ciphers = 'ECDHE-ECDSA-AES128-SHA'");
    for mode in ["", "sslmode=allow", "sslmode=prefer"] {
        let pool = pool_at(&server.url("postgres"), mode);
        assert!(!is_encrypted(&pool).await, "{mode}");
    }
    let text = failure(&server.url("postgres"), "sslmode=require").await;
    assert!(text.contains("Error opening a TLS connection"), "{text}");
}

#[tokio::test]
async fn prefer_does_without_tls_where_nobody_is_let_in_with_it() {
    let (certificate, key) = self_signed(|wanted| wanted.is_ca = IsCa::ExplicitNoCa);
    let server = server(&certificate, &key);
    let hba = server.data_folder().join("pg_hba.conf");
    let rules = std::fs::read_to_string(&hba).expect("its rules");
    let only = format!("hostssl all all all reject\n{rules}");
    std::fs::write(&hba, only).expect("written");
    server.restart(Stop::Fast).expect("a restart");
    let pool = pool_at(&server.url("postgres"), "sslmode=prefer");
    assert!(!is_encrypted(&pool).await);
    let text = failure(&server.url("postgres"), "sslmode=require").await;
    assert!(
        text.contains("pg_hba.conf rejects connection") && !text.contains(" at line "),
        "{text}"
    );
}
