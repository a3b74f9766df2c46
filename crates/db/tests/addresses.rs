//! A name with several addresses, of which the first is silent or refuses: another one is taken, and an error names them all.
#![cfg(all(target_os = "linux", feature = "tls"))]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use local_postgres::{Cluster, Stop};
use rcgen::{CertificateParams, DnType, IsCa, KeyPair};
use support::certificates::write;
use support::{failure, pool_at};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Runs this test in a process that knows `two.test` by two addresses; false in that process.
fn outside(test: &str) -> bool {
    if std::env::var("ADDRESSES").as_deref() == Ok(test) {
        return false;
    }
    let hosts = std::env::temp_dir().join(format!("hosts-{test}-{}", std::process::id()));
    std::fs::write(&hosts, "127.0.0.1 localhost two.test\n127.0.0.2 two.test\n").expect("written");
    let script = format!(
        "mount --bind {} /etc/hosts && exec \"$0\" --exact {test} --nocapture",
        hosts.display()
    );
    let run = |flags: &str| {
        Command::new("unshare")
            .args([flags, "sh", "-c", &script])
            .arg(std::env::current_exe().expect("this program"))
            .env("ADDRESSES", test)
            .output()
            .expect("unshare")
    };
    // Where one is not root, the user of a namespace of its own is.
    let mut output = run("-m");
    let text = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    if !text(&output).contains("running 1 test") {
        output = run("-rm");
    }
    std::fs::remove_file(&hosts).expect("removed");
    if !text(&output).contains("running 1 test") {
        eprintln!("left out, because this machine lets nobody mount: {output:?}");
        return true;
    }
    assert!(
        output.status.success() && text(&output).contains("1 passed"),
        "{output:?}"
    );
    true
}

/// Accepts nobody: its queue is full for as long as these live.
async fn silent(address: &str) -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind(address.parse().expect("an address"))
        .expect("bound");
    let listener = socket.listen(0).expect("listening");
    let address = listener.local_addr().expect("an address");
    let mut waiting = Vec::new();
    while let Ok(Ok(one)) =
        tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
    {
        waiting.push(one);
        assert!(waiting.len() < 100, "the queue never gets full");
    }
    (listener, waiting)
}

/// Passes on what comes to this address.
async fn pass(address: &str, port: u16) {
    let listener = TcpListener::bind(address).await.expect("bound");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_first_address_is_passed_over_and_the_name_still_checked() {
    if outside("a_silent_first_address_is_passed_over_and_the_name_still_checked") {
        return;
    }
    let server = Cluster::temporary().expect("a server");
    let mut wanted = CertificateParams::new(["two.test".to_owned()]).expect("a name");
    wanted
        .distinguished_name
        .push(DnType::CommonName, "two.test");
    wanted.is_ca = IsCa::ExplicitNoCa;
    let key = KeyPair::generate().expect("a key");
    let certificate = wanted.self_signed(&key).expect("signed");
    write(&server, "server.crt", &certificate.pem());
    write(&server, "server.key", &key.serialize_pem());
    server
        .sql("postgres", "alter system set ssl = on")
        .expect("set");
    server.restart(Stop::Fast).expect("a restart");

    let (first, _waiting) = silent("127.0.0.1:0").await;
    let port = first.local_addr().expect("an address").port();
    pass(&format!("127.0.0.2:{port}"), server.port()).await;
    let url = server.url("postgres").replace(
        &format!("127.0.0.1:{}", server.port()),
        &format!("two.test:{port}"),
    );
    let folder = server.data_folder().display();
    let checked = format!("sslmode=verify-full&sslrootcert={folder}/server.crt");
    for mode in ["sslmode=disable", "sslmode=require", &checked] {
        let started = Instant::now();
        let pool = pool_at(&url, mode);
        let long: String = sqlx::query_scalar("select repeat('x', 100000)")
            .fetch_one(&pool)
            .await
            .unwrap_or_else(|error| panic!("{mode}: {error}"));
        assert_eq!(long.len(), 100_000);
        let took = started.elapsed();
        assert!(took < Duration::from_secs(2), "{mode}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_names_every_address_with_its_reason() {
    if outside("an_error_names_every_address_with_its_reason") {
        return;
    }
    let (first, _waiting) = silent("127.0.0.1:0").await;
    let port = first.local_addr().expect("an address").port();
    // 127.0.0.2 refuses.
    let text = failure(
        &format!("postgres://a:b@two.test:{port}/c"),
        "sslmode=disable&connect_timeout=1",
    )
    .await;
    let expected = [
        format!("127.0.0.1:{port}: no answer"),
        format!("127.0.0.2:{port}: Connection refused"),
    ];
    assert!(expected.iter().all(|part| text.contains(part)), "{text}");
    drop(first);
    drop(_waiting);
    let text = failure(
        &format!("postgres://a:b@two.test:{port}/c"),
        "sslmode=disable&connect_timeout=1",
    )
    .await;
    let expected = [
        format!("127.0.0.1:{port}: Connection refused"),
        format!("127.0.0.2:{port}: Connection refused"),
    ];
    assert!(expected.iter().all(|part| text.contains(part)), "{text}");
}
