//! The reconciler: one entry for each object, whoever wants it.
//!
//! An object that two owners name, or that moves from one to the other in a reload, is one entry and no operation. At
//! most one operation of an entry is in flight; when it is answered, the entry is compared again with what is wanted
//! by then, so a flapping link piles nothing up. Which owners want their objects at a moment is asked of the caller.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use slab::Slab;

use super::object::{Change, ChangeKind, Difference, Identity, Object, Sight};
use super::route::{RouteIdentity, Slot};
use super::{Token, Verb};
use crate::base::limit::Limit;
use crate::base::{Family, IfIndex, IfName, Instant, Prefix};

/// First pause after a refusal; doubled each time.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// Longest pause between two attempts.
const RETRY_LAST: Duration = Duration::from_secs(10);
/// How often an object is put back at once when another program keeps removing it, and how often later.
const RESTORE_BURST: u32 = 5;
const RESTORE_PERIOD: Duration = Duration::from_secs(2);

/// Number of an entry; used again when nobody wants the object any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub u32);

/// All objects that are wanted, and all that the kernel has. `O` names who wants them.
#[derive(Debug)]
pub struct Table<O> {
    pub(super) entries: Slab<Entry<O>>,
    by_key: BTreeMap<Identity<IfName>, ObjectId>,
    /// Entries all of whose interfaces exist.
    by_place: BTreeMap<Identity<IfIndex>, ObjectId>,
    by_interface: BTreeSet<(IfName, ObjectId)>,
    /// Entries that depend on a local address, and those that are one.
    by_source: BTreeSet<(IpAddr, ObjectId)>,
    by_address: BTreeSet<(IpAddr, ObjectId)>,
    links: BTreeMap<IfName, IfIndex>,
    /// Every object the kernel has, as far as it was told.
    seen: BTreeMap<Identity<IfIndex>, Seen>,
    seen_on: BTreeSet<(IfIndex, Identity<IfIndex>)>,
    /// The addresses of each interface and those of each IPv4 subnet, in the kernel's order: it drops the others of a
    /// subnet with the first.
    order: BTreeMap<(IfIndex, u64), Prefix>,
    subnets: BTreeMap<(IfIndex, Prefix), BTreeSet<u64>>,
    /// On how many interfaces an address is.
    holders: BTreeMap<IpAddr, u32>,
    next_place: u64,
    pub(super) requests: BTreeMap<Token, Vec<Option<ObjectId>>>,
    pub(super) next_token: u64,
}

/// An object that is or was wanted.
#[derive(Debug)]
pub struct Entry<O> {
    /// As it is wanted.
    pub object: Arc<Object>,
    /// Who names it.
    pub owners: Vec<O>,
    /// The kernel did not do what was asked.
    pub refused: Option<Refused>,
    pub(super) place: Option<Identity<IfIndex>>,
    pub(super) in_flight: Option<InFlight>,
    pub(super) restores: Limit,
    /// It is there with attributes that a reload changed.
    pub(super) before: Option<Arc<Object>>,
    /// The kernel may have dropped it without a word.
    pub(super) doubtful: bool,
    /// It is there because this process has asked the kernel to add it.
    pub(super) placed: bool,
    /// An address of the interface itself, which is not ours to remove.
    pub(super) own: bool,
}

/// An operation that was not answered.
#[derive(Debug)]
pub(super) struct InFlight {
    pub verb: Verb,
    pub sight: Sight,
    /// It was there when this was asked.
    pub existed: bool,
}

/// The kernel did not do what was asked.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// Its error number; 0 when another program keeps removing the object.
    pub errno: i32,
    /// Attempts in a row.
    pub attempts: u32,
    /// When the next one is made.
    pub retry_at: Instant,
}

/// How an owner wants its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// Not at all.
    No,
    /// As they are: those that are there are to stay.
    Keep,
    /// There.
    Yes,
}

/// What a wanted object waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waits {
    /// An interface that does not exist.
    Interface(IfName),
    /// An address of this table that is not there.
    Address(IpAddr),
}

#[derive(Debug)]
struct Seen {
    place: u64,
    links: Vec<IfIndex>,
}

/// What an event of the kernel leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Entries that another program removed.
    pub removed: Vec<ObjectId>,
    /// The entry that another program added.
    pub added: Option<ObjectId>,
    /// Entries to compare again.
    pub settle: Vec<ObjectId>,
    /// It concerned an object that is nobody's here.
    pub foreign: bool,
}

impl<O> Default for Table<O> {
    fn default() -> Self {
        Self {
            entries: Slab::new(),
            by_key: BTreeMap::new(),
            by_place: BTreeMap::new(),
            by_interface: BTreeSet::new(),
            by_source: BTreeSet::new(),
            by_address: BTreeSet::new(),
            links: BTreeMap::new(),
            seen: BTreeMap::new(),
            seen_on: BTreeSet::new(),
            order: BTreeMap::new(),
            subnets: BTreeMap::new(),
            holders: BTreeMap::new(),
            next_place: 0,
            requests: BTreeMap::new(),
            next_token: 0,
        }
    }
}

impl<O> Entry<O> {
    /// Whether an operation of it was not answered.
    #[must_use]
    pub const fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether such an operation is about this place, and not about one on a link that is gone.
    fn is_asked_at(&self, place: &Identity<IfIndex>) -> bool {
        self.in_flight.as_ref().is_some_and(|asked| asked.sight.identity == *place)
    }
}

impl<O: Copy + PartialEq> Table<O> {
    /// An entry.
    #[must_use]
    pub fn entry(&self, id: ObjectId) -> Option<&Entry<O>> {
        self.entries.get(id.0 as usize)
    }

    fn entry_mut(&mut self, id: ObjectId) -> Option<&mut Entry<O>> {
        self.entries.get_mut(id.0 as usize)
    }

    /// Makes `object` one that `owner` names; the attributes of the last call count.
    pub fn claim(&mut self, object: Object, owner: O) -> ObjectId {
        let key = object.identity();
        let id = match self.by_key.get(&key) {
            Some(id) => *id,
            None => self.insert(key, object.clone()),
        };
        let was = self.entry(id).map(|e| Arc::clone(&e.object));
        if let Some(was) = was.filter(|was| **was != object) {
            self.exchange(id, &was, object);
        }
        if let Some(entry) = self.entry_mut(id)
            && !entry.owners.contains(&owner)
        {
            entry.owners.push(owner);
        }
        id
    }

    fn insert(&mut self, key: Identity<IfName>, object: Object) -> ObjectId {
        let number = self.entries.insert(Entry {
            object: Arc::new(object),
            owners: Vec::new(),
            refused: None,
            place: None,
            in_flight: None,
            restores: Limit::new(RESTORE_BURST, RESTORE_PERIOD),
            before: None,
            doubtful: false,
            placed: false,
            own: false,
        });
        let id = ObjectId(u32::try_from(number).unwrap_or(u32::MAX));
        self.by_key.insert(key, id);
        self.index(id, true);
        self.put(id);
        id
    }

    /// Gives an entry new attributes.
    fn exchange(&mut self, id: ObjectId, was: &Arc<Object>, object: Object) {
        self.index(id, false);
        if let Some(entry) = self.entry_mut(id) {
            let before = entry.before.take().unwrap_or_else(|| Arc::clone(was));
            entry.before = (object.difference(&before) != Difference::None).then_some(before);
            entry.object = Arc::new(object);
        }
        self.index(id, true);
        self.put(id);
    }

    /// Adds an entry to what it is looked up by, or takes it out.
    fn index(&mut self, id: ObjectId, add: bool) {
        let Some(object) = self.entry(id).map(|e| Arc::clone(&e.object)) else { return };
        let interfaces = object.interfaces().into_iter().map(|name| (name.clone(), id));
        let source = object.source().map(|source| (source, id));
        let address = object.address().map(|a| (a.prefix.address, id));
        if add {
            self.by_interface.extend(interfaces);
            self.by_source.extend(source);
            self.by_address.extend(address);
        } else {
            for key in interfaces {
                self.by_interface.remove(&key);
            }
            if let Some(key) = source {
                self.by_source.remove(&key);
            }
            if let Some(key) = address {
                self.by_address.remove(&key);
            }
        }
    }

    /// Forgets who wants what, before a new configuration claims anew.
    pub fn release_all(&mut self) {
        for (_, entry) in &mut self.entries {
            entry.owners.clear();
        }
    }

    /// All entries, in the order of their numbers.
    #[must_use]
    pub fn ids(&self) -> Vec<ObjectId> {
        self.entries.iter().map(|(id, _)| ObjectId(u32::try_from(id).unwrap_or(u32::MAX))).collect()
    }

    /// Entries on an interface.
    #[must_use]
    pub fn on_interface(&self, name: &IfName) -> Vec<ObjectId> {
        self.by_interface
            .range((name.clone(), ObjectId(0))..=(name.clone(), ObjectId(u32::MAX)))
            .map(|(_, id)| *id)
            .collect()
    }

    fn depend_on(&self, address: IpAddr) -> Vec<ObjectId> {
        let all = (address, ObjectId(0))..=(address, ObjectId(u32::MAX));
        self.by_source.range(all).map(|(_, id)| *id).collect()
    }

    // ---- interfaces ----

    /// An interface of this name has this number now, or none. Gives the entries to compare again.
    pub fn set_link(&mut self, name: &IfName, link: Option<IfIndex>) -> Vec<ObjectId> {
        let before = match link {
            Some(link) => self.links.insert(name.clone(), link),
            None => self.links.remove(name),
        };
        let entries = self.on_interface(name);
        if before != link {
            for id in &entries {
                if let Some(entry) = self.entry_mut(*id) {
                    entry.refused = None;
                }
                self.put(*id);
            }
        }
        entries
    }

    /// An interface changed, perhaps between up and down: what the kernel drops without a word then is in doubt, and
    /// what it refused may be possible now. Gives the entries to compare again.
    pub fn link_changed(&mut self, name: &IfName) -> Vec<ObjectId> {
        let entries = self.on_interface(name);
        for id in &entries {
            let present = self.is_present(*id);
            if let Some(entry) = self.entry_mut(*id) {
                entry.doubtful |= present && matches!(*entry.object, Object::Route(_));
                if let Some(refused) = &mut entry.refused {
                    refused.retry_at = Instant::ZERO;
                }
            }
        }
        entries
    }

    /// Computes the place of an entry anew.
    fn put(&mut self, id: ObjectId) {
        let Some(entry) = self.entries.get_mut(id.0 as usize) else { return };
        let links = &self.links;
        let whole = entry.object.interfaces().iter().all(|name| links.contains_key(*name));
        let place = entry.object.identity().place(|name| links.get(name).copied());
        let place = place.filter(|_| whole);
        if entry.place == place {
            return;
        }
        let old = core::mem::replace(&mut entry.place, place.clone());
        if let Some(old) = old
            && self.by_place.get(&old) == Some(&id)
        {
            self.by_place.remove(&old);
        }
        if let Some(place) = place {
            self.by_place.insert(place, id);
        }
    }

    /// The numbers of the interfaces of an object.
    pub(super) fn numbers(&self, object: &Object) -> Vec<(IfName, IfIndex)> {
        let names = object.interfaces().into_iter();
        names.filter_map(|name| Some((name.clone(), *self.links.get(name)?))).collect()
    }

    // ---- what the kernel has ----

    /// Whether the object of an entry is there.
    #[must_use]
    pub fn is_present(&self, id: ObjectId) -> bool {
        self.entry(id)
            .and_then(|entry| entry.place.as_ref())
            .is_some_and(|place| self.seen.contains_key(place))
    }

    /// Where the address of an entry is, if it is an address and its interface exists.
    #[must_use]
    pub fn address(&self, id: ObjectId) -> Option<(IfIndex, IpAddr)> {
        match self.entry(id)?.place.as_ref()? {
            Identity::Address(link, prefix) => Some((*link, prefix.address)),
            Identity::Route(_) => None,
        }
    }

    /// Takes an address for one of the interface itself, which is never removed: one that is there and was not put
    /// there by this process; where `known` is given, one that is among these, there or not. False if nothing changed.
    pub fn take_for_own(&mut self, id: ObjectId, known: Option<&[Prefix]>) -> bool {
        let present = self.is_present(id);
        let Some(entry) = self.entry_mut(id) else { return false };
        let Some(prefix) = entry.object.address().map(|a| a.prefix) else { return false };
        let own = known.map_or(present && !entry.placed, |known| known.contains(&prefix));
        own && !core::mem::replace(&mut entry.own, true)
    }

    /// The address of an entry if it is one of the interface itself.
    #[must_use]
    pub fn own(&self, id: ObjectId) -> Option<Prefix> {
        let entry = self.entry(id).filter(|entry| entry.own)?;
        entry.object.address().map(|a| a.prefix)
    }

    /// Whether the place of an entry is that of another one by now: their interface has two names.
    pub(super) fn is_shadowed(&self, id: ObjectId) -> bool {
        let place = self.entry(id).and_then(|entry| entry.place.as_ref());
        place.is_some_and(|place| self.by_place.get(place) != Some(&id))
    }

    /// The first address of `family` on `link` that is not of this table, or of the interface itself.
    #[must_use]
    pub fn source(&self, link: IfIndex, family: Family) -> Option<IpAddr> {
        self.order
            .range((link, 0)..=(link, u64::MAX))
            .map(|(_, prefix)| prefix)
            .find(|prefix| {
                prefix.family() == family
                    && self
                        .by_place
                        .get(&Identity::Address(link, **prefix))
                        .is_none_or(|id| self.own(*id).is_some())
                    && match prefix.address {
                        IpAddr::V4(_) => true,
                        // Adverts over IPv6 come from a link-local address (RFC 9568 5.1.2.1).
                        IpAddr::V6(a) => a.is_unicast_link_local(),
                    }
            })
            .map(|prefix| prefix.address)
    }

    /// Whether this host has an address, on whichever link.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        self.holders.contains_key(&address)
    }

    /// Notes that the kernel has an object.
    pub fn saw(&mut self, sight: Sight) {
        let Sight { identity, links } = sight;
        if self.seen.contains_key(&identity) {
            return;
        }
        let place = self.next_place;
        self.next_place += 1;
        for link in &links {
            self.seen_on.insert((*link, identity.clone()));
        }
        if let Identity::Address(link, prefix) = identity {
            self.order.insert((link, place), prefix);
            *self.holders.entry(prefix.address).or_default() += 1;
            if prefix.family() == Family::V4 {
                self.subnets.entry((link, prefix.network())).or_default().insert(place);
            }
        }
        self.seen.insert(identity, Seen { place, links });
    }

    /// Notes that the kernel does not have an object any more, and what it drops with it; entries that this concerns
    /// are added to `affected`. False if it was not known.
    pub(super) fn lost(
        &mut self,
        identity: &Identity<IfIndex>,
        affected: &mut Vec<ObjectId>,
    ) -> bool {
        let Some(seen) = self.seen.remove(identity) else { return false };
        for link in seen.links {
            self.seen_on.remove(&(link, identity.clone()));
        }
        if let Identity::Address(link, prefix) = identity {
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
                self.lost_source(prefix.address, affected);
            }
        }
        true
    }

    /// The last interface that had an address has it no more.
    fn lost_source(&mut self, address: IpAddr, affected: &mut Vec<ObjectId>) {
        for id in self.depend_on(address) {
            if !self.is_present(id) {
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
                // The kernel keeps the route and takes the source out of it (`fib6_remove_prefsrc`).
                entry.before = Some(Arc::clone(&entry.object));
            }
        }
    }

    /// Forgets the objects of an interface that is gone. Gives the entries to compare again.
    pub fn forget_link(&mut self, link: IfIndex) -> Vec<ObjectId> {
        let mut affected = Vec::new();
        // The least identity there is.
        let zero = Prefix::host(IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED));
        let zero = Prefix::new(zero.address, 0).unwrap_or(zero);
        let begin = (link, Identity::Address(IfIndex(0), zero));
        let gone: Vec<Identity<IfIndex>> = self
            .seen_on
            .range(begin..)
            .take_while(|(l, _)| *l == link)
            .map(|(_, identity)| identity.clone())
            .collect();
        for identity in gone {
            affected.extend(self.by_place.get(&identity).copied());
            self.lost(&identity, &mut affected);
        }
        affected
    }

    /// Forgets everything the kernel told.
    pub fn forget_all(&mut self) {
        self.seen.clear();
        self.seen_on.clear();
        self.order.clear();
        self.subnets.clear();
        self.holders.clear();
        for (_, entry) in &mut self.entries {
            entry.doubtful = false;
        }
    }

    /// Takes an event of the kernel.
    pub fn changed(&mut self, change: &Change) -> Effect {
        let identity = &change.sight.identity;
        let mut effect = Effect::default();
        let known = self.by_place.get(identity).copied();
        match known {
            // What is asked of the kernel in this place comes after this, so its answer counts.
            Some(id) if self.entry(id).is_some_and(|entry| entry.is_asked_at(identity)) => {}
            Some(id) if change.kind == ChangeKind::Gone => {
                if self.lost(identity, &mut effect.settle) {
                    // With the first address of a subnet the kernel may have dropped it at our own request.
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
                effect.settle.push(id);
            }
            None if change.kind == ChangeKind::Gone => {
                self.lost(identity, &mut effect.settle);
                effect.foreign = true;
            }
            None => {
                self.saw(change.sight.clone());
                effect.foreign = true;
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

    /// Entries that are routes of one slot, with their places.
    fn in_slot(&self, slot: Slot) -> Vec<(Identity<IfIndex>, ObjectId)> {
        let begin = Identity::Route(Box::new(RouteIdentity { slot, path: Vec::new() }));
        self.by_place
            .range(begin..)
            .take_while(|(place, _)| matches!(place, Identity::Route(r) if r.slot == slot))
            .map(|(place, id)| (place.clone(), *id))
            .collect()
    }

    /// Whether the kernel has another route in the slot of an entry, or is to have one.
    pub(super) fn shares_slot(&self, id: ObjectId) -> bool {
        let Some(Identity::Route(own)) = self.entry(id).and_then(|e| e.place.as_ref()) else {
            return false;
        };
        let begin = Identity::Route(Box::new(RouteIdentity { slot: own.slot, path: Vec::new() }));
        self.in_slot(own.slot).len() > 1
            || self
                .seen
                .range(begin..)
                .take_while(|(place, _)| matches!(place, Identity::Route(r) if r.slot == own.slot))
                .any(|(place, _)| !matches!(place, Identity::Route(r) if r == own))
    }

    /// Whether an entry is to be there, after what each owner wants.
    pub fn is_wanted(&self, id: ObjectId, want: impl Fn(&O) -> Want) -> bool {
        let wants = self.entry(id).and_then(|entry| entry.owners.iter().map(want).max());
        match wants {
            Some(Want::Yes) => true,
            Some(Want::Keep) => self.is_present(id),
            Some(Want::No) | None => false,
        }
    }

    /// What a wanted entry waits for; none if it can be added as far as is known here.
    #[must_use]
    pub fn waits(&self, id: ObjectId) -> Option<Waits> {
        let object = &self.entry(id)?.object;
        let missing = object.interfaces().into_iter().find(|name| !self.links.contains_key(*name));
        if let Some(name) = missing {
            return Some(Waits::Interface(name.clone()));
        }
        let source = object.source()?;
        // An address of other programs is not waited for: the kernel knows better which sources it takes.
        let all = (source, ObjectId(0))..=(source, ObjectId(u32::MAX));
        let (mut ours, mut there) = (0, 0);
        for (_, id) in self.by_address.range(all) {
            ours += 1;
            let Some(entry) = self.entry(*id) else { continue };
            let coming = match &entry.in_flight {
                Some(operation) => operation.verb.adds(),
                None => self.is_present(*id),
            };
            if coming {
                return None;
            }
            there += u32::from(self.is_present(*id));
        }
        let foreign = self.holders.get(&source).copied().unwrap_or(0).saturating_sub(there);
        (ours > 0 && foreign == 0).then_some(Waits::Address(source))
    }

    /// Whether the address of a place is the first of its subnet, and how many others there are.
    pub(super) fn subnet(&self, identity: &Identity<IfIndex>) -> Option<Subnet> {
        let Identity::Address(link, prefix) = identity else { return None };
        let key = (*link, prefix.network());
        let places = self.subnets.get(&key)?;
        let place = self.seen.get(identity)?.place;
        Some(Subnet { key, place, first: *places.first()?, size: places.len() })
    }

    /// Entries that depend on an address and are not there.
    pub(super) fn waiting_for(&self, address: IpAddr) -> Vec<ObjectId> {
        let mut all = self.depend_on(address);
        all.retain(|id| {
            !self.is_present(*id) || self.entry(*id).is_some_and(|e| e.before.is_some())
        });
        all
    }

    // ---- refusals ----

    /// Whether an object that another program removed may be put back at once.
    pub fn may_restore(&mut self, id: ObjectId, now: Instant) -> bool {
        self.entry_mut(id).is_some_and(|entry| entry.restores.take(now))
    }

    /// Puts off the next attempt for an entry.
    pub fn put_off(&mut self, id: ObjectId, errno: i32, now: Instant) -> Option<Instant> {
        let entry = self.entry_mut(id)?;
        let attempts = entry.refused.map_or(1, |r| r.attempts.saturating_add(1));
        let pause = RETRY_FIRST * 2u32.saturating_pow(attempts.min(16) - 1);
        let retry_at = now + pause.min(RETRY_LAST);
        entry.refused = Some(Refused { errno, attempts, retry_at });
        Some(retry_at)
    }

    /// Drops an entry that nobody wants and that is nowhere.
    pub(super) fn collect(&mut self, id: ObjectId) {
        let unused = self.entry(id).is_some_and(|e| e.owners.is_empty() && !e.is_in_flight());
        if !unused || (self.is_present(id) && !self.is_shadowed(id)) {
            return;
        }
        self.index(id, false);
        let Some(entry) = self.entries.try_remove(id.0 as usize) else { return };
        self.by_key.remove(&entry.object.identity());
        if let Some(place) = entry.place
            && self.by_place.get(&place) == Some(&id)
        {
            self.by_place.remove(&place);
        }
    }

    /// Whether operations are in flight.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.requests.is_empty()
    }
}

/// An address among those of its subnet on one interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subnet {
    pub key: (IfIndex, Prefix),
    pub place: u64,
    pub first: u64,
    pub size: usize,
}
