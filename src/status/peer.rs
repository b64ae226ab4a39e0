//! Views of the routers that each instance hears.

use core::net::IpAddr;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::vrrp::State;
use crate::base::{Family, IfName, Instant, Name};
use crate::model::vrrp::Vrid;

/// Reasons for which a packet is refused, by their numbers (`vrrp::accept::Refusal::kind`): the counter of an instance
/// that counts them, and in words.
pub const REFUSALS: [(&str, &str); 19] = [
    ("bad_destination", "wrong destination address"),
    ("bad_ttl", "wrong TTL"),
    ("bad_version", "wrong version"),
    ("bad_type", "wrong type"),
    ("bad_length", "wrong length"),
    ("bad_checksum", "wrong checksum"),
    ("bad_auth_type", "unknown authentication"),
    ("auth_mismatch", "other authentication"),
    ("auth_failure", "wrong password"),
    ("bad_interval", "wrong interval"),
    ("ignored_as_owner", "own addresses"),
    ("bad_address_count", "wrong address count"),
    ("not_a_peer", "not a peer"),
    ("auth_missing", "missing trailer"),
    ("auth_malformed", "malformed trailer"),
    ("auth_unknown_key", "unknown key"),
    ("auth_invalid_hmac", "wrong HMAC"),
    ("auth_stale", "stale trailer"),
    ("auth_replay", "replayed trailer"),
];

/// The routers that the instances have heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// Time of the view.
    pub at: Instant,
    /// The instances, in the order of the configuration.
    pub instances: Vec<InstancePeers>,
    /// Adverts received for a VRID that no instance has.
    pub unknown_vrid: u64,
    /// Packets of IP protocol 112 that belong to no instance.
    pub malformed: u64,
}

impl Peers {
    /// Joins this part of a view with the next one; counters are those of the next one.
    #[must_use]
    pub fn joined(mut self, next: Self) -> Self {
        self.instances.extend(next.instances);
        Self { instances: self.instances, ..next }
    }
}

/// The routers that one instance has heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstancePeers {
    pub name: Name,
    pub interface: IfName,
    pub vrid: Vrid,
    pub family: Family,
    pub state: State,
    /// Its own version of the protocol, effective priority and configured interval.
    pub version: u8,
    pub priority: u8,
    pub interval: Duration,
    /// The router that it follows.
    pub master: Option<IpAddr>,
    /// The configured peers first, then the others in the order in which they were first heard.
    pub peers: Vec<Peer>,
    /// Refused packets of further senders, for which there is no room.
    pub others: u64,
}

/// A router that was heard, or a configured peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Source address of its packets.
    pub source: IpAddr,
    /// It is in `unicast_peer`.
    pub configured: bool,
    /// The version of the protocol in its last packet, valid or not.
    pub version: Option<u8>,
    /// Valid adverts.
    pub adverts: u64,
    /// Its last valid advert.
    pub last: Option<Said>,
    /// Refused packets, by the number of the reason in [`REFUSALS`].
    pub refused: Vec<(u8, u32)>,
    /// When the last one was refused, and the number of the reason.
    pub last_refused: Option<(Instant, u8)>,
}

/// The contents of a valid advert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub at: Instant,
    pub priority: u8,
    pub interval: Duration,
    pub checksum: Checksum,
    pub authentication: Proven,
}

/// What a checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Checksum {
    /// The packet alone: version 2, and version 3 with `v3_checksum_as_v2`.
    Plain,
    /// A pseudo-header too: version 3, and IPv6.
    Pseudo,
    /// A pseudo-header with the multicast group, in a unicast packet: keepalived before 2.0.
    OldUnicast,
}

impl Checksum {
    /// `plain`, `pseudo-header` or `old unicast`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Pseudo => "pseudo-header",
            Self::OldUnicast => "old unicast",
        }
    }
}

/// How an advert was authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proven {
    /// Not at all.
    No,
    /// By the password, in clear text.
    Pass,
    /// By the IP authentication header.
    Ah,
    /// By the HMAC trailer.
    Hmac,
}

impl Proven {
    /// `none`, `PASS`, `AH` or `HMAC`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::No => "none",
            Self::Pass => "PASS",
            Self::Ah => "AH",
            Self::Hmac => "HMAC",
        }
    }
}
