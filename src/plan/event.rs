//! The effect of interfaces and kernel events on the entries of the table: where they are, what is gone, what
//! disappears with it, and which of them have to be compared again.

use core::net::IpAddr;
use std::sync::Arc;

use super::object::{Attributes, Change, ChangeKind, Difference, Identity, Object, Sight, Verb};
use super::route::{RouteIdentity, Slot};
use super::snapshot::{Unread, VrfRole};
use super::table::{Effect, ObjectId, Position, Table};
use crate::base::{Family, IfIndex, IfName, Instant, Prefix};

impl<C: Copy + PartialEq> Table<C> {
    /// The interface of this name is the device of a VRF, is in one, or neither. To be called before
    /// [`Self::note_link`]. If it has moved, the interfaces on it that the daemon has created have to follow: they are to
    /// be compared again.
    pub fn set_vrf(&mut self, name: &IfName, role: Option<VrfRole>) {
        match role {
            Some(VrfRole::Device { table }) => self.vrfs.insert(name.clone(), table),
            _ => self.vrfs.remove(name),
        };
        let before = match role {
            Some(VrfRole::Port { of }) => self.ports.insert(name.clone(), of),
            _ => self.ports.remove(name),
        };
        if before == self.ports.get(name).copied() {
            return;
        }
        for id in self.on_interface(name) {
            let present = self.is_present(id);
            if let Some(entry) = self.entry_mut(id) {
                entry.doubtful |= present && matches!(*entry.object, Object::Link(_));
            }
        }
    }

    /// The interface of this name has a new index, or none. Returns the entries to compare again.
    pub fn set_link(&mut self, name: &IfName, link: Option<IfIndex>) -> Vec<ObjectId> {
        let changed = self.note_link(name, link);
        self.place_some(name, changed, &mut Position::default(), usize::MAX)
    }

    /// The interface of this name has a new index, or none; false if it had that before. The entries on it keep their
    /// former places until [`Self::place_some`] comes to them, or one of them is compared.
    pub fn note_link(&mut self, name: &IfName, link: Option<IfIndex>) -> bool {
        let before = match link {
            Some(link) => self.links.insert(name.clone(), link),
            None => self.links.remove(name),
        };
        *self.moving.entry(name.clone()).or_default() += 1;
        before != link
    }

    /// Gives at most this many entries on an interface their places after [`Self::note_link`], which told whether the
    /// index `changed`. Returns them: all are to be compared again when this has returned fewer than `most`.
    pub fn place_some(
        &mut self,
        name: &IfName,
        changed: bool,
        at: &mut Position,
        most: usize,
    ) -> Vec<ObjectId> {
        let entries = self.some_on_interface(name, at, most);
        if changed {
            for id in &entries {
                if let Some(entry) = self.entry_mut(*id) {
                    entry.refused = None;
                }
                self.put(*id);
            }
        }
        if entries.len() < most
            && let Some(count) = self.moving.get_mut(name)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.moving.remove(name);
            }
        }
        entries
    }

    /// Gives an entry its place if the index of its interface has changed and [`Self::place_some`] has not come to it.
    pub(super) fn put_if_moving(&mut self, id: ObjectId) {
        let moves = |name: &IfName| self.moving.contains_key(name);
        if !self.moving.is_empty()
            && self.entry(id).is_some_and(|entry| entry.object.interfaces().into_iter().any(moves))
        {
            self.put(id);
        }
    }

    /// An interface changed, perhaps between up and down. Returns the entries on it: [`Table::doubt`] is to be called for
    /// each of them, and then they are to be compared again.
    pub fn link_changed(&mut self, name: &IfName) -> Vec<ObjectId> {
        self.forget_vanished(name, &mut None, usize::MAX);
        self.on_interface(name)
    }

    /// An interface changed: of at most this many observed routes on it, those that are not wanted yet may be gone as
    /// well and are forgotten; they are requested when they become wanted. `after` is the position. False when none was
    /// left.
    pub fn forget_vanished(
        &mut self,
        name: &IfName,
        after: &mut Option<Identity<IfIndex>>,
        most: usize,
    ) -> bool {
        let Some(link) = self.links.get(name).copied() else { return false };
        let routes = self.observed.routes_on_link(link, after.as_ref(), most);
        for identity in &routes {
            self.look();
            if matches!(identity, Identity::Route(route) if route.slot.family == Family::V4)
                && !self.by_place.contains_key(identity)
            {
                self.observed.lost(identity);
            }
        }
        let more = routes.len() == most;
        *after = routes.into_iter().next_back();
        more
    }

    /// The interface of an entry changed: if it is an object that the kernel removes without an event, it is in doubt, and
    /// a refused operation may succeed now.
    pub fn doubt(&mut self, id: ObjectId) {
        let present = self.is_present(id);
        if let Some(entry) = self.entry_mut(id) {
            entry.doubtful |= present && matches!(*entry.object, Object::Route(_));
            if let Some(refused) = &mut entry.refused {
                refused.retry_at = Instant::ZERO;
            }
        }
    }

    /// Recomputes the place of an entry.
    pub(super) fn put(&mut self, id: ObjectId) {
        self.look();
        let Some(entry) = self.entries.get_mut(id.0 as usize) else { return };
        let links = &self.links;
        let whole = entry.object.interfaces().iter().all(|name| links.contains_key(*name));
        let tables = &self.vrfs;
        let place = entry
            .object
            .identity()
            .place(|name| links.get(name).copied(), |vrf| tables.get(vrf).copied());
        let place = place.filter(|_| whole);
        if entry.place == place {
            return;
        }
        let old = core::mem::replace(&mut entry.place, place.clone());
        entry.echo = false;
        if let Some(old) = old
            && self.by_place.get(&old) == Some(&id)
        {
            self.by_place.remove(&old);
        }
        if let Some(place) = place {
            self.by_place.insert(place, id);
            self.compare(id);
        }
    }

    /// An object that was not added by us may have other attributes than the wanted ones.
    pub(super) fn compare(&mut self, id: ObjectId) {
        let Some(entry) = self.entries.get_mut(id.0 as usize) else { return };
        let place = entry.place.as_ref().filter(|_| entry.in_flight.is_none());
        let Some(attributes) = place.and_then(|place| self.observed.attributes(place)) else {
            return;
        };
        let mut found = entry.object.found(attributes);
        // A gateway identifies a route whatever its interface, but a route through a different interface is not as
        // wanted.
        if let (Object::Route(route), Some(place)) = (&mut found, place)
            && let Some(link) = route.interface.as_ref().and_then(|name| self.links.get(name))
            && !self.observed.is_on(place, *link)
        {
            route.interface = None;
        }
        if let (Object::Link(link), Attributes::Link(attributes)) = (&mut found, attributes) {
            link.differs |= attributes.vrf != self.ports.get(&link.link.parent).copied();
        }
        let differs = entry.object.difference(&found) != Difference::None;
        entry.before = differs.then(|| Arc::new(found));
    }

    /// The indices of the interfaces of an object.
    pub(super) fn numbers(&self, object: &Object) -> Vec<(IfName, IfIndex)> {
        let names = object.interfaces().into_iter();
        names.filter_map(|name| Some((name.clone(), *self.links.get(name)?))).collect()
    }

    /// Whether the object of an entry exists.
    #[must_use]
    pub fn is_present(&self, id: ObjectId) -> bool {
        self.entry(id)
            .and_then(|entry| entry.place.as_ref())
            .is_some_and(|place| self.observed.has(place))
    }

    /// The address of an entry, if it is an address that exists now.
    #[must_use]
    pub fn held(&self, id: ObjectId) -> Option<Prefix> {
        let address = self.entry(id)?.object.address()?.prefix;
        self.is_present(id).then_some(address)
    }

    /// Where the address of an entry is, if it is an address and its interface exists.
    #[must_use]
    pub fn address(&self, id: ObjectId) -> Option<(IfIndex, IpAddr)> {
        match self.entry(id)?.place.as_ref()? {
            Identity::Address(link, prefix) => Some((*link, prefix.address)),
            _ => None,
        }
    }

    /// Marks an address as the interface's own, which is never removed: one that exists and was not added by this
    /// process; if `known` is given, one of these, existing or not. False if nothing changed.
    pub fn take_for_own(&mut self, id: ObjectId, known: Option<&[Prefix]>) -> bool {
        let present = self.is_present(id);
        let Some(entry) = self.entry_mut(id) else { return false };
        let Some(prefix) = entry.object.address().map(|a| a.prefix) else { return false };
        let own = known.map_or(present && !entry.placed, |known| known.contains(&prefix));
        own && !core::mem::replace(&mut entry.own, true)
    }

    /// The address of an entry if it is the interface's own.
    #[must_use]
    pub fn own(&self, id: ObjectId) -> Option<Prefix> {
        let entry = self.entry(id).filter(|entry| entry.own)?;
        entry.object.address().map(|a| a.prefix)
    }

    /// Whether another entry has the same place: their interface has two names.
    pub(super) fn is_shadowed(&self, id: ObjectId) -> bool {
        let place = self.entry(id).and_then(|entry| entry.place.as_ref());
        place.is_some_and(|place| self.by_place.get(place) != Some(&id))
    }

    /// The first address of `family` on `link` that is not of this table, or of the interface itself.
    #[must_use]
    pub fn source(&self, link: IfIndex, family: Family) -> Option<IpAddr> {
        self.observed
            .addresses(link)
            .find(|prefix| {
                prefix.family() == family
                    && self
                        .by_place
                        .get(&Identity::Address(link, **prefix))
                        .is_none_or(|id| self.own(*id).is_some())
                    && match prefix.address {
                        IpAddr::V4(_) => true,
                        // Adverts over IPv6 are sent from a link-local address (RFC 9568 5.1.2.1).
                        IpAddr::V6(a) => a.is_unicast_link_local(),
                    }
            })
            .map(|prefix| prefix.address)
    }

    /// Whether this host has an address, on any link.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        self.observed.holders(address) > 0
    }

    /// Notes that the kernel has an object.
    pub fn saw(&mut self, sight: Sight) {
        if let Some(place) = self.displaced(&sight) {
            self.lost(&place, &mut Vec::new());
        }
        let Some(sight) = self.at_its_place(sight, false) else { return };
        let identity = sight.identity.clone();
        if self.observed.saw(sight)
            && let Some(id) = self.by_place.get(&identity).copied()
        {
            self.compare(id);
        }
    }

    /// Notes that the kernel no longer has an object, and what it removes with it; affected entries are added to
    /// `affected`. False if the object was not known.
    pub(super) fn lost(
        &mut self,
        identity: &Identity<IfIndex>,
        affected: &mut Vec<ObjectId>,
    ) -> bool {
        self.look();
        let Some(lost) = self.observed.lost(identity) else { return false };
        self.numbers.vacate(identity);
        if let Some(address) = lost.last {
            self.lost_source(address, affected);
        }
        self.lost_elements(identity, affected);
        true
    }

    /// The last interface that had an address has lost it.
    fn lost_source(&mut self, address: IpAddr, affected: &mut Vec<ObjectId>) {
        for id in self.depend_on(address) {
            // Skips entries that only want this source: in the kernel they do not have it yet.
            let depends = self.entry(id).is_some_and(|e| e.there().source() == Some(address));
            if !self.is_present(id) || !depends {
                continue;
            }
            affected.push(id);
            let Some(entry) = self.entry_mut(id) else { continue };
            if entry.object.vanishes() {
                let place = entry.place.clone();
                if let Some(place) = place {
                    self.lost(&place, affected);
                }
            } else if entry.before.is_none() {
                // The kernel keeps the route and removes its source (`fib6_remove_prefsrc`).
                entry.before = Some(Arc::clone(&entry.object));
            }
        }
    }

    /// Forgets the objects of a deleted interface. Returns the entries to compare again.
    pub fn forget_link(&mut self, link: IfIndex) -> Vec<ObjectId> {
        let mut affected = Vec::new();
        while self.forget_some_on(link, usize::MAX, &mut affected) {}
        affected
    }

    /// The observed objects of kinds that a snapshot says nothing about, to be added to it.
    #[must_use]
    pub fn observed_of(&self, unread: Unread) -> Vec<Sight> {
        self.observed.of(unread)
    }

    /// Forgets at most this many objects of a deleted interface; entries to compare again are added to `affected`. False
    /// when none was left.
    pub fn forget_some_on(
        &mut self,
        link: IfIndex,
        most: usize,
        affected: &mut Vec<ObjectId>,
    ) -> bool {
        let some = self.observed.on_link(link, most);
        for identity in &some {
            affected.extend(self.by_place.get(identity).copied());
            self.lost(identity, affected);
        }
        !some.is_empty()
    }

    /// Forgets some of the observed objects. False when all are forgotten.
    pub fn forget_some(&mut self) -> bool {
        if self.observed.forget_some() {
            return true;
        }
        for (_, entry) in &mut self.entries {
            entry.doubtful = false;
            entry.echo = false;
        }
        false
    }

    /// Processes an event of the kernel.
    pub fn changed(&mut self, change: &Change) -> Effect {
        let placed;
        let mut effect = Effect::default();
        let change = if matches!(change.sight.identity, Identity::Link(..)) {
            if let Some(place) = self.displaced(&change.sight)
                && self.lost(&place, &mut effect.settle)
            {
                effect.removed.extend(self.by_place.get(&place));
            }
            let gone = change.kind == ChangeKind::Gone;
            let Some(sight) = self.at_its_place(change.sight.clone(), gone) else {
                return Effect { foreign: true, ..effect };
            };
            placed = Change { sight, ..*change };
            &placed
        } else {
            change
        };
        let identity = &change.sight.identity;
        let known = self.by_place.get(identity).copied();
        match known {
            // Our request for this place came after the event, so its answer counts.
            Some(id) if self.entry(id).is_some_and(|entry| entry.is_asked_at(identity)) => {
                let Some(entry) = self.entry_mut(id) else { return effect };
                let own = change.own && change.kind == ChangeKind::Gone;
                let late = own && core::mem::take(&mut entry.echo);
                if let Some(asked) = entry.in_flight.as_mut() {
                    asked.sight.attributes.clone_from(&change.sight.attributes);
                    if matches!(asked.verb, Verb::Delete { .. }) {
                        asked.told = change.kind == ChangeKind::Gone && !late;
                    } else {
                        asked.told |= own && !late;
                    }
                }
            }
            // Either a delayed report of our own deletion before adding it again, or a new removal: it keeps its place
            // in the order until the kernel is asked.
            Some(id) if self.is_echo(id, change) => {
                if let Some(entry) = self.entry_mut(id) {
                    entry.echo = false;
                    entry.doubtful = true;
                }
                effect.settle.push(id);
            }
            Some(id) if change.kind == ChangeKind::Gone => {
                if let Some(entry) = self.entry_mut(id).filter(|_| change.own) {
                    entry.echo = false;
                }
                if self.lost(identity, &mut effect.settle) {
                    // The kernel may have removed it together with the first address of the subnet, at our own request.
                    let list = if change.own { &mut effect.settle } else { &mut effect.removed };
                    list.push(id);
                }
            }
            Some(id) => {
                if !change.own && !self.is_present(id) {
                    effect.added = Some(id);
                    if let Some(entry) = self.entry_mut(id) {
                        entry.placed = false;
                    }
                }
                self.saw(change.sight.clone());
                if matches!(identity, Identity::Link(..)) && !change.own {
                    self.retold(id, change, &mut effect);
                }
                effect.settle.push(id);
            }
            None if change.kind == ChangeKind::Gone => {
                self.lost(identity, &mut effect.settle);
                effect.foreign = true;
            }
            None => {
                // An object that is not wanted yet may become wanted later.
                if let (Identity::Link(..), Some(attributes)) = (identity, &change.sight.attributes)
                {
                    self.observed.retell(identity, attributes);
                }
                self.saw(change.sight.clone());
                effect.foreign = true;
                let table = self.intruded(identity);
                let table = table.filter(|id| self.entry(*id).is_some_and(|e| !e.is_in_flight()));
                if let Some(id) = table
                    && let Some(place) = self.entry(id).and_then(|e| e.place.clone())
                    && self.lost(&place, &mut effect.settle)
                {
                    effect.removed.push(id);
                }
            }
        }
        match (change.kind, identity) {
            (ChangeKind::Present, Identity::Address(_, prefix)) => {
                effect.settle.extend(self.depend_on(prefix.address));
            }
            (ChangeKind::Replaces, Identity::Route(route)) => {
                for (place, id) in self.in_slot(route.slot) {
                    let free = self.entry(id).is_some_and(|e| !e.is_in_flight());
                    if place != *identity && free && self.lost(&place, &mut effect.settle) {
                        effect.removed.push(id);
                    }
                }
            }
            _ => {}
        }
        effect
    }

    /// The kernel reports an interface whenever something about it changes: the settings made by this daemon may have
    /// changed.
    fn retold(&mut self, id: ObjectId, change: &Change, effect: &mut Effect) {
        let Some(attributes) = &change.sight.attributes else { return };
        self.observed.retell(&change.sight.identity, attributes);
        self.compare(id);
        if self.entry(id).is_some_and(|entry| entry.before.is_some()) {
            effect.altered.push(id);
        }
    }

    /// Whether an event may report a removal that was already answered.
    fn is_echo(&self, id: ObjectId, change: &Change) -> bool {
        change.own
            && change.kind == ChangeKind::Gone
            && self.entry(id).is_some_and(|entry| entry.echo)
            && self.is_present(id)
    }

    /// The entries that are routes of one slot, with their places.
    fn in_slot(&self, slot: Slot) -> Vec<(Identity<IfIndex>, ObjectId)> {
        let begin = Identity::Route(Box::new(RouteIdentity { slot, vrf: None, path: Vec::new() }));
        self.by_place
            .range(begin..)
            .take_while(|(place, _)| matches!(place, Identity::Route(r) if r.slot == slot))
            .map(|(place, id)| (place.clone(), *id))
            .collect()
    }

    /// Whether the kernel has another route in the slot of an entry, or is about to get one.
    pub(super) fn shares_slot(&self, id: ObjectId) -> bool {
        let Some(Identity::Route(own)) = self.entry(id).and_then(|e| e.place.as_ref()) else {
            return false;
        };
        self.in_slot(own.slot).len() > 1
            || self
                .observed
                .in_slot(own.slot)
                .any(|place| !matches!(place, Identity::Route(r) if r == own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample;
    use crate::plan::{Outcome, Want};

    #[test]
    fn an_object_that_is_compared_before_its_turn_is_at_its_new_place() {
        let (name, now): (IfName, _) = (IfName::eth0(), Instant::from_nanos(1));
        let mut table = Table::<()>::default();
        table.set_link(&name, Some(IfIndex(1)));
        let id = table.claim(Object::Address(sample::address("10.0.0.100/24", &name)), ());
        assert!(table.note_link(&name, Some(IfIndex(2))));
        let request = table.request(&[id], now, |()| Want::Yes).unwrap();
        table.answered(request.token, 0, Outcome::Done, now);
        let place = Some((IfIndex(2), IpAddr::from([10, 0, 0, 100])));
        assert_eq!((table.address(id), table.is_present(id)), (place, true));
        let (mut at, all) = (Position::default(), [id]);
        assert_eq!(table.place_some(&name, true, &mut at, 1), all);
        assert_eq!(table.place_some(&name, true, &mut at, 1), []);
        assert!(table.is_present(id) && table.moving.is_empty());
    }
}
