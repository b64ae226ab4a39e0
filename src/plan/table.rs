//! The reconciler: one entry for each object, whatever claims it.
//!
//! An object that two claimants name, or that moves from one to the other in a reload, is one entry and causes no
//! operation. At most one operation of an entry is in flight; after its answer the entry is compared again with what is
//! wanted by then, so a flapping link builds up no backlog. The caller knows which claimants want their objects at the
//! moment.

use core::net::IpAddr;
use core::ops::Bound;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use slab::Slab;

use super::filter::FilterTableId;
use super::link::Numbers;
use super::object::{Difference, Identity, Object, Sight};
use super::observed::Observed;
use super::{Token, Verb};
use crate::base::limit::Limit;
use crate::base::{IfIndex, IfName, Instant, Mac};

/// First pause after a refusal; doubled each time.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// Longest pause between two attempts.
const RETRY_LAST: Duration = Duration::from_secs(10);
/// How often an object is restored at once when another program keeps removing it, and how often later.
const RESTORE_BURST: u32 = 5;
const RESTORE_PERIOD: Duration = Duration::from_secs(2);

/// Number of an entry; reused after the entry is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub u32);

/// A position among the entries on an interface.
#[derive(Clone, Copy, Debug, Default)]
pub struct Position(Option<ObjectId>);

/// All objects that are wanted, and all that the kernel has. `C` identifies the claimants.
#[derive(Debug)]
pub struct Table<C> {
    pub(super) entries: Slab<Entry<C>>,
    pub(super) by_key: BTreeMap<Identity<IfName>, ObjectId>,
    /// Entries all of whose interfaces exist.
    pub(super) by_place: BTreeMap<Identity<IfIndex>, ObjectId>,
    pub(super) by_interface: BTreeSet<(IfName, ObjectId)>,
    /// Entries that depend on a local address, and the entries of such addresses.
    pub(super) by_source: BTreeSet<(IpAddr, ObjectId)>,
    pub(super) by_address: BTreeSet<(IpAddr, ObjectId)>,
    /// Entries of created interfaces, by parent and hardware address of their own.
    pub(super) by_upper: BTreeSet<(IfName, Option<Mac>, ObjectId)>,
    pub(super) links: BTreeMap<IfName, IfIndex>,
    /// Interfaces whose index has changed and whose entries have not all got their places; how often.
    pub(super) moving: BTreeMap<IfName, u32>,
    /// The tables of VRFs, by the name of their device.
    pub(super) vrfs: BTreeMap<IfName, u32>,
    /// The VRFs of interfaces that are in one.
    pub(super) ports: BTreeMap<IfName, IfIndex>,
    pub(super) observed: Observed,
    pub(super) numbers: Numbers,
    pub(super) requests: BTreeMap<Token, Vec<Option<ObjectId>>>,
    pub(super) next_token: u64,
    /// Visits to entries and observed objects by what may concern thousands of them.
    #[cfg(test)]
    pub(crate) looks: core::cell::Cell<u64>,
}

/// An object that is or was wanted.
#[derive(Debug)]
pub struct Entry<C> {
    /// The object as wanted.
    pub object: Arc<Object>,
    pub claimants: Vec<C>,
    /// The kernel refused the last operation.
    pub refused: Option<Refused>,
    pub(super) place: Option<Identity<IfIndex>>,
    pub(super) in_flight: Option<InFlight>,
    pub(super) restores: Limit,
    /// It exists with these attributes instead of the wanted ones.
    pub(super) before: Option<Arc<Object>>,
    /// The kernel may have removed it without an event.
    pub(super) doubtful: bool,
    /// The kernel has removed it at our request, but the event has not arrived yet. Answers and events come over two
    /// sockets, so it may exist again when the event arrives.
    pub(super) echo: bool,
    /// It exists because this process added it.
    pub(super) placed: bool,
    /// An address of the interface itself, which must not be removed.
    pub(super) own: bool,
}

/// An unanswered operation.
#[derive(Debug)]
pub(super) struct InFlight {
    pub verb: Verb,
    pub sight: Sight,
    /// It existed at the time of the request.
    pub existed: bool,
    /// Whether it existed was in doubt.
    pub doubtful: bool,
    /// The event about the removal has arrived.
    pub told: bool,
}

/// A refusal of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// Its error number; 0 when another program keeps removing the object.
    pub errno: i32,
    /// Number of consecutive attempts.
    pub attempts: u32,
    /// When the next one is made.
    pub retry_at: Instant,
    /// The refused operation was a removal. Only the refused kind waits: a refused addition does not delay a removal.
    pub(super) removal: bool,
}

/// How a claimant wants its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// Not at all.
    No,
    /// Retained: existing ones stay, missing ones are not added.
    Keep,
    /// Present.
    Yes,
}

/// What a wanted object waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waits {
    /// An interface does not exist.
    Interface(IfName),
    /// An interface is not the device of a VRF.
    Vrf(IfName),
    /// An address of this table does not exist.
    Address(IpAddr),
    /// A table of packet filters does not exist; with its entry.
    FilterTable(FilterTableId, ObjectId),
    /// This one must be removed first: an interface that nothing wants, or a packet filter that is added again before its
    /// address.
    Removal(ObjectId),
}

/// The effect of a kernel event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Entries that another program removed.
    pub removed: Vec<ObjectId>,
    /// Entries that another program seems to have changed; they are among `settle`.
    pub altered: Vec<ObjectId>,
    /// The entry of an object that another program added.
    pub added: Option<ObjectId>,
    /// Entries to compare again.
    pub settle: Vec<ObjectId>,
    /// It concerns an object without an entry.
    pub foreign: bool,
}

impl<C> Default for Table<C> {
    fn default() -> Self {
        Self {
            entries: Slab::new(),
            by_key: BTreeMap::new(),
            by_place: BTreeMap::new(),
            by_interface: BTreeSet::new(),
            by_source: BTreeSet::new(),
            by_address: BTreeSet::new(),
            by_upper: BTreeSet::new(),
            links: BTreeMap::new(),
            moving: BTreeMap::new(),
            vrfs: BTreeMap::new(),
            ports: BTreeMap::new(),
            observed: Observed::default(),
            numbers: Numbers::default(),
            requests: BTreeMap::new(),
            next_token: 0,
            #[cfg(test)]
            looks: core::cell::Cell::new(0),
        }
    }
}

impl<C> Entry<C> {
    /// Whether an operation of it is unanswered.
    #[must_use]
    pub const fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether the kernel has been asked to remove it.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        let verb = self.in_flight.as_ref().map(|asked| &asked.verb);
        matches!(verb, Some(Verb::Delete { .. }))
    }

    /// The object as the kernel has it, if it has it, according to its answers.
    pub(super) fn there(&self) -> &Object {
        let asked = self.in_flight.as_ref().and_then(|asked| match &asked.verb {
            Verb::Replace { before, .. } => Some(before),
            Verb::Add | Verb::Delete { .. } => None,
        });
        self.before.as_ref().or(asked).unwrap_or(&self.object)
    }

    /// Whether the operation in flight is about this place, and not about one on a deleted link.
    pub(super) fn is_asked_at(&self, place: &Identity<IfIndex>) -> bool {
        self.in_flight.as_ref().is_some_and(|asked| asked.sight.identity == *place)
    }
}

impl<C: Copy + PartialEq> Table<C> {
    #[must_use]
    pub fn entry(&self, id: ObjectId) -> Option<&Entry<C>> {
        self.entries.get(id.0 as usize)
    }

    pub(super) fn entry_mut(&mut self, id: ObjectId) -> Option<&mut Entry<C>> {
        self.entries.get_mut(id.0 as usize)
    }

    /// Adds `claimant` to the claimants of `object`; the attributes of the last call count.
    pub fn claim(&mut self, object: Object, claimant: C) -> ObjectId {
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
            && !entry.claimants.contains(&claimant)
        {
            entry.claimants.push(claimant);
        }
        id
    }

    fn insert(&mut self, key: Identity<IfName>, object: Object) -> ObjectId {
        let number = self.entries.insert(Entry {
            object: Arc::new(object),
            claimants: Vec::new(),
            refused: None,
            place: None,
            in_flight: None,
            restores: Limit::new(RESTORE_BURST, RESTORE_PERIOD),
            before: None,
            doubtful: false,
            echo: false,
            placed: false,
            own: false,
        });
        let id = ObjectId(u32::try_from(number).unwrap_or(u32::MAX));
        self.by_key.insert(key, id);
        self.index(id, true);
        self.put(id);
        id
    }

    /// An entry without a claimant, for an object that the kernel has and nobody wants.
    pub(super) fn unclaimed(&mut self, object: Object) -> ObjectId {
        let key = object.identity();
        match self.by_key.get(&key) {
            Some(id) => *id,
            None => self.insert(key, object),
        }
    }

    /// Changes the wanted attributes of an entry.
    fn exchange(&mut self, id: ObjectId, was: &Arc<Object>, object: Object) {
        self.index(id, false);
        if let Some(entry) = self.entry_mut(id) {
            let before = entry.before.take().unwrap_or_else(|| Arc::clone(was));
            entry.before = (object.difference(&before) != Difference::None).then_some(before);
            entry.object = Arc::new(object);
            // What was refused was another request.
            entry.refused = None;
        }
        self.index(id, true);
        self.put(id);
        if let Object::FilterTable(table) = was.as_ref() {
            // It is recreated as a whole, with its elements: the caller compares all entries afterwards.
            self.lost(&Identity::FilterTable(table.id()), &mut Vec::new());
        }
        self.compare(id);
    }

    /// Adds an entry to the indexes, or removes it from them.
    fn index(&mut self, id: ObjectId, add: bool) {
        let Some(object) = self.entry(id).map(|e| Arc::clone(&e.object)) else { return };
        let interfaces = object.interfaces().into_iter().map(|name| (name.clone(), id));
        let source = object.source().map(|source| (source, id));
        let address = object.address().map(|a| (a.prefix.address, id));
        let upper = match object.as_ref() {
            Object::Link(link) => Some((link.link.parent.clone(), link.link.own_mac(), id)),
            _ => None,
        };
        if add {
            self.by_interface.extend(interfaces);
            self.by_source.extend(source);
            self.by_address.extend(address);
            self.by_upper.extend(upper);
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
            if let Some(key) = upper {
                self.by_upper.remove(&key);
            }
        }
    }

    /// Drops all claims, before a new configuration claims its objects.
    pub fn release_all(&mut self) {
        for (_, entry) in &mut self.entries {
            entry.claimants.clear();
        }
    }

    /// The entry of an object.
    #[must_use]
    pub fn find(&self, identity: &Identity<IfName>) -> Option<ObjectId> {
        self.by_key.get(identity).copied()
    }

    /// All entries, in the order of their numbers.
    #[must_use]
    pub fn ids(&self) -> Vec<ObjectId> {
        self.entries.iter().map(|(id, _)| ObjectId(u32::try_from(id).unwrap_or(u32::MAX))).collect()
    }

    /// Entries on an interface.
    #[must_use]
    pub fn on_interface(&self, name: &IfName) -> Vec<ObjectId> {
        self.some_on_interface(name, &mut Position::default(), usize::MAX)
    }

    /// The next entries on an interface, at most this many; fewer at the end.
    pub fn some_on_interface(
        &self,
        name: &IfName,
        at: &mut Position,
        most: usize,
    ) -> Vec<ObjectId> {
        let begin = match at.0 {
            Some(last) => Bound::Excluded((name.clone(), last)),
            None => Bound::Included((name.clone(), ObjectId(0))),
        };
        let end = Bound::Included((name.clone(), ObjectId(u32::MAX)));
        let all = self.by_interface.range((begin, end)).take(most);
        let some: Vec<ObjectId> = all.inspect(|_| self.look()).map(|(_, id)| *id).collect();
        at.0 = some.last().copied().or(at.0);
        some
    }

    /// Counts a visit, for tests.
    #[inline]
    pub(super) fn look(&self) {
        #[cfg(test)]
        self.looks.set(self.looks.get() + 1);
    }

    /// Whether an entry is on an interface.
    #[must_use]
    pub fn has_any(&self, name: &IfName) -> bool {
        let first = (name.clone(), ObjectId(0));
        self.by_interface.range(first..).next().is_some_and(|(other, _)| other == name)
    }

    /// The names of the interfaces of all entries, each once.
    pub fn interfaces(&self) -> impl Iterator<Item = &IfName> {
        let after = |name: &IfName| {
            let last = (name.clone(), ObjectId(u32::MAX));
            self.by_interface.range((Bound::Excluded(last), Bound::Unbounded)).next()
        };
        let first = self.by_interface.first();
        core::iter::successors(first, move |(name, _)| after(name)).map(|(name, _)| name)
    }

    pub(super) fn depend_on(&self, address: IpAddr) -> Vec<ObjectId> {
        let all = (address, ObjectId(0))..=(address, ObjectId(u32::MAX));
        self.by_source.range(all).map(|(_, id)| *id).collect()
    }

    /// Whether any claimant wants an entry.
    pub fn is_wanted(&self, id: ObjectId, want: impl Fn(&C) -> Want) -> bool {
        match self.want(id, want) {
            Want::Yes => true,
            Want::Keep => self.is_present(id),
            Want::No => false,
        }
    }

    /// The most that a claimant of an entry wants.
    pub(super) fn want(&self, id: ObjectId, want: impl Fn(&C) -> Want) -> Want {
        self.entry(id).and_then(|entry| entry.claimants.iter().map(want).max()).unwrap_or(Want::No)
    }

    /// What a wanted entry waits for; none if nothing known prevents its addition.
    #[must_use]
    pub fn waits(&self, id: ObjectId) -> Option<Waits> {
        let object = &self.entry(id)?.object;
        let missing = object.interfaces().into_iter().find(|name| !self.links.contains_key(*name));
        if let Some(name) = missing {
            return Some(Waits::Interface(name.clone()));
        }
        if let Object::Route(route) = object.as_ref()
            && let Some(vrf) = route.vrf.as_ref().filter(|vrf| !self.vrfs.contains_key(*vrf))
        {
            return Some(Waits::Vrf(vrf.clone()));
        }
        if let Some(waits) = self.waits_for_table(object) {
            return Some(waits);
        }
        if let Some(other) = self.in_the_way(id).or_else(|| self.leaving_filter(object)) {
            return Some(Waits::Removal(other));
        }
        let source = object.source()?;
        // Foreign addresses are not waited for: the kernel decides which sources it accepts.
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
        let foreign = self.observed.holders(source).saturating_sub(there);
        (ours > 0 && foreign == 0).then_some(Waits::Address(source))
    }

    /// Entries that depend on an address and do not exist.
    pub(super) fn waiting_for(&self, address: IpAddr) -> Vec<ObjectId> {
        let mut all = self.depend_on(address);
        all.retain(|id| {
            !self.is_present(*id) || self.entry(*id).is_some_and(|e| e.before.is_some())
        });
        all
    }

    /// Whether an object that another program removed may be restored at once.
    pub fn may_restore(&mut self, id: ObjectId, now: Instant) -> bool {
        self.entry_mut(id).is_some_and(|entry| entry.restores.take(now))
    }

    /// Delays the next attempt for an entry.
    pub fn put_off(&mut self, id: ObjectId, errno: i32, now: Instant) -> Option<Instant> {
        let entry = self.entry_mut(id)?;
        let attempts = entry.refused.map_or(1, |r| r.attempts.saturating_add(1));
        let pause = RETRY_FIRST * 2u32.saturating_pow(attempts.min(16) - 1);
        let retry_at = now + pause.min(RETRY_LAST);
        entry.refused = Some(Refused { errno, attempts, retry_at, removal: false });
        Some(retry_at)
    }

    /// Drops an entry that has no claimant and does not exist in the kernel.
    pub(super) fn collect(&mut self, id: ObjectId) {
        let unused = self.entry(id).is_some_and(|e| e.claimants.is_empty() && !e.is_in_flight());
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
