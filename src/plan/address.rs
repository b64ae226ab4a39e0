//! Addresses as objects.

use super::object::{Difference, Identity};
use crate::base::{Family, IfName, Prefix};
use crate::model::Address;

/// The address with the length that the kernel tells: with a peer that of the peer's prefix.
pub(super) fn identity(address: &Address) -> Identity<IfName> {
    let length = address.peer.map_or(address.prefix.length(), |peer| peer.length());
    let prefix = Prefix::new(address.prefix.address, length).unwrap_or(address.prefix);
    Identity::Address(address.interface.clone(), prefix)
}

pub(super) fn difference(old: &Address, new: &Address) -> Difference {
    let same = Address { no_track: new.no_track, ..old.clone() };
    if same == *new {
        return Difference::None;
    }
    // The kernel changes flags and lifetimes of IPv6 addresses (`inet6_addr_modify`), and nothing of IPv4 ones.
    let flags = Address { flags: new.flags, preferred: new.preferred, ..same };
    if new.prefix.family() == Family::V6 && flags == *new {
        Difference::InPlace
    } else {
        Difference::Anew
    }
}
