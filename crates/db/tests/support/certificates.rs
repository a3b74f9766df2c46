//! Certificates for a server's data folder.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use local_postgres::Cluster;
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, KeyPair};

pub(crate) fn authority(name: &str) -> (Certificate, KeyPair) {
    let mut wanted = CertificateParams::default();
    wanted.distinguished_name.push(DnType::CommonName, name);
    wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    (wanted.self_signed(&key).expect("signed"), key)
}

/// As the server wants its key: its own user's, who is another one where the tests run as root, and nobody else's.
pub(crate) fn write(server: &Cluster, name: &str, text: &str) {
    let file = server.data_folder().join(name);
    fs::write(&file, text).expect("written");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("closed");
    let owner = server.data_folder().metadata().expect("its owner");
    chown(&file, Some(owner.uid()), Some(owner.gid())).expect("given");
}
