//! What differs between two configurations, object by object.
//!
//! Objects are matched by what identifies them on the wire, not by their names: an instance that is only
//! renamed is the same instance.

use std::collections::BTreeMap;

use super::vrrp::{Instance, Vrid, Vrrp};
use crate::base::{Family, IfName, Name};

/// How two lists of objects correspond. Numbers are positions in the old and the new list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matching {
    /// Old and new position of what is in both.
    pub kept: Vec<(usize, usize)>,
    /// New positions of what is only in the new one.
    pub added: Vec<usize>,
    /// Old positions of what is only in the old one.
    pub removed: Vec<usize>,
}

/// Matches instances: by interface, family, virtual router id and how they hear one another, among several by name,
/// too; what is left by name.
#[must_use]
pub fn instances(old: &Vrrp, new: &Vrrp) -> Matching {
    fn wire(i: &Instance) -> (&IfName, Family, Vrid, bool) {
        (&i.interface, i.family, i.vrid, i.unicast().is_some())
    }
    let mut by_wire: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (position, instance) in old.instances.iter().enumerate() {
        by_wire.entry(wire(instance)).or_default().push(position);
    }
    let mut partner: Vec<Option<usize>> = vec![None; new.instances.len()];
    let mut taken = vec![false; old.instances.len()];
    // Several of one id on one interface (other groups, other peers) are told apart by their names.
    for same_name in [true, false] {
        for (slot, instance) in partner.iter_mut().zip(&new.instances) {
            let candidates = by_wire.get(&wire(instance)).map_or(&[][..], Vec::as_slice);
            let is_it = |position: &&usize| {
                let named = old.instances.get(**position).is_some_and(|i| i.name == instance.name);
                taken.get(**position) == Some(&false) && (named || !same_name)
            };
            if slot.is_none()
                && let Some(position) = candidates.iter().find(is_it).copied()
                && let Some(free) = taken.get_mut(position)
            {
                *free = true;
                *slot = Some(position);
            }
        }
    }
    let by_name: BTreeMap<&Name, usize> =
        old.instances.iter().enumerate().map(|(n, i)| (&i.name, n)).collect();
    for (slot, instance) in partner.iter_mut().zip(&new.instances) {
        if slot.is_none()
            && let Some(position) = by_name.get(&instance.name).copied()
            && let Some(free) = taken.get_mut(position).filter(|t| !**t)
        {
            *free = true;
            *slot = Some(position);
        }
    }
    let mut matching = Matching::default();
    for (position, partner) in partner.iter().enumerate() {
        match partner {
            Some(old) => matching.kept.push((*old, position)),
            None => matching.added.push(position),
        }
    }
    matching.removed =
        taken.iter().enumerate().filter(|(_, taken)| !**taken).map(|(n, _)| n).collect();
    matching
}
