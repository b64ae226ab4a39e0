//! Interfaces that the daemon creates, and settings of interfaces that it changes, as objects.

use core::fmt;
use std::collections::BTreeMap;

use super::object::{Attributes, Difference, Identity, Object, Sight};
use super::snapshot::Settings;
use super::table::{ObjectId, Table};
use crate::base::{Family, IfIndex, IfName, Mac};
use crate::model::link::IpvlanMode;
pub use crate::model::link::Setting;
use crate::model::{LinkKind, VirtualLink};

/// The attributes of an interface on another one that the kernel reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkAttributes {
    /// Its name. It is not compared like the others: an interface with another one serves as well.
    pub name: IfName,
    /// Its own number, if the kernel reported it.
    pub index: Option<IfIndex>,
    pub kind: FoundKind,
    /// Its link group.
    pub group: u32,
    /// It is administratively up.
    pub up: bool,
    pub settings: LinkSettings,
    /// The VRF that it is in. Compared by the table of objects, which knows that of its parent.
    pub vrf: Option<IfIndex>,
    /// Its alias (`IFLA_IFALIAS`), which tells who created it, without what it tells about the parent.
    pub alias: Box<str>,
    /// The settings of its parent before they were changed, as the alias tells them.
    pub originals: Settings,
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
        Self {
            name: link.name.clone(),
            index: None,
            kind,
            group: link.group.unwrap_or(0),
            up: true,
            settings,
            vrf: None,
            alias: mark.clone(),
            originals: object.originals,
        }
    }

    /// Whether it matches `wanted`, but for its name.
    #[must_use]
    pub fn fits(&self, wanted: &LinkObject) -> bool {
        let Self { kind, group, up, settings, alias, .. } = Self::of(wanted);
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

    /// An interface with these attributes as the daemon has it that wants `wanted`.
    pub(super) fn applied_to(&self, wanted: &LinkObject) -> LinkObject {
        let link = VirtualLink { name: self.name.clone(), ..wanted.link.clone() };
        LinkObject {
            link,
            mark: wanted.mark.clone(),
            originals: self.originals,
            differs: !self.fits(wanted),
        }
    }

    /// The name of its kind.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self.kind {
            FoundKind::Macvlan { .. } => "macvlan",
            FoundKind::Ipvlan { .. } => "ipvlan",
        }
    }

    /// Whether it can serve as `wanted` under another name: it has the hardware address, which no other interface can
    /// have, and is not known to be somebody else's.
    fn can_be(&self, wanted: &LinkObject) -> bool {
        self.kind == Self::of(wanted).kind
            && matches!(self.kind, FoundKind::Macvlan { .. })
            && (self.alias.is_empty() || self.alias == wanted.mark)
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
        LinkObject { link, mark: self.alias.clone(), originals: self.originals, differs: false }
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
    /// The settings of its parent before they were changed, so far as they are known when it is created. It carries them,
    /// so that a later run can restore them.
    pub originals: Settings,
    /// The kernel's interface differs, in more than its name.
    pub differs: bool,
}

/// Between the mark and the settings in an alias.
const PARENT: &str = "; parent";

/// The alias of an interface (at most 255 octets): its mark, and the settings of its parent before they were changed.
#[must_use]
pub fn alias(object: &LinkObject) -> String {
    let LinkObject { mark, originals, .. } = object;
    let known = Setting::ALL.into_iter().filter_map(|one| Some((one, originals.of(one)?)));
    let known: String = known.map(|(one, value)| format!(" {}={value}", one.word())).collect();
    if known.is_empty() { mark.to_string() } else { format!("{mark}{PARENT}{known}") }
}

/// The mark and the settings of an alias.
#[must_use]
pub fn parse_alias(alias: &str) -> (&str, Settings) {
    let Some((mark, known)) = alias.rsplit_once(PARENT) else {
        return (alias, Settings::default());
    };
    let value = |one: Setting| {
        let mut words = known.split(' ').filter_map(|word| word.split_once('='));
        words.find(|(name, _)| *name == one.word())?.1.parse().ok()
    };
    (mark, Settings(Setting::ALL.map(value)))
}

/// The interfaces on other ones by their own numbers: one that is renamed stays the same object until it is gone.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    by_number: BTreeMap<IfIndex, Identity<IfIndex>>,
    by_place: BTreeMap<Identity<IfIndex>, IfIndex>,
}

impl Numbers {
    /// The number of the interface at a place.
    pub(super) fn at(&self, place: &Identity<IfIndex>) -> Option<IfIndex> {
        self.by_place.get(place).copied()
    }

    fn put(&mut self, number: IfIndex, place: Identity<IfIndex>) {
        self.remove(number);
        if let Some(other) = self.by_place.insert(place.clone(), number) {
            self.by_number.remove(&other);
        }
        self.by_number.insert(number, place);
    }

    fn remove(&mut self, number: IfIndex) {
        if let Some(place) = self.by_number.remove(&number) {
            self.by_place.remove(&place);
        }
    }

    /// The interface at a place is gone.
    pub(super) fn vacate(&mut self, place: &Identity<IfIndex>) {
        if let Some(number) = self.by_place.remove(place) {
            self.by_number.remove(&number);
        }
    }
}

/// The number of an interface that the kernel has told.
fn number_of(sight: &Sight) -> Option<IfIndex> {
    match sight.attributes.as_deref() {
        Some(Attributes::Link(attributes)) => attributes.index,
        _ => None,
    }
}

/// Whether both are interfaces on the same one.
fn is_on_same(one: &Identity<IfIndex>, other: &Identity<IfIndex>) -> bool {
    matches!((one, other), (Identity::Link(on, _), Identity::Link(parent, _)) if on == parent)
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
    /// The sight of an interface on another one at the place that it had when it got its number: another program may
    /// have renamed it. None if an interface that was renamed still has the place of this one's name.
    pub(super) fn at_its_place(&mut self, mut sight: Sight, gone: bool) -> Option<Sight> {
        let Some(number) = number_of(&sight) else { return Some(sight) };
        if let Some(place) = self.numbers.by_number.get(&number)
            && is_on_same(place, &sight.identity)
            && self.by_place.contains_key(place)
        {
            sight.identity = place.clone();
        }
        let other = self.numbers.at(&sight.identity).filter(|other| *other != number);
        if other.is_some() && self.observed.has(&sight.identity) {
            return None;
        }
        if gone {
            self.numbers.remove(number);
        } else {
            self.numbers.put(number, sight.identity.clone());
        }
        Some(sight)
    }

    /// The place of an interface that no longer exists, as another one has its number by now.
    pub(super) fn displaced(&self, sight: &Sight) -> Option<Identity<IfIndex>> {
        let place = self.numbers.by_number.get(&number_of(sight)?)?;
        let same = *place == sight.identity
            || is_on_same(place, &sight.identity) && self.by_place.contains_key(place);
        (!same).then(|| place.clone())
    }

    /// Gives a wanted interface another name: it stays the same interface. False if that is not possible.
    pub fn rename_link(&mut self, parent: &IfName, from: &IfName, to: &IfName) -> bool {
        let [old, new] = [from, to].map(|name| Identity::Link(parent.clone(), name.clone()));
        let [old_place, new_place] =
            [&old, &new].map(|key| key.place(|n| self.links.get(n).copied(), |_| None));
        let (Some(old_place), Some(new_place)) = (old_place, new_place) else { return false };
        if self.by_key.contains_key(&new) || self.observed.has(&new_place) {
            return false;
        }
        let Some(id) = self.by_key.remove(&old) else { return false };
        self.by_key.insert(new, id);
        if self.by_place.remove(&old_place).is_some() {
            self.by_place.insert(new_place.clone(), id);
        }
        self.observed.rename(&old_place, &new_place);
        if let Some(number) = self.numbers.at(&old_place) {
            self.numbers.put(number, new_place.clone());
        }
        let Some(entry) = self.entry_mut(id) else { return false };
        if let Some(asked) = &mut entry.in_flight {
            asked.sight.identity = new_place.clone();
        }
        entry.place = Some(new_place);
        entry.refused = None;
        true
    }

    /// Whether an entry is an interface that exists and is as wanted, but for its name.
    #[must_use]
    pub fn is_misnamed(&self, id: ObjectId) -> bool {
        let Some(entry) = self.entry(id) else { return false };
        match (entry.there(), entry.object.as_ref()) {
            (Object::Link(found), Object::Link(wanted)) => {
                let renamed = VirtualLink { name: found.link.name.clone(), ..wanted.link.clone() };
                let same = difference(found, &LinkObject { link: renamed, ..(**wanted).clone() });
                self.is_present(id)
                    && found.link.name != wanted.link.name
                    && same == Difference::None
            }
            _ => false,
        }
    }

    /// An unwanted interface that must be gone before a wanted one can be created: it has the same hardware address
    /// or name, or is of another kind, which the kernel does not allow on one parent.
    pub(super) fn in_the_way(&self, id: ObjectId) -> Option<ObjectId> {
        let entry = self.entry(id)?;
        let Object::Link(wanted) = entry.object.as_ref() else { return None };
        if self.is_present(id) {
            return None;
        }
        let named = self.links.get(&wanted.link.name);
        let named = named.and_then(|number| self.numbers.by_number.get(number));
        let named = named.and_then(|place| self.by_place.get(place).copied());
        let own = wanted.link.own_mac();
        let upper = |from: Option<Mac>, to: Option<Mac>| {
            let parent = &wanted.link.parent;
            let from = (parent.clone(), from, ObjectId(0));
            self.by_upper.range(from..=(parent.clone(), to, ObjectId(u32::MAX)))
        };
        let same = own.map(|_| upper(own, own));
        let others = match own {
            Some(_) => upper(None, None),
            None => upper(Some(Mac([0; 6])), Some(Mac([u8::MAX; 6]))),
        };
        let beside = same.into_iter().flatten().chain(others).map(|(.., other)| *other);
        let beside = beside.inspect(|_| self.look());
        named.into_iter().chain(beside).find(|other| {
            *other != id
                && self.is_present(*other)
                && self.entry(*other).is_some_and(|other| other.claimants.is_empty())
        })
    }

    /// Wanted interfaces that do not exist, after an unwanted one is gone.
    pub(super) fn missing_links(&self) -> Vec<ObjectId> {
        let begin = Identity::Link(IfIndex(0), IfName::eth0());
        let all = self.by_place.range(begin..);
        all.take_while(|(place, _)| matches!(place, Identity::Link(..)))
            .map(|(_, id)| *id)
            .filter(|id| {
                let claimed = self.entry(*id).is_some_and(|entry| !entry.claimants.is_empty());
                claimed && !self.is_present(*id)
            })
            .collect()
    }

    /// Lets existing macvlans with the hardware address of a missing one serve as that one: no other can be created
    /// beside them. Returns the entries, with the present names.
    pub fn adopt_links(&mut self) -> Vec<(ObjectId, IfName)> {
        let mut adopted = Vec::new();
        for id in self.missing_links() {
            let Some(entry) = self.entry(id) else { continue };
            let (Object::Link(wanted), Some(Identity::Link(parent, _))) =
                (entry.object.as_ref(), &entry.place)
            else {
                continue;
            };
            let found = self
                .observed
                .stacked_on(*parent)
                .find(|(place, found)| found.can_be(wanted) && !self.by_place.contains_key(*place));
            let Some((old, found)) = found else { continue };
            let (old, name) = (old.clone(), found.name.clone());
            let Some(place) = entry.place.clone() else { continue };
            self.observed.rename(&old, &place);
            if let Some(number) = self.numbers.at(&old) {
                self.numbers.put(number, place);
            }
            self.compare(id);
            adopted.push((id, name));
        }
        adopted
    }

    /// The settings of parents before an earlier run with this mark changed them, as its interfaces tell them.
    #[must_use]
    pub fn recorded(&self, mark: &str) -> Vec<(IfIndex, Settings)> {
        let of = |(place, found): (&Identity<IfIndex>, &LinkAttributes)| match place {
            Identity::Link(parent, _) if !mark.is_empty() && *found.alias == *mark => {
                Some((*parent, found.originals))
            }
            _ => None,
        };
        self.observed.stacked().filter_map(of).collect()
    }

    /// Takes a setting that an earlier run changed: an entry that nobody claims, so that it is restored.
    pub fn take_setting(&mut self, object: SettingObject) {
        let Some(index) = self.links.get(&object.interface).copied() else { return };
        let identity = Identity::Setting(index, object.setting);
        self.observed.saw(Sight { identity, links: vec![index], attributes: None });
        self.unclaimed(Object::Setting(Box::new(object)));
    }

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
            originals: Settings::default(),
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
        let old =
            LinkObject { link, mark: "".into(), originals: Settings::default(), differs: false };
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

    #[test]
    fn an_alias_tells_the_mark_and_the_settings_of_the_parent() {
        let link = VirtualLink {
            name: "vrrp.51".parse().unwrap(),
            parent: "eth0".parse().unwrap(),
            kind: LinkKind::Macvlan { mac: Mac([0, 0, 0x5e, 0, 1, 51]) },
            group: None,
            notify: false,
            family: Family::V4,
            carries_v6: false,
        };
        for mark in ["evervip", "evervip /run/a; parent b.pid"] {
            for known in [[None; 4], [Some(0), Some(1), Some(2), None], [None, None, Some(7), None]]
            {
                let originals = Settings(known);
                let object =
                    LinkObject { link: link.clone(), mark: mark.into(), originals, differs: false };
                let text = alias(&object);
                if known != [None; 4] || !mark.contains("; parent") {
                    assert_eq!(parse_alias(&text), (mark, originals), "{text}");
                }
            }
        }
        let wrong = ["; parent", "a; parent arp_ignore=x arp_filter", "a; parent arp_ignore=-1"];
        assert!(wrong.iter().all(|text| parse_alias(text).1 == Settings::default()));
    }
}
