//! Interfaces that the daemon creates: those with the hardware address of a virtual router.

use serde::{Deserialize, Serialize};

use super::vrrp::Vrid;
use crate::base::{Family, IfName, Mac};

/// An interface that the daemon creates on another one, and removes when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualLink {
    pub name: IfName,
    pub parent: IfName,
    pub kind: LinkKind,
    /// Link group; that of the parent if none.
    pub group: Option<u32>,
    /// `netlink_notify_msg`: make the kernel send an event about the parent when it is created.
    pub notify: bool,
    /// The family of the addresses for which it is created.
    pub family: Family,
    /// It will have IPv6 addresses.
    pub carries_v6: bool,
}

impl VirtualLink {
    /// Its own hardware address; none if it shares that of its parent.
    #[must_use]
    pub const fn own_mac(&self) -> Option<Mac> {
        match self.kind {
            LinkKind::Macvlan { mac } => Some(mac),
            LinkKind::Ipvlan { .. } => None,
        }
    }
}

/// The kind of a created interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkKind {
    /// `use_vmac`: a macvlan in private mode.
    Macvlan { mac: Mac },
    /// `use_ipvlan`: an ipvlan in L2 mode, which shares its parent's hardware address.
    Ipvlan {
        /// How it communicates with other interfaces on its parent.
        mode: IpvlanMode,
    },
}

/// The flag of an ipvlan interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpvlanMode {
    /// `bridge`
    #[default]
    Bridge,
    /// `private`
    Private,
    /// `vepa`
    Vepa,
}

/// A setting of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Setting {
    /// `net.ipv4.conf.IFNAME.arp_ignore`
    ArpIgnore,
    /// `net.ipv4.conf.IFNAME.arp_filter`
    ArpFilter,
    /// `net.ipv4.conf.IFNAME.arp_announce`
    ArpAnnounce,
    /// `net.ipv4.conf.IFNAME.promote_secondaries`
    PromoteSecondaries,
}

impl Setting {
    /// All of them, in a fixed order.
    pub const ALL: [Self; 4] =
        [Self::ArpIgnore, Self::ArpFilter, Self::ArpAnnounce, Self::PromoteSecondaries];

    /// Its name among the sysctls.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::ArpIgnore => "arp_ignore",
            Self::ArpFilter => "arp_filter",
            Self::ArpAnnounce => "arp_announce",
            Self::PromoteSecondaries => "promote_secondaries",
        }
    }
}

impl LinkKind {
    /// Its name in `ip link`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Macvlan { .. } => "macvlan",
            Self::Ipvlan { .. } => "ipvlan",
        }
    }
}

/// The hardware address of a virtual router (RFC 9568 7.3).
#[must_use]
pub const fn virtual_mac(family: Family, vrid: Vrid) -> Mac {
    let kind = match family {
        Family::V4 => 1,
        Family::V6 => 2,
    };
    Mac([0, 0, 0x5e, 0, kind, vrid.get()])
}
