//! Interfaces that the daemon creates, and settings of interfaces that it changes, as objects.

use core::fmt;

use super::object::{Difference, Identity, Object};
use super::table::{ObjectId, Table};
use crate::base::{Family, IfIndex, IfName, Mac};
use crate::model::link::IpvlanMode;
pub use crate::model::link::Setting;
use crate::model::{LinkKind, VirtualLink};

/// The attributes of an interface on another one that the kernel reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkAttributes {
    pub kind: FoundKind,
    /// Its link group.
    pub group: u32,
    /// It is administratively up.
    pub up: bool,
    pub settings: LinkSettings,
    /// Its alias (`IFLA_IFALIAS`), which tells who created it.
    pub alias: Box<str>,
}

/// Settings of an interface that the daemon creates; none if they are not compared or not reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkSettings {
    /// `arp_ignore`
    pub arp_ignore: Option<u32>,
    /// `accept_local`
    pub accept_local: Option<u32>,
    /// `rp_filter`
    pub rp_filter: Option<u32>,
    /// `promote_secondaries`
    pub promote_secondaries: Option<u32>,
    /// `addr_gen_mode`: `IN6_ADDR_GEN_MODE_NONE` is 1.
    pub address_generation: Option<u8>,
}

impl LinkSettings {
    /// The wanted settings. An interface with a virtual MAC only answers ARP for its own addresses (RFC 9568 8.1.2),
    /// and accepts packets whatever the route back to their source, because they were sent to the virtual router.
    #[must_use]
    pub fn of(link: &VirtualLink) -> Self {
        let v4 = matches!((link.kind, link.family), (LinkKind::Macvlan { .. }, Family::V4));
        let only_v4 = |value: u32| v4.then_some(value);
        Self {
            arp_ignore: matches!(link.kind, LinkKind::Macvlan { .. }).then_some(1),
            accept_local: only_v4(1),
            rp_filter: only_v4(0),
            promote_secondaries: only_v4(1),
            address_generation: matches!(link.kind, LinkKind::Macvlan { .. }).then_some(1),
        }
    }

    fn fit(&self, wanted: &Self) -> bool {
        fn fits<T: PartialEq>(found: Option<T>, wanted: Option<T>) -> bool {
            found.zip(wanted).is_none_or(|(found, wanted)| found == wanted)
        }
        fits(self.arp_ignore, wanted.arp_ignore)
            && fits(self.accept_local, wanted.accept_local)
            && fits(self.rp_filter, wanted.rp_filter)
            && fits(self.promote_secondaries, wanted.promote_secondaries)
            && fits(self.address_generation, wanted.address_generation)
    }
}

/// A kind of interface as the kernel reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundKind {
    Macvlan {
        mac: Mac,
        /// Its mode is `private`.
        private: bool,
    },
    Ipvlan {
        /// Its flag, if its mode is L2.
        mode: Option<IpvlanMode>,
    },
}

impl LinkAttributes {
    /// The attributes that the kernel reports for an interface created as `object`.
    #[must_use]
    pub fn of(object: &LinkObject) -> Self {
        let LinkObject { link, mark, .. } = object;
        let kind = match link.kind {
            LinkKind::Macvlan { mac } => FoundKind::Macvlan { mac, private: true },
            LinkKind::Ipvlan { mode } => FoundKind::Ipvlan { mode: Some(mode) },
        };
        let settings = LinkSettings::of(link);
        Self { kind, group: link.group.unwrap_or(0), up: true, settings, alias: mark.clone() }
    }

    /// Whether it matches `wanted`.
    #[must_use]
    pub fn fits(&self, wanted: &LinkObject) -> bool {
        let Self { kind, group, up, settings, alias } = Self::of(wanted);
        // Without a group of its own it has that of its parent.
        let grouped = self.group == group || wanted.link.group.is_none();
        let marked = self.alias == alias || alias.is_empty();
        let same = match (self.kind, kind) {
            // The flag is common to all ipvlans on a parent: two with different flags would keep changing each other's.
            (FoundKind::Ipvlan { mode }, FoundKind::Ipvlan { .. }) => mode.is_some(),
            (found, wanted) => found == wanted,
        };
        same && grouped && marked && self.up == up && self.settings.fit(&settings)
    }

    /// An interface with these attributes as an object that nobody wants, to remove it.
    #[must_use]
    pub(super) fn unwanted(&self, name: IfName, parent: IfName) -> LinkObject {
        let kind = match self.kind {
            FoundKind::Macvlan { mac, .. } => LinkKind::Macvlan { mac },
            FoundKind::Ipvlan { mode } => LinkKind::Ipvlan { mode: mode.unwrap_or_default() },
        };
        let link = VirtualLink {
            name,
            parent,
            kind,
            group: Some(self.group),
            notify: false,
            family: Family::V4,
            carries_v6: false,
        };
        LinkObject { link, mark: self.alias.clone(), differs: false }
    }
}

/// A wanted interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkObject {
    /// The interface as configured.
    pub link: VirtualLink,
    /// The mark of this daemon, which its interfaces have as their alias: a later process recognises them by it. Empty:
    /// none.
    pub mark: Box<str>,
    /// The kernel's interface differs.
    pub differs: bool,
}

/// A setting of an interface that is changed as long as it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingObject {
    pub interface: IfName,
    pub setting: Setting,
    /// The wanted value.
    pub value: u32,
    /// The original value, if known, which is restored later.
    pub before: Option<u32>,
}

impl<C: Copy + PartialEq> Table<C> {
    /// Takes interfaces with this mark that no entry names: an earlier process with another configuration created them.
    /// They become entries that nobody claims. Returns these.
    pub fn take_strays(&mut self, mark: &str) -> Vec<ObjectId> {
        let name = |index: IfIndex| {
            let found = self.links.iter().find(|(_, link)| **link == index);
            found.map(|(name, _)| name.clone())
        };
        let strays: Vec<Object> = self
            .observed
            .stacked()
            .filter(|(place, found)| {
                !mark.is_empty() && *found.alias == *mark && !self.by_place.contains_key(*place)
            })
            .filter_map(|(place, found)| match place {
                Identity::Link(parent, own) => {
                    let object = found.unwanted(own.clone(), name(*parent)?);
                    Some(Object::Link(Box::new(object)))
                }
                _ => None,
            })
            .collect();
        strays.into_iter().map(|object| self.unclaimed(object)).collect()
    }
}

/// An interface is never deleted and recreated to change it: its addresses would be lost.
pub(super) fn difference(old: &LinkObject, new: &LinkObject) -> Difference {
    let comparable = |o: &LinkObject| VirtualLink { notify: false, ..o.link.clone() };
    if old.differs || old.mark != new.mark || comparable(old) != comparable(new) {
        Difference::InPlace
    } else {
        Difference::None
    }
}

pub(super) fn describe(object: &LinkObject, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let VirtualLink { name, parent, kind, .. } = &object.link;
    write!(f, "{} {name} on {parent}", kind.word())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_fits_what_is_wanted_and_nothing_else_does() {
        let mac = Mac([0, 0, 0x5e, 0, 1, 51]);
        let wanted = VirtualLink {
            name: "vrrp.51".parse().unwrap(),
            parent: "eth0".parse().unwrap(),
            kind: LinkKind::Macvlan { mac },
            group: None,
            notify: false,
            family: Family::V4,
            carries_v6: false,
        };
        let object = |link: &VirtualLink, mark: &str| LinkObject {
            link: link.clone(),
            mark: mark.into(),
            differs: false,
        };
        let found = LinkAttributes::of(&object(&wanted, "ours"));
        assert!(!found.fits(&object(&wanted, "another")));
        assert!(found.fits(&object(&wanted, "")), "without a mark");
        let grouped = object(&VirtualLink { group: Some(3), ..wanted.clone() }, "ours");
        let wanted = object(&wanted, "ours");
        assert!(found.fits(&wanted));
        assert!(LinkAttributes { group: 7, ..found.clone() }.fits(&wanted), "that of the parent");
        assert!(!found.fits(&grouped));
        assert!(LinkAttributes { group: 3, ..found.clone() }.fits(&grouped));
        assert!(!LinkAttributes { up: false, ..found.clone() }.fits(&wanted));
        let set = found.settings;
        for settings in [
            LinkSettings { arp_ignore: Some(0), ..set },
            LinkSettings { accept_local: Some(0), ..set },
            LinkSettings { rp_filter: Some(1), ..set },
            LinkSettings { promote_secondaries: Some(0), ..set },
            LinkSettings { address_generation: Some(0), ..set },
        ] {
            assert!(!LinkAttributes { settings, ..found.clone() }.fits(&wanted), "{settings:?}");
        }
        let settings = LinkSettings::default();
        assert!(LinkAttributes { settings, ..found.clone() }.fits(&wanted), "an old kernel");
        for kind in [
            FoundKind::Macvlan { mac, private: false },
            FoundKind::Macvlan { mac: Mac([2; 6]), private: true },
            FoundKind::Ipvlan { mode: Some(IpvlanMode::Bridge) },
        ] {
            assert!(!LinkAttributes { kind, ..found.clone() }.fits(&wanted), "{kind:?}");
        }
    }

    #[test]
    fn only_what_the_kernel_sees_of_an_interface_is_a_difference() {
        let link = VirtualLink {
            name: "vrrp.51".parse().unwrap(),
            parent: "eth0".parse().unwrap(),
            kind: LinkKind::Ipvlan { mode: IpvlanMode::Bridge },
            group: None,
            notify: false,
            family: Family::V4,
            carries_v6: false,
        };
        let old = LinkObject { link, mark: "".into(), differs: false };
        let with = |change: fn(&mut VirtualLink)| {
            let mut new = old.clone();
            change(&mut new.link);
            difference(&old, &new)
        };
        assert_eq!(with(|_| ()), Difference::None);
        assert_eq!(with(|l| l.notify = true), Difference::None);
        assert_eq!(with(|l| l.group = Some(3)), Difference::InPlace);
        assert_eq!(with(|l| l.carries_v6 = true), Difference::InPlace);
        let differs = LinkObject { differs: true, ..old.clone() };
        assert_eq!(difference(&differs, &old), Difference::InPlace);
    }
}
