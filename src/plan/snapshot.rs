//! The state of the kernel at one moment: network interfaces and objects.

use super::{Identity, Setting, Sight};
use crate::base::{IfIndex, IfName, Mac};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: IfIndex,
    pub name: IfName,
    /// Administratively up and running (carrier).
    pub up: bool,
    /// Whether it resolves addresses: false for `IFF_NOARP`, where no gratuitous ARP is sent.
    pub arp: bool,
    /// Hardware address; all zero if it has none of 6 octets.
    pub mac: Mac,
    /// MTU in octets.
    pub mtu: u32,
    /// Settings that the daemon may change temporarily.
    pub settings: Settings,
    /// Its part in a VRF.
    pub vrf: Option<VrfRole>,
}

/// The part of an interface in a VRF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VrfRole {
    /// It is the device of a VRF whose routes are in this table.
    Device { table: u32 },
    /// It belongs to the VRF of this device.
    Port { of: IfIndex },
}

/// Settings of an interface, in the order of [`Setting::ALL`]; none where the kernel does not report it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings(pub [Option<u32>; 4]);

impl Settings {
    /// The value of a setting.
    #[must_use]
    pub const fn of(&self, setting: Setting) -> Option<u32> {
        let [ignore, filter, announce, promote] = self.0;
        match setting {
            Setting::ArpIgnore => ignore,
            Setting::ArpFilter => filter,
            Setting::ArpAnnounce => announce,
            Setting::PromoteSecondaries => promote,
        }
    }
}

/// Links and objects of this host at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub links: Vec<Link>,
    /// All usable addresses, in the kernel's order (the first of a link is its primary one), and the routes with our
    /// mark.
    pub objects: Vec<Sight>,
    /// What could not be read: what is known of it stays.
    pub unread: Unread,
}

/// Kinds of objects that a snapshot says nothing about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Tables of packet filters and their elements.
    pub filters: bool,
    /// IPVS sync daemons.
    pub daemons: bool,
}

impl Unread {
    /// Whether nothing is said about objects of this kind.
    #[must_use]
    pub const fn covers<L>(self, identity: &Identity<L>) -> bool {
        match identity {
            Identity::FilterTable(_) | Identity::Filter(_) => self.filters,
            Identity::SyncDaemon(_) => self.daemons,
            Identity::Address(..)
            | Identity::Route(_)
            | Identity::Link(..)
            | Identity::Setting(..)
            | Identity::Rule(_) => false,
        }
    }
}
