//! The differences of two configurations, object by object.
//!
//! Objects are matched by their identity on the wire, not by their names: an instance that is only renamed is the same
//! instance.

use std::collections::BTreeMap;

use super::vrrp::{Instance, Vrid, Vrrp};
use crate::base::{Family, IfName, Name};

/// How two lists of objects correspond. Numbers are positions in the old and the new list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matching {
    /// Old and new position of objects in both.
    pub kept: Vec<(usize, usize)>,
    /// New positions of added objects.
    pub added: Vec<usize>,
    /// Old positions of removed objects.
    pub removed: Vec<usize>,
}

/// Matches instances: by interface, family, virtual router id and multicast or unicast, several of these also by name;
/// the rest by name.
#[must_use]
pub fn instances(old: &Vrrp, new: &Vrrp) -> Matching {
    let mut matcher = Matcher::default();
    while matcher.step(old, new) {}
    matcher.matching
}

/// What distinguishes instances of one interface on the wire: family, id, unicast or not.
type OnWire = (Family, Vrid, bool);

/// [`instances`], one instance at a time.
#[derive(Debug, Default)]
pub struct Matcher {
    pass: Pass,
    /// Position of the next instance of this pass.
    next: usize,
    by_wire: BTreeMap<IfName, BTreeMap<OnWire, Vec<usize>>>,
    by_name: BTreeMap<Name, usize>,
    /// The old instance of each new one.
    partner: Vec<Option<usize>>,
    /// Which old instances are matched.
    taken: Vec<bool>,
    matching: Matching,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pass {
    /// Builds the indexes of the old instances.
    #[default]
    Index,
    /// Several of one id on one interface (different groups or peers) are distinguished by their names.
    WireAndName,
    Wire,
    Name,
    Kept,
    Removed,
    Complete,
}

impl Matcher {
    /// Processes one more instance, of the same two configurations each time. False when done.
    pub fn step(&mut self, old: &Vrrp, new: &Vrrp) -> bool {
        let position = self.next;
        self.next += 1;
        let (before, after) = (old.instances.get(position), new.instances.get(position));
        let (done, then) = match self.pass {
            Pass::Index => (before.map(|i| self.index(position, i)), Pass::WireAndName),
            Pass::WireAndName => (after.map(|i| self.by_wire(position, old, i, true)), Pass::Wire),
            Pass::Wire => (after.map(|i| self.by_wire(position, old, i, false)), Pass::Name),
            Pass::Name => (after.map(|i| self.by_name(position, i)), Pass::Kept),
            Pass::Kept => (after.map(|_| self.sort(position)), Pass::Removed),
            Pass::Removed => (before.map(|_| self.leave(position)), Pass::Complete),
            Pass::Complete => return false,
        };
        if done.is_none() {
            (self.pass, self.next) = (then, 0);
        }
        true
    }

    /// The result, when done.
    #[must_use]
    pub const fn matching(&self) -> &Matching {
        &self.matching
    }

    fn index(&mut self, position: usize, old: &Instance) {
        let ids = match self.by_wire.get_mut(&old.interface) {
            Some(ids) => ids,
            None => self.by_wire.entry(old.interface.clone()).or_default(),
        };
        ids.entry(wire(old)).or_default().push(position);
        self.by_name.insert(old.name.clone(), position);
        self.taken.push(false);
    }

    fn by_wire(&mut self, position: usize, old: &Vrrp, new: &Instance, same_name: bool) {
        if self.partner.len() <= position {
            self.partner.push(None);
        }
        if self.partner.get(position) != Some(&None) {
            return;
        }
        let candidates = self.by_wire.get(&new.interface).and_then(|ids| ids.get(&wire(new)));
        let is_it = |position: &&usize| {
            let named = old.instances.get(**position).is_some_and(|i| i.name == new.name);
            self.taken.get(**position) == Some(&false) && (named || !same_name)
        };
        let found = candidates.and_then(|all| all.iter().find(is_it)).copied();
        self.pair(found, position);
    }

    fn by_name(&mut self, position: usize, new: &Instance) {
        if self.partner.get(position) == Some(&None) {
            let found = self.by_name.get(&new.name).copied();
            self.pair(found.filter(|old| self.taken.get(*old) == Some(&false)), position);
        }
    }

    fn pair(&mut self, old: Option<usize>, new: usize) {
        if let Some(old) = old
            && let Some(taken) = self.taken.get_mut(old)
            && let Some(slot) = self.partner.get_mut(new)
        {
            (*taken, *slot) = (true, Some(old));
        }
    }

    fn sort(&mut self, position: usize) {
        match self.partner.get(position).copied().flatten() {
            Some(old) => self.matching.kept.push((old, position)),
            None => self.matching.added.push(position),
        }
    }

    fn leave(&mut self, position: usize) {
        if self.taken.get(position) == Some(&false) {
            self.matching.removed.push(position);
        }
    }
}

fn wire(instance: &Instance) -> (Family, Vrid, bool) {
    (instance.family, instance.vrid, instance.unicast().is_some())
}
