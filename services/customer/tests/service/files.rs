//! libpq's files of a home folder: what they hold counts for the server that they name, and for no other.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;

use crate::process::run;

struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("home-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join(".postgresql")).unwrap();
        Self(folder)
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.0.join(file);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }

    fn migrate(&self, url: &str) -> String {
        let settings = [("DATABASE_URL", url), ("HOME", self.0.to_str().unwrap())];
        let output = run("migrate", &settings);
        let all = [output.stdout, output.stderr].concat();
        String::from_utf8(all).unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server without TLS that asks for the password as it is, and its port. What it was sent last comes out of the thread.
fn asks_for_a_password() -> (u16, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sent = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut bytes = [0; 4096];
        assert_eq!(client.read(&mut bytes).unwrap(), 8, "it asks for TLS");
        client.write_all(b"N").unwrap();
        assert!(client.read(&mut bytes).unwrap() > 8, "who it is");
        client.write_all(&[b'R', 0, 0, 0, 8, 0, 0, 0, 3]).unwrap();
        let length = client.read(&mut bytes).unwrap_or_default();
        bytes[..length].to_vec()
    });
    (port, sent)
}

#[test]
fn a_password_of_the_file_goes_to_the_one_host_that_it_is_for() {
    let home = Home::new("passwords");
    let (port, sent) = asks_for_a_password();
    home.write(".pgpass", &format!("127.0.0.1:{port}:shop:shop:canary\n"));
    home.migrate(&format!("postgres://shop@127.0.0.1:{port}/shop"));
    let sent = sent.join().unwrap();
    assert!(
        String::from_utf8_lossy(&sent).contains("canary"),
        "{sent:?}"
    );

    let (port, sent) = asks_for_a_password();
    home.write(".pgpass", "127.0.0.1:1:shop:shop:canary\n");
    let hosts = format!("127.0.0.1:1,127.0.0.1:{port}");
    let url = format!("postgres://shop@{hosts}/shop?target_session_attrs=primary");
    home.migrate(&url);
    let sent = sent.join().unwrap();
    assert!(
        !String::from_utf8_lossy(&sent).contains("canary"),
        "{sent:?}"
    );
}

#[test]
fn the_authorities_of_the_file_count_where_none_is_named() {
    let home = Home::new("authorities");
    let url = "postgres://shop:s@127.0.0.1:1/shop?sslmode=require";
    assert!(home.migrate(url).contains("checks neither"));
    home.write(".postgresql/root.crt", "");
    assert!(!home.migrate(url).contains("checks neither"));
}
