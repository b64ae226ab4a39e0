//! Addresses on the links of each host.

use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use super::SETTLE;
use crate::base::{IfIndex, Instant, Prefix};
use crate::model::{Address, Instance, Vrrp};
use crate::plan::{Identity, Op, Outcome, Verb};
use crate::sim::World;
use crate::sim::world::{Node, NodeId};

/// Refused operations are retried within this time.
const RETRY: Duration = Duration::from_secs(12);

/// How often an address is restored at once when another program removes it repeatedly, and how often in [`TUGS_LAST`].
const RESTORES: usize = 5;
const RESTORES_LAST: usize = 11;
const TUGS_LAST: Duration = Duration::from_secs(10);

/// Removals of an address by another program.
#[derive(Clone, Debug, Default)]
pub(super) struct Tugs {
    /// When it was removed.
    removed: VecDeque<Instant>,
    /// When it was restored at once.
    restored: VecDeque<Instant>,
}

impl Tugs {
    pub fn removed(&mut self, now: Instant) {
        note(&mut self.removed, now);
    }
}

fn note(times: &mut VecDeque<Instant>, now: Instant) {
    times.push_back(now);
    while times.front().is_some_and(|at| now.since(*at) > TUGS_LAST) {
        times.pop_front();
    }
}

pub(super) fn all(instance: &Instance) -> impl Iterator<Item = &Address> {
    instance.addresses.iter().chain(&instance.excluded)
}

impl World {
    /// A daemon requests changes from its kernel.
    pub(in crate::sim) fn judge_request(&mut self, id: NodeId, ops: &[Op]) {
        let (mut found, mut added) = (Vec::new(), Vec::new());
        let Some(node) = self.node(id) else { return };
        for op in ops {
            // Routes are judged by the kernel's state.
            let Some((_, address)) = op.as_address() else { continue };
            match op.verb {
                Verb::Add | Verb::Replace { .. } => {
                    let prefix = address.prefix;
                    let old = self.oracle.old_config(id);
                    let mut configs = core::iter::once(&node.config).chain(old);
                    let wanted = configs.any(|config| self.is_wanted(id, config, address));
                    if node.events == 0 && !wanted {
                        found.push(format!("adds {prefix} without being master"));
                    }
                    if node.events == 0 && old.is_none() && self.is_beside(id, node, prefix.address)
                    {
                        found.push(format!("adds {prefix} beside a better master"));
                    }
                    let link = node.link_named(&address.interface).map(|link| link.index);
                    added.extend(link.map(|link| (id, link, prefix)));
                }
                Verb::Delete { .. } => {
                    let prefix = address.prefix;
                    let link = node.link_named(&address.interface).map(|link| link.index);
                    if link.is_some_and(|link| node.kernel.is_home_on(link, prefix)) {
                        found.push(format!("removes the address {prefix} of the host"));
                    }
                    let place = (address.interface.clone(), prefix);
                    if self.oracle.keeps(id, &place) {
                        found.push(format!("removes {prefix} in a reload that keeps it"));
                    }
                }
            }
        }
        let now = self.now();
        for key in added {
            let Some(tugs) = self.oracle.tugs.get_mut(&key) else { continue };
            if tugs.removed.back().is_some_and(|at| now.since(*at) < Duration::from_millis(50)) {
                note(&mut tugs.restored, now);
            }
            if tugs.restored.len() > RESTORES_LAST {
                found.push(format!("puts {} back without end", key.2));
            }
        }
        for text in found {
            self.violated_by(id, &text);
        }
    }

    fn is_wanted(&self, id: NodeId, config: &Vrrp, address: &Address) -> bool {
        let same = |a: &Address| a.prefix == address.prefix && a.interface == address.interface;
        config.static_addresses.iter().any(same)
            || config.instances.iter().any(|i| all(i).any(same) && self.is_sending(id, i))
    }

    /// A kernel carried out a change, or refused it.
    pub(in crate::sim) fn judge_change(
        &mut self,
        id: NodeId,
        op: &Op,
        outcome: Outcome,
        gone: &[Prefix],
    ) {
        let now = self.now();
        if let Outcome::Refused(_) = outcome {
            self.oracle.refused = Some(now);
            self.oracle.muddle(id, now);
        }
        if let Some(identity) = op.identity() {
            let refused = matches!((&op.verb, outcome), (Verb::Delete { .. }, Outcome::Refused(_)));
            if refused {
                self.oracle.kept_by_kernel.insert((id, identity));
            } else {
                self.oracle.kept_by_kernel.remove(&(id, identity));
            }
        }
        let mut found = Vec::new();
        self.judge_order(id, op, outcome, &mut found);
        for text in found {
            self.violated_by(id, &text);
        }
        let Some((link, address)) = op.as_address() else { return };
        if let Some(node) = self.nodes.get_mut(id.0) {
            for prefix in gone {
                node.ours.remove(&(link, *prefix));
            }
            if outcome == Outcome::Done && op.verb.adds() {
                node.ours.insert((link, address.prefix));
            }
        }
        for prefix in gone {
            // An address that was being removed when its router became master is added and announced again.
            if let Some(a) = self.oracle.announcements.get_mut(&(id, link, prefix.address)) {
                a.muddle(now);
            }
        }
        let Some(node) = self.node(id) else { return };
        let mut found = Vec::new();
        for prefix in gone.iter().filter(|prefix| **prefix != address.prefix) {
            let other = Address { prefix: *prefix, ..address.clone() };
            if node.engine.is_some() && self.is_wanted(id, &node.config, &other) {
                found.push(format!("{prefix} goes with {}", address.prefix));
            }
        }
        if gone.len() > 1 {
            self.oracle.muddle(id, now);
        }
        for text in found {
            self.violated_by(id, &text);
        }
    }

    /// A daemon that has stopped in good order leaves no address of its own, except what the kernel refused to remove.
    pub(in crate::sim) fn judge_end(&mut self, id: NodeId) {
        let Some(node) = self.node(id) else { return };
        if node.events > 0 {
            return self.judge_last_notices(id);
        }
        let virtual_ones: BTreeSet<Prefix> =
            node.config.instances.iter().flat_map(all).map(|a| a.prefix).collect();
        let left: Vec<Prefix> = node
            .kernel
            .addresses
            .iter()
            .filter(|(link, prefix)| {
                !node.kernel.is_home_on(*link, *prefix)
                    && !node.taken.contains(prefix)
                    && (node.ours.contains(&(*link, *prefix)) || virtual_ones.contains(prefix))
                    && !self
                        .oracle
                        .kept_by_kernel
                        .contains(&(id, Identity::Address(*link, *prefix)))
            })
            .map(|(_, prefix)| *prefix)
            .collect();
        if !left.is_empty() {
            self.violated_by(id, &format!("leaves addresses behind: {left:?}"));
        }
        self.judge_left_objects(id);
        self.judge_last_notices(id);
    }

    /// Invariants of a single host, at every moment without pending events.
    pub(super) fn check_host(&mut self, id: NodeId) {
        let mut found = Vec::new();
        if let Some(node) = self.node(id)
            && node.engine.is_some()
            && node.stalled_until.is_none()
            && node.events == 0
        {
            for group in &node.config.groups {
                let members = node.config.instances.iter();
                let members = members.filter(|i| group.members.contains(&i.name));
                let sending: BTreeSet<bool> = members.map(|i| self.is_sending(id, i)).collect();
                // Only a member that a reload added may take a while to join a group of masters.
                let joining = self.within(&self.oracle.reloaded, id, SETTLE)
                    || self.oracle.unfinished.contains(&id);
                if sending.len() > 1 && !joining {
                    found.push(format!("group {} is split", group.name));
                }
            }
            let works = node.kernel.refusals == 0 && node.kernel.impossible.is_empty();
            let tugs = self.oracle.tugs.iter().filter(|((node, ..), _)| *node == id);
            let tugged = tugs.map(|(_, tugs)| tugs).any(|tugs| {
                let last = tugs.removed.back();
                tugs.removed.len() > RESTORES
                    && last.is_some_and(|at| self.now().since(*at) < RETRY)
            });
            let retrying =
                tugged || self.oracle.refused.is_some_and(|at| self.now().since(at) < RETRY);
            if node.in_flight == 0 && works && !retrying {
                self.check_addresses(id, node, &mut found);
                self.check_objects(id, node, &mut found);
            }
            self.check_announcements(id, node, &mut found);
            self.check_standing(id, &mut found);
            self.check_runs(id, &mut found);
        }
        let quiet =
            |node: &Node| node.engine.is_some() && node.stalled_until.is_none() && node.events == 0;
        if self.node(id).is_some_and(quiet) {
            self.check_notices(id);
        }
        for text in found {
            self.violated_by(id, &text);
        }
    }

    /// The addresses of masters are on their links, and no other addresses of ours on any link.
    fn check_addresses(&self, id: NodeId, node: &Node, found: &mut Vec<String>) {
        let mut wanted: BTreeSet<(IfIndex, Prefix)> = BTreeSet::new();
        let mut virtual_ones: BTreeSet<Prefix> = BTreeSet::new();
        for instance in &node.config.instances {
            // Whether they are gone already depends on what is left to do.
            if self.is_leaving(id, instance) {
                continue;
            }
            let sending = self.is_sending(id, instance);
            for address in all(instance) {
                virtual_ones.insert(address.prefix);
                let link = node.link_named(&address.interface).filter(|_| sending);
                wanted.extend(link.map(|link| (link.index, address.prefix)));
            }
        }
        for address in &node.config.static_addresses {
            let link = node.link_named(&address.interface);
            wanted.extend(link.map(|link| (link.index, address.prefix)));
        }
        for (link, prefix) in &wanted {
            if !node.kernel.has(*link, *prefix) {
                found.push(format!("{prefix} is missing on {link:?}"));
            }
        }
        for place in &node.kernel.addresses {
            let (link, prefix) = place;
            let ours = virtual_ones.contains(prefix) || node.ours.contains(place);
            let free = node.kernel.is_home_on(*link, *prefix)
                || node.leftovers.contains(place)
                || node.taken.contains(prefix);
            if ours && !free && !wanted.contains(place) {
                found.push(format!("{prefix} is not to be there on {link:?}"));
            }
        }
    }
}
