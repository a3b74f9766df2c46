//! Where the server of a configuration is.

use crate::config::hosts::Host;
use crate::config::{Config, TargetSessionAttrs};

impl Config {
    /// Where the server may be, in the order of the URL.
    pub(crate) fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The same settings for one of several hosts.
    pub(crate) fn only(&self, host: &Host) -> Self {
        Self {
            hosts: vec![host.clone()],
            ..self.clone()
        }
    }

    /// Whether a server that answers may not be the one that is wanted.
    pub(crate) fn looks_at_role(&self) -> bool {
        self.hosts.len() > 1 || self.target_session_attrs != TargetSessionAttrs::Any
    }

    /// `host:port`, or the socket's folder; of several hosts all, with commas between.
    #[must_use]
    pub fn address(&self) -> String {
        let all: Vec<String> = self.hosts.iter().map(Host::to_string).collect();
        all.join(",")
    }

    /// The host and its port, or the socket's folder and none; nothing if there are several hosts.
    pub(crate) fn server(&self) -> Option<(&str, Option<u16>)> {
        let [host] = &self.hosts[..] else {
            return None;
        };
        Some((host.name(), host.port()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_hosts_are_taken_apart_before_the_url_is_read() {
        let config = |url: &str| Config::parse(url).map(|config| config.address());
        for (url, address) in [
            ("postgres://a/shop", "a:5432"),
            (
                "postgres://u:p,q@a:1,b,[::1]:3?target_session_attrs=any",
                "a:1,b:5432,::1:3",
            ),
            ("postgres://u@%2Frun%2Fone,b:2/shop", "/run/one,b:2"),
            ("postgres://a,b/shop?host=/run/pg", "/run/pg"),
        ] {
            assert_eq!(config(url).as_deref(), Ok(address), "{url}");
        }
        let mixed = Config::parse("postgres://u@%2Frun%2Fone,b:2/shop").expect("valid");
        let second = mixed.hosts()[1].apply(mixed.options(false));
        assert_eq!((second.get_socket(), second.get_host()), (None, "b"));
        for url in [
            "postgres://a,/shop",
            "postgres://u@,b/shop",
            "postgres://a,b:x/shop",
        ] {
            assert!(config(url).is_err(), "{url}");
        }
    }
}
