//! Addresses as objects.

use core::net::{IpAddr, Ipv4Addr};

use super::object::{Difference, Identity};
use crate::base::{Family, IfName, Prefix};
use crate::model::Address;
use crate::model::address::{AddressFlags, Lifetime};

/// The attributes of an address that the kernel reports, besides the interface and the prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressAttributes {
    /// `IFA_BROADCAST`
    pub broadcast: Option<Ipv4Addr>,
    /// The remote end of a point-to-point link; none if it is the address itself.
    pub peer: Option<IpAddr>,
    /// Scope, as numbered in rt_scopes.
    pub scope: u8,
    /// `IFA_LABEL` (IPv4)
    pub label: Option<Box<str>>,
    /// How long it may be selected as a source address.
    pub preferred: Lifetime,
    /// How long it is valid.
    pub valid: Lifetime,
    /// Without the flag for duplicate address detection, which the kernel does not report.
    pub flags: AddressFlags,
}

impl AddressAttributes {
    /// The attributes that the kernel reports for `address` after it was added.
    #[must_use]
    pub fn of(address: &Address) -> Self {
        let v4 = address.prefix.family() == Family::V4;
        Self {
            broadcast: address.broadcast.filter(|_| v4),
            peer: address.peer.map(|peer| peer.address).filter(|a| *a != address.prefix.address),
            scope: if v4 { address.scope } else { 0 },
            label: address.label.clone().filter(|_| v4),
            preferred: if v4 { Lifetime::Forever } else { address.preferred },
            valid: Lifetime::Forever,
            flags: AddressFlags { dad: false, ..address.flags },
        }
    }

    /// `wanted` with the kernel's values for the attributes that can be compared.
    pub(super) fn applied_to(&self, wanted: &Address) -> Address {
        let mut found = wanted.clone();
        found.flags = AddressFlags { dad: wanted.flags.dad, ..self.flags };
        found.peer = match (self.peer, wanted.peer) {
            (Some(peer), Some(wanted)) if wanted.address == peer => Some(wanted),
            (Some(peer), wanted) => {
                Prefix::new(peer, wanted.map_or(found.prefix.length(), |wanted| wanted.length()))
            }
            (None, _) => None,
        };
        let lasts = self.valid == Lifetime::Forever;
        match wanted.prefix.family() {
            Family::V4 => {
                found.broadcast = self.broadcast;
                found.scope = self.scope;
                // If no label is wanted, it is the interface's name at that time, which is indistinguishable from a
                // foreign label.
                if wanted.label.is_some() {
                    found.label.clone_from(&self.label);
                }
                let lasts = lasts && self.preferred == Lifetime::Forever;
                found.preferred = if lasts { wanted.preferred } else { other(wanted.preferred) };
            }
            // The kernel derives the scope from the address.
            Family::V6 => {
                found.preferred = match (wanted.preferred, self.preferred) {
                    (wanted, _) if !lasts => other(wanted),
                    // The remaining time is consistent with the wanted one.
                    (Lifetime::For(time), Lifetime::For(_)) if !time.is_zero() => wanted.preferred,
                    (_, found) => found,
                }
            }
        }
        found
    }
}

/// A lifetime that differs from this one.
const fn other(lifetime: Lifetime) -> Lifetime {
    match lifetime {
        Lifetime::Forever => Lifetime::For(core::time::Duration::ZERO),
        Lifetime::For(_) => Lifetime::Forever,
    }
}

/// The address with the prefix length that the kernel reports: with a peer, that of the peer's prefix.
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
    // The kernel changes flags and lifetimes of IPv6 addresses (`inet6_addr_modify`), and lifetimes of IPv4 ones.
    let mut changed = Address { preferred: new.preferred, ..same };
    if new.prefix.family() == Family::V6 {
        changed.flags = new.flags;
    }
    if changed == *new { Difference::InPlace } else { Difference::Anew }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample::address;

    #[test]
    fn what_the_kernel_changes_in_place_is_not_added_anew() {
        let link = "eth0".parse().unwrap();
        let changed = |text: &str, change: fn(&mut Address)| {
            let old = address(text, &link);
            let mut new = old.clone();
            change(&mut new);
            difference(&old, &new)
        };
        let (v4, v6) = ("10.0.0.1/24", "2001:db8::1/64");
        for text in [v4, v6] {
            assert_eq!(changed(text, |_| ()), Difference::None);
            assert_eq!(changed(text, |a| a.no_track = true), Difference::None);
            assert_eq!(
                changed(text, |a| a.preferred = Lifetime::For(core::time::Duration::ZERO)),
                Difference::InPlace
            );
            assert_eq!(changed(text, |a| a.label = Some("eth0:1".into())), Difference::Anew);
        }
        assert_eq!(changed(v6, |a| a.flags.home = true), Difference::InPlace);
        assert_eq!(changed(v4, |a| a.flags.no_prefix_route = true), Difference::Anew);
        let both = |a: &mut Address| (a.flags.home, a.scope) = (true, 253);
        assert_eq!(changed(v6, both), Difference::Anew);
    }

    /// An address that was added is as wanted, and one without its attributes is not.
    #[test]
    fn what_the_kernel_reports_of_an_address_as_wanted_is_no_difference() {
        let link = "eth0".parse().unwrap();
        let (v4, v6) = ("10.0.0.1/24", "2001:db8::1/64");
        type Change = fn(&mut Address);
        let changes: [(&str, Change); 8] = [
            (v4, |a| a.peer = Some(Prefix::new([10, 0, 0, 9].into(), 32).unwrap())),
            (v4, |a| a.broadcast = Some([10, 0, 0, 255].into())),
            (v4, |a| a.scope = 253),
            (v4, |a| a.label = Some("eth0:1".into())),
            (v4, |a| a.flags.no_prefix_route = true),
            (v6, |a| a.peer = Some(Prefix::new("2001:db8::9".parse().unwrap(), 128).unwrap())),
            (v6, |a| a.preferred = Lifetime::For(core::time::Duration::ZERO)),
            (v6, |a| a.flags.home = true),
        ];
        for (number, (text, change)) in changes.into_iter().enumerate() {
            let plain = address(text, &link);
            let mut wanted = plain.clone();
            change(&mut wanted);
            let found = AddressAttributes::of(&wanted).applied_to(&wanted);
            assert_eq!(difference(&found, &wanted), Difference::None, "{number}: {found:?}");
            let found = AddressAttributes::of(&plain).applied_to(&wanted);
            assert_ne!(difference(&found, &wanted), Difference::None, "{number}: {found:?}");
        }
        // The kernel does not report whether duplicates were looked for.
        for dad in [false, true] {
            let mut wanted = address(v6, &link);
            wanted.flags.dad = dad;
            let found = AddressAttributes::of(&wanted).applied_to(&wanted);
            assert_eq!(difference(&found, &wanted), Difference::None, "{dad}");
        }
    }
}
