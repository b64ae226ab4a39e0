//! IPVS sync daemons, which send connections to other directors or receive them: at most one of each kind. The kernel
//! announces no changes of them.

use core::fmt;
use core::net::IpAddr;

use super::object::{Attributes, Identity, Sight};
use crate::base::IfName;
use crate::model::SyncSettings;

/// What a daemon does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SyncRole {
    /// It sends connections (master).
    Master,
    /// It receives connections (backup).
    Backup,
}

/// A daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncDaemon {
    /// What it does.
    pub role: SyncRole,
    /// Interface of its packets.
    pub interface: IfName,
    /// The sync id in its packets: a daemon accepts only packets with its own.
    pub id: u8,
    /// Most octets of a packet.
    pub max_length: Option<u16>,
    /// UDP port.
    pub port: Option<u16>,
    /// Time to live of its packets.
    pub ttl: Option<u8>,
    /// Multicast group.
    pub group: Option<IpAddr>,
}

impl SyncDaemon {
    /// The configured daemon; `id` is used if none is configured.
    #[must_use]
    pub fn of(settings: &SyncSettings, role: SyncRole, id: u8) -> Self {
        Self {
            role,
            interface: settings.interface.clone(),
            id: settings.id.unwrap_or(id),
            max_length: settings.max_length,
            port: settings.port,
            ttl: settings.ttl,
            group: settings.group,
        }
    }

    /// This daemon as read from the kernel.
    #[must_use]
    pub fn sight(self) -> Sight {
        Sight {
            identity: Identity::SyncDaemon(self.role),
            links: Vec::new(),
            attributes: Some(Box::new(Attributes::SyncDaemon(self))),
        }
    }

    /// This daemon, read from the kernel, with only the options that `wanted` sets: the kernel has its own defaults
    /// for the rest.
    pub(super) fn applied_to(&self, wanted: &Self) -> Self {
        Self {
            max_length: wanted.max_length.and(self.max_length),
            port: wanted.port.and(self.port),
            ttl: wanted.ttl.and(self.ttl),
            group: wanted.group.and(self.group),
            ..self.clone()
        }
    }
}

impl SyncRole {
    /// Its word in messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Backup => "backup",
        }
    }
}

impl fmt::Display for SyncDaemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IPVS sync daemon ({}) on {}", self.role.word(), self.interface)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_configured_options_of_a_daemon_are_compared() {
        let plain = SyncDaemon {
            role: SyncRole::Backup,
            interface: IfName::eth0(),
            id: 7,
            max_length: None,
            port: None,
            ttl: None,
            group: None,
        };
        let found = SyncDaemon {
            max_length: Some(1472),
            port: Some(8848),
            ttl: Some(1),
            group: "224.0.0.81".parse().ok(),
            ..plain.clone()
        };
        assert_eq!(found.applied_to(&plain), plain);
        for wanted in [
            SyncDaemon { max_length: Some(1000), ..plain.clone() },
            SyncDaemon { port: Some(1000), ..plain.clone() },
            SyncDaemon { ttl: Some(2), ..plain.clone() },
            SyncDaemon { group: "224.0.0.82".parse().ok(), ..plain.clone() },
        ] {
            assert_ne!(found.applied_to(&wanted), wanted);
            assert_eq!(wanted.applied_to(&wanted), wanted);
        }
        let other = SyncDaemon { id: 8, ..found };
        assert_ne!(other.applied_to(&plain), plain);
    }
}
