//! What the kernel has at one moment: network interfaces and objects.

use super::Sight;
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
    /// Largest packet.
    pub mtu: u32,
}

/// Links and objects of this host at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// All links.
    pub links: Vec<Link>,
    /// All addresses that can be used, in the kernel's order (the first of a link is its primary one), and the routes
    /// that bear our mark.
    pub objects: Vec<Sight>,
}
