//! The kernel's objects as reported, in the kernel's order. The table decides what that means for wanted objects.

use core::net::IpAddr;
use core::ops::Bound;
use std::collections::{BTreeMap, BTreeSet};

use super::filter::{self, FilterTableId};
use super::link::LinkAttributes;
use super::object::{Attributes, Identity, Sight};
use super::route::{self, RouteIdentity, Slot};
use super::snapshot::Unread;
use crate::base::{Family, IfIndex, IfName, Prefix};

/// Number of objects that [`Observed::forget_some`] forgets.
const SOME: usize = 4;

/// Every object that the kernel reported.
#[derive(Debug, Default)]
pub(super) struct Observed {
    objects: BTreeMap<Identity<IfIndex>, Seen>,
    by_link: BTreeSet<(IfIndex, Identity<IfIndex>)>,
    /// The addresses of each interface and those of each IPv4 subnet, in the kernel's order: it removes the others of a
    /// subnet with the first.
    order: BTreeMap<(IfIndex, u64), Prefix>,
    subnets: BTreeMap<(IfIndex, Prefix), BTreeSet<u64>>,
    /// Number of interfaces that have an address.
    holders: BTreeMap<IpAddr, u32>,
    next_place: u64,
}

#[derive(Debug)]
struct Seen {
    place: u64,
    links: Vec<IfIndex>,
    attributes: Option<Box<Attributes>>,
}

/// An object that disappeared.
pub(super) struct Lost {
    /// An address that no interface has now.
    pub last: Option<IpAddr>,
}

/// An address among those of its subnet on one interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subnet {
    pub key: (IfIndex, Prefix),
    pub place: u64,
    pub first: u64,
    pub size: usize,
}

impl Observed {
    pub(super) fn has(&self, identity: &Identity<IfIndex>) -> bool {
        self.objects.contains_key(identity)
    }

    /// The attributes of an object, if the kernel reported them.
    pub(super) fn attributes(&self, identity: &Identity<IfIndex>) -> Option<&Attributes> {
        self.objects.get(identity)?.attributes.as_deref()
    }

    /// Whether an object is on an interface.
    pub(super) fn is_on(&self, identity: &Identity<IfIndex>, link: IfIndex) -> bool {
        self.objects.get(identity).is_some_and(|seen| seen.links.contains(&link))
    }

    /// An object is as requested, on these interfaces.
    pub(super) fn confirm(&mut self, identity: &Identity<IfIndex>, links: &[IfIndex]) {
        let Some(seen) = self.objects.get_mut(identity) else { return };
        seen.attributes = None;
        if seen.links != links {
            for link in core::mem::replace(&mut seen.links, links.to_vec()) {
                self.by_link.remove(&(link, identity.clone()));
            }
            self.by_link.extend(links.iter().map(|link| (*link, identity.clone())));
        }
    }

    /// Records an object. False if it was known.
    pub(super) fn saw(&mut self, sight: Sight) -> bool {
        let Sight { identity, links, attributes } = sight;
        if self.has(&identity) {
            return false;
        }
        let place = self.next_place;
        self.next_place += 1;
        for link in &links {
            self.by_link.insert((*link, identity.clone()));
        }
        if let Identity::Address(link, prefix) = identity {
            self.order.insert((link, place), prefix);
            *self.holders.entry(prefix.address).or_default() += 1;
            if prefix.family() == Family::V4 {
                self.subnets.entry((link, prefix.network())).or_default().insert(place);
            }
        }
        self.objects.insert(identity, Seen { place, links, attributes });
        true
    }

    /// The kernel reported the attributes of an object again.
    pub(super) fn retell(&mut self, identity: &Identity<IfIndex>, attributes: &Attributes) {
        if let Some(seen) = self.objects.get_mut(identity) {
            seen.attributes = Some(Box::new(attributes.clone()));
        }
    }

    /// An object has another identity, on the same interfaces.
    pub(super) fn rename(&mut self, old: &Identity<IfIndex>, new: &Identity<IfIndex>) {
        let Some(seen) = self.objects.remove(old) else { return };
        for link in &seen.links {
            self.by_link.remove(&(*link, old.clone()));
            self.by_link.insert((*link, new.clone()));
        }
        self.objects.insert(new.clone(), seen);
    }

    /// Removes an object. None if it was not known.
    pub(super) fn lost(&mut self, identity: &Identity<IfIndex>) -> Option<Lost> {
        let seen = self.objects.remove(identity)?;
        for link in seen.links {
            self.by_link.remove(&(link, identity.clone()));
        }
        let Identity::Address(link, prefix) = identity else { return Some(Lost { last: None }) };
        self.order.remove(&(*link, seen.place));
        let subnet = (*link, prefix.network());
        if let Some(places) = self.subnets.get_mut(&subnet) {
            places.remove(&seen.place);
            if places.is_empty() {
                self.subnets.remove(&subnet);
            }
        }
        let left = self.holders.get_mut(&prefix.address).map_or(0, |n| {
            *n = n.saturating_sub(1);
            *n
        });
        if left == 0 {
            self.holders.remove(&prefix.address);
        }
        Some(Lost { last: (left == 0).then_some(prefix.address) })
    }

    /// The objects of kinds that a snapshot says nothing about.
    pub(super) fn of(&self, unread: Unread) -> Vec<Sight> {
        if unread == Unread::default() {
            return Vec::new();
        }
        let covered = self.objects.iter().filter(|(identity, _)| unread.covers(identity));
        let sight = |(identity, seen): (&Identity<IfIndex>, &Seen)| Sight {
            identity: identity.clone(),
            links: seen.links.clone(),
            attributes: seen.attributes.clone(),
        };
        covered.map(sight).collect()
    }

    /// Forgets some objects. False when none was left.
    pub(super) fn forget_some(&mut self) -> bool {
        let Self { objects, by_link, order, subnets, holders, .. } = self;
        let mut any = false;
        for _ in 0..SOME {
            any |= objects.pop_first().is_some() | by_link.pop_first().is_some();
            any |= order.pop_first().is_some() | subnets.pop_first().is_some();
            any |= holders.pop_first().is_some();
        }
        any
    }

    /// At most this many objects on an interface.
    pub(super) fn on_link(&self, link: IfIndex, most: usize) -> Vec<Identity<IfIndex>> {
        // The smallest possible identity.
        let zero = Prefix::host(IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED));
        let zero = Prefix::new(zero.address, 0).unwrap_or(zero);
        let begin = (link, Identity::Address(IfIndex(0), zero));
        let all = self.by_link.range(begin..).take_while(|(l, _)| *l == link);
        all.take(most).map(|(_, identity)| identity.clone()).collect()
    }

    /// At most this many routes on an interface that come after this one.
    pub(super) fn routes_on_link(
        &self,
        link: IfIndex,
        after: Option<&Identity<IfIndex>>,
        most: usize,
    ) -> Vec<Identity<IfIndex>> {
        let begin = match after {
            Some(after) => Bound::Excluded((link, after.clone())),
            None => Bound::Included((link, route::first())),
        };
        let all = self.by_link.range((begin, Bound::Unbounded));
        all.take_while(|(l, identity)| *l == link && matches!(identity, Identity::Route(_)))
            .take(most)
            .map(|(_, identity)| identity.clone())
            .collect()
    }

    /// The addresses of an interface in the kernel's order.
    pub(super) fn addresses(&self, link: IfIndex) -> impl Iterator<Item = &Prefix> {
        self.order.range((link, 0)..=(link, u64::MAX)).map(|(_, prefix)| prefix)
    }

    /// Number of interfaces that have an address.
    pub(super) fn holders(&self, address: IpAddr) -> u32 {
        self.holders.get(&address).copied().unwrap_or(0)
    }

    /// The routes of a slot.
    pub(super) fn in_slot(&self, slot: Slot) -> impl Iterator<Item = &Identity<IfIndex>> {
        let begin = Identity::Route(Box::new(RouteIdentity { slot, vrf: None, path: Vec::new() }));
        self.objects
            .range(begin..)
            .map(|(place, _)| place)
            .take_while(move |place| matches!(place, Identity::Route(r) if r.slot == slot))
    }

    /// The interfaces on other ones.
    pub(super) fn stacked(&self) -> impl Iterator<Item = (&Identity<IfIndex>, &LinkAttributes)> {
        // No interface has the number 0.
        self.stacked_from(IfIndex(0))
    }

    fn stacked_from(
        &self,
        parent: IfIndex,
    ) -> impl Iterator<Item = (&Identity<IfIndex>, &LinkAttributes)> {
        let begin = Identity::Link(parent, IfName::eth0());
        let all = self.objects.range(begin..);
        let all = all.take_while(|(place, _)| matches!(place, Identity::Link(..)));
        all.filter_map(|(place, seen)| match seen.attributes.as_deref() {
            Some(Attributes::Link(found)) => Some((place, found)),
            _ => None,
        })
    }

    /// The interfaces on this one.
    pub(super) fn stacked_on(
        &self,
        parent: IfIndex,
    ) -> impl Iterator<Item = (&Identity<IfIndex>, &LinkAttributes)> {
        self.stacked_from(IfIndex(parent.0.saturating_sub(1)))
            .take_while(move |(place, _)| matches!(place, Identity::Link(on, _) if *on <= parent))
            .filter(move |(place, _)| matches!(place, Identity::Link(on, _) if *on == parent))
    }

    /// The elements of a table of packet filters.
    pub(super) fn elements(&self, table: &FilterTableId) -> Vec<Identity<IfIndex>> {
        let places = self.objects.range(filter::begin(table)..).map(|(place, _)| place);
        filter::elements(places, table).cloned().collect()
    }

    /// The position of an IPv4 address in its subnet.
    pub(super) fn subnet(&self, identity: &Identity<IfIndex>) -> Option<Subnet> {
        let Identity::Address(link, prefix) = identity else { return None };
        let key = (*link, prefix.network());
        let places = self.subnets.get(&key)?;
        let place = self.objects.get(identity)?.place;
        Some(Subnet { key, place, first: *places.first()?, size: places.len() })
    }
}
