//! Clients that hold a connection and do not go on.

use std::time::Duration;

/// So many lists are asked for at once by a client that reads none: more than the system keeps for it.
const LISTS: usize = 300;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Silent,
    HalfHead,
    HalfBody,
    NeverReads,
}

pub(crate) const KINDS: [Kind; 4] = [
    Kind::Silent,
    Kind::HalfHead,
    Kind::HalfBody,
    Kind::NeverReads,
];

impl Kind {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Silent => "nothing sent",
            Self::HalfHead => "half a head",
            Self::HalfBody => "half a body",
            Self::NeverReads => "300 lists, none read",
        }
    }

    /// All that the client ever sends.
    pub(crate) fn request(self) -> Vec<u8> {
        match self {
            Self::Silent => Vec::new(),
            Self::HalfHead => b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx-slow: ".to_vec(),
            Self::HalfBody => b"POST /api/customers HTTP/1.1\r\nhost: localhost\r\n\
                content-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"name\":\"S"
                .to_vec(),
            Self::NeverReads => {
                b"GET /api/customers?limit=100 HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(LISTS)
            }
        }
    }

    /// When its connection is to be closed at the latest.
    pub(crate) fn deadline(self) -> Duration {
        Duration::from_secs(match self {
            Self::Silent | Self::HalfHead => 5,
            Self::HalfBody => 10,
            Self::NeverReads => 20,
        })
    }

    /// Whether it is to be told, with 408, why.
    pub(crate) fn is_told(self) -> bool {
        matches!(self, Self::HalfHead | Self::HalfBody)
    }
}
