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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::extras::Unicast;
    use crate::model::sample;

    /// What an instance is matched by: interface, family, id, unicast. Few of each, so that most collide.
    type Key = (bool, bool, bool, bool);

    /// Up to seven instances with different names, in any order.
    fn configurations() -> impl Strategy<Value = Vrrp> {
        let key = proptest::option::weighted(0.7, any::<Key>());
        let instances = proptest::collection::vec(key, 7).prop_map(|keys| -> Vec<Instance> {
            let named = keys.into_iter().zip('a'..);
            named.filter_map(|(key, name)| Some(instance(&name.to_string(), key?))).collect()
        });
        let of = |instances| Vrrp { instances, ..Vrrp::default() };
        instances.prop_shuffle().prop_map(of)
    }

    fn instance(name: &str, (interface, v6, vrid, unicast): Key) -> Instance {
        let interface = if interface { "eth0" } else { "eth1" };
        let vip = if v6 { "2001:db8::1/64" } else { "10.0.0.1/24" };
        let mut instance = sample::instance(name, interface, 1 + u8::from(vrid), 100, &[vip]);
        if unicast {
            instance.extras.get_or_insert_default().unicast = Some(Unicast::default());
        }
        instance
    }

    fn of_wire(instance: &Instance) -> (IfName, OnWire) {
        (instance.interface.clone(), wire(instance))
    }

    /// `old` with the difference to `new` applied: what is removed goes, what is kept takes the new settings and position,
    /// what is added is new.
    fn applied(old: &Vrrp, new: &Vrrp, matching: &Matching) -> Vec<Option<Instance>> {
        let mut result = vec![None; new.instances.len()];
        let mut left: Vec<Option<&Instance>> = old.instances.iter().map(Some).collect();
        for position in &matching.removed {
            assert!(left[*position].take().is_some(), "removed twice");
        }
        for (before, after) in &matching.kept {
            assert!(left[*before].take().is_some(), "kept twice, or removed and kept");
            assert_eq!(result[*after].replace(new.instances[*after].clone()), None);
        }
        for position in &matching.added {
            assert_eq!(result[*position].replace(new.instances[*position].clone()), None);
        }
        assert!(left.iter().all(Option::is_none), "neither kept nor removed");
        result
    }

    proptest! {
        #[test]
        fn a_difference_applied_to_the_old_configuration_gives_the_new_one(
            old in configurations(), new in configurations()
        ) {
            let matching = instances(&old, &new);
            let wanted: Vec<_> = new.instances.iter().cloned().map(Some).collect();
            prop_assert_eq!(applied(&old, &new, &matching), wanted);
        }

        /// The same on the wire, or else the same name; and nothing is added beside a removed instance that is the same on
        /// the wire or has its name.
        #[test]
        fn as_many_as_possible_are_kept(old in configurations(), new in configurations()) {
            let Matching { kept, added, removed } = instances(&old, &new);
            for (before, after) in kept {
                let (before, after) = (&old.instances[before], &new.instances[after]);
                prop_assert!(of_wire(before) == of_wire(after) || before.name == after.name);
            }
            for (before, after) in removed.iter().flat_map(|r| added.iter().map(move |a| (*r, *a))) {
                let (before, after) = (&old.instances[before], &new.instances[after]);
                prop_assert_ne!(of_wire(before), of_wire(after));
                prop_assert_ne!(&before.name, &after.name);
            }
        }

        /// Neither the names nor the order matter where each instance is the only one of its kind on the wire.
        #[test]
        fn renamed_and_reordered_instances_are_kept(new in configurations()) {
            let mut seen = std::collections::BTreeSet::new();
            let mut new = new;
            new.instances.retain(|instance| seen.insert(of_wire(instance)));
            let mut old = new.clone();
            old.instances.reverse();
            for (number, instance) in old.instances.iter_mut().enumerate() {
                instance.name = Name::from(format!("old{number}").as_str());
            }
            let matching = instances(&old, &new);
            prop_assert!(matching.added.is_empty() && matching.removed.is_empty());
            for (before, after) in matching.kept {
                prop_assert_eq!(of_wire(&old.instances[before]), of_wire(&new.instances[after]));
            }
        }
    }
}
