//! Invariants between hosts once everything is settled.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use super::script::{has_bad_file, sum_of_files};
use super::{HELD_DOWN, SETTLE, Wire, wire_of};
use crate::base::{Instant, Name};
use crate::model::vrrp::{Preempt, Priority};
use crate::model::{Instance, Weight};
use crate::sim::World;
use crate::sim::world::{Node, NodeId};
use crate::status::vrrp::State;
use crate::vrrp::RunEnd;

/// The daemon knows a change of its host after this time: scripts have failed often enough.
const KNOWN: Duration = Duration::from_secs(12);

/// The expected state of a router, judging only by its host.
#[derive(Debug)]
struct Router {
    id: NodeId,
    instance: Instance,
    fit: bool,
    priority: u8,
}

impl World {
    /// For each virtual router the best able one is the only master; each reports its state correctly, and the master
    /// has the addresses.
    pub(super) fn check_cluster(&mut self) {
        let mut routers: BTreeMap<Wire, Vec<Router>> = BTreeMap::new();
        let mut found = Vec::new();
        for id in self.nodes() {
            let Some(node) = self.node(id).filter(|node| node.engine.is_some()) else { continue };
            for instance in &node.config.instances {
                let Some(wire) = wire_of(node, instance) else { continue };
                let group = self.group_of(id, &instance.name);
                let fit = node
                    .config
                    .instances
                    .iter()
                    .filter(|i| group.contains(&i.name))
                    .all(|member| self.is_fit(node, id, member));
                let priority = self.priority_of(node, id, instance);
                routers.entry(wire).or_default().push(Router {
                    id,
                    instance: instance.clone(),
                    fit,
                    priority,
                });
            }
        }
        for ((segment, _, vrid), members) in &routers {
            let masters: Vec<&Router> =
                members.iter().filter(|r| self.is_sending(r.id, &r.instance)).collect();
            let fit = || members.iter().filter(|r| r.fit);
            if masters.len() != usize::from(fit().next().is_some()) {
                found.push(format!("VRID {vrid} on {segment} has {} masters", masters.len()));
            }
            for router in members {
                self.check_router(router, &mut found);
            }
            // Among equals the current master stays master (RFC 9568 6.4.2): only a lower priority is wrong.
            let patient = |r: &&Router| r.instance.preempt == Preempt::After(Duration::ZERO);
            let best = fit().map(|r| r.priority).max();
            if let [master] = masters.as_slice() {
                if !master.fit {
                    found.push(format!("VRID {vrid} on {segment} is held by a router in fault"));
                }
                if Some(master.priority) < best && members.iter().by_ref().all(|r| patient(&r)) {
                    found.push(format!("VRID {vrid} on {segment} is not held by the best router"));
                }
            }
        }
        for text in found {
            self.violated(text);
        }
    }

    /// The reported state of a router is its real one.
    fn check_router(&self, router: &Router, found: &mut Vec<String>) {
        let (id, name) = (router.id, &router.instance.name);
        let Some(engine) = self.engine(id) else { return };
        let sending = self.is_sending(id, &router.instance);
        let want = match (sending, router.fit) {
            (true, _) => State::Master,
            (false, true) => State::Backup,
            (false, false) => State::Fault,
        };
        let node = id.0 + 1;
        if engine.state(name) != Some(want) {
            found.push(format!("node {node}: {name} is {:?}, not {want:?}", engine.state(name)));
        }
        if engine.priority(name) != Some(router.priority) {
            let said = engine.priority(name);
            found.push(format!(
                "node {node}: {name} has priority {said:?}, not {}",
                router.priority
            ));
        }
        match self.oracle.told.get(&(id, format!("INSTANCE {name}"))) {
            None => found.push(format!("node {node}: {name} is {want:?} and announced nothing")),
            Some(told) if told.state != want.word() => {
                found.push(format!("node {node}: {name} announced {} and is {want:?}", told.state));
            }
            Some(_) => {}
        }
        for group in self.node(id).into_iter().flat_map(|n| &n.config.groups) {
            if !group.members.contains(name) {
                continue;
            }
            let key = (id, format!("GROUP {}", group.name));
            let name = &group.name;
            match self.oracle.told.get(&key) {
                // A group created by a reload has the state of its members and announces the next one.
                None if self.oracle.made.contains(&key) => {}
                None => {
                    found.push(format!("node {node}: {name} is {want:?} and announced nothing"));
                }
                Some(told) if told.state != want.word() => {
                    let state = &told.state;
                    found.push(format!("node {node}: {name} announced {state} and is {want:?}"));
                }
                Some(_) => {}
            }
        }
    }

    /// A host on which nothing has changed for a while has the priorities that its scripts require, and is in FAULT
    /// exactly if it cannot take part, regardless of other hosts.
    pub(super) fn check_standing(&self, id: NodeId, found: &mut Vec<String>) {
        let long_ago = |at: Option<Instant>, time| at.is_none_or(|at| self.now().since(at) >= time);
        let quiet = !self.within(&self.oracle.troubled, id, KNOWN)
            && !self.within(&self.oracle.stalled, id, KNOWN)
            && long_ago(self.oracle.disturbed, Duration::from_secs(1))
            && long_ago(self.oracle.refused, SETTLE + HELD_DOWN);
        let Some(node) = self.node(id).filter(|node| quiet && node.runner_alive) else { return };
        let Some(engine) = &node.engine else { return };
        for instance in &node.config.instances {
            let name = &instance.name;
            let want = self.priority_of(node, id, instance);
            if engine.priority(name) != Some(want) {
                let said = engine.priority(name);
                found.push(format!("{name} has priority {said:?}, not {want}"));
            }
            let group = self.group_of(id, name);
            let mut members = node.config.instances.iter().filter(|i| group.contains(&i.name));
            let fit = members.all(|member| self.is_fit(node, id, member));
            let fault = engine.state(name) == Some(State::Fault);
            if fault == fit && node.kernel.refusals == 0 && node.kernel.impossible.is_empty() {
                let text = if fit { "is in FAULT for no reason" } else { "is not in FAULT" };
                found.push(format!("{name} {text}"));
            }
            let deaf = |link: &crate::vrrp::Link| {
                instance.unicast().is_none()
                    && !node.kernel.receives(link.index, instance.destination)
            };
            if fit && node.link_named(&instance.interface).is_some_and(deaf) {
                found.push(format!("{name} does not listen"));
            }
            // BACKUP and FAULT look the same on the wire.
            let told = self.oracle.told.get(&(id, format!("INSTANCE {name}")));
            let faulty = told.is_some_and(|told| told.state == State::Fault.word());
            if faulty == fit && fault != fit && node.in_flight == 0 {
                found.push(format!("{name} has not announced that it is fit: {fit}"));
            }
        }
    }
}

impl World {
    /// Whether a router can take part, judging by the world.
    pub(super) fn is_fit(&self, node: &Node, id: NodeId, instance: &Instance) -> bool {
        let Some(link) = node.link_named(&instance.interface) else { return false };
        let there =
            |address| node.kernel.addresses.iter().any(|(_, prefix)| prefix.address == address);
        let home = node.kernel.addresses.iter().any(|(l, prefix)| {
            *l == link.index
                && prefix.family() == instance.family
                && (node.kernel.is_home_on(*l, *prefix) || node.taken.contains(prefix))
        });
        let source = match instance.source {
            Some(address) => !instance.needs_source() || there(address),
            None => home,
        };
        (link.up || instance.dont_track_primary)
            && (instance.unicast().is_some()
                || node.kernel.may_listen(link.index, instance.destination))
            && source
            && !has_bad_file(node, instance)
            && self.tracked(node, id, instance).all(|(weight, good)| !weight.faults(good))
    }

    /// Whether a script alone keeps a router from taking part.
    pub(super) fn has_bad_script(&self, node: &Node, id: NodeId, instance: &Instance) -> bool {
        let mut all = instance.track_scripts.iter();
        all.any(|t| t.weight.faults(self.is_good(node, id, &t.script)))
    }

    /// The tracked objects of a router and its group, and whether they are good now.
    fn tracked<'a>(
        &'a self,
        node: &'a Node,
        id: NodeId,
        instance: &'a Instance,
    ) -> impl Iterator<Item = (Weight, bool)> + 'a {
        let group = node.config.groups.iter().find(|g| g.members.contains(&instance.name));
        let scripts = group.into_iter().flat_map(|g| &g.track_scripts);
        let links = group.into_iter().flat_map(|g| &g.track_interfaces);
        let scripts = instance.track_scripts.iter().chain(scripts);
        let links = instance.track_interfaces.iter().chain(links);
        let up = |name| node.link_named(name).is_some_and(|l| l.up);
        scripts
            .map(move |t| (t.weight, self.is_good(node, id, &t.script)))
            .chain(links.map(move |t| (t.weight, up(&t.interface))))
    }

    /// By its results, or else by its current exit status.
    fn is_good(&self, node: &Node, id: NodeId, script: &Name) -> bool {
        let known = self.oracle.scripts.get(&(id, script.clone())).and_then(|track| track.good);
        known.unwrap_or_else(|| {
            let config = node.config.scripts.iter().find(|s| s.name == *script);
            let path = config.and_then(|s| s.command.words.first());
            path.and_then(|path| node.scripts.get(path)).is_none_or(|end| *end == RunEnd::Exit(0))
        })
    }

    /// The priority that a daemon must give one of its routers now; none if it cannot know everything yet: its kernel has
    /// not reported a change, a script has no result, or it has not finished with what it was told.
    pub(super) fn own_priority(&self, id: NodeId, instance: &Instance) -> Option<u8> {
        let node = self.node(id)?;
        let group = node.config.groups.iter().find(|g| g.members.contains(&instance.name));
        let scripts = group.into_iter().flat_map(|g| &g.track_scripts);
        let mut scripts = instance.track_scripts.iter().chain(scripts);
        let known = scripts.all(|tracked| {
            let track = self.oracle.scripts.get(&(id, tracked.script.clone()));
            track.is_some_and(|track| track.good.is_some())
        });
        let told = node.events == 0 && !node.is_occupied() && !self.oracle.unfinished.contains(&id);
        (known && told && self.oracle.old_config(id).is_none())
            .then(|| self.priority_of(node, id, instance))
    }

    /// The same for elections, where the engine's word counts as long as it cannot be known.
    pub(super) fn judged_priority(&self, id: NodeId, instance: &Instance) -> Option<u8> {
        let engine = || self.engine(id).and_then(|engine| engine.priority(&instance.name));
        self.own_priority(id, instance).or_else(engine)
    }

    /// The state of a router: MASTER if it sends adverts, BACKUP or FAULT by whether it can take part. The engine's word
    /// counts as long as that cannot be known, and for routers that have not begun.
    pub(super) fn judged_state(
        &self,
        id: NodeId,
        wire: &Wire,
        instance: &Instance,
    ) -> Option<State> {
        let engine = self.engine(id)?.state(&instance.name)?;
        let node = self.node(id)?;
        let group = self.group_of(id, &instance.name);
        let members = || node.config.instances.iter().filter(|i| group.contains(&i.name));
        let joined = |i: &Instance| {
            let link = node.link_named(&i.interface);
            i.unicast().is_some()
                || link.is_none_or(|link| node.kernel.receives(link.index, i.destination))
        };
        let known = node.kernel.refusals == 0
            && node.kernel.impossible.is_empty()
            && node.taken.is_empty()
            && self.oracle.refused.is_none_or(|at| self.now().since(at) >= SETTLE + HELD_DOWN)
            && members().all(|i| joined(i) && self.own_priority(id, i).is_some());
        if !known || engine == State::Init {
            return Some(engine);
        }
        let router = self.oracle.routers.get(&(id, wire.clone()));
        Some(if router.is_some_and(super::wire::Router::is_sending) {
            State::Master
        } else if members().all(|member| self.is_fit(node, id, member)) {
            State::Backup
        } else {
            State::Fault
        })
    }

    /// The source of the adverts of a router: the configured one, or the first address of the host on its link. As long
    /// as its kernel has not reported a change, or an owner has a virtual address there, the engine's word counts.
    pub(super) fn judged_source(&self, id: NodeId, instance: &Instance) -> Option<IpAddr> {
        let node = self.node(id)?;
        let engine = || self.engine(id).and_then(|engine| engine.source(&instance.name));
        if node.events > 0 || !node.taken.is_empty() {
            return engine();
        }
        let link = node.link_named(&instance.interface)?;
        let mut there = node.kernel.addresses.iter().filter(|(on, prefix)| {
            *on == link.index
                && prefix.family() == instance.family
                && node.kernel.is_home_on(*on, *prefix)
        });
        instance.source.or_else(|| there.next().map(|(_, prefix)| prefix.address))
    }

    /// The priority of a router by its configuration and what it tracks.
    pub(super) fn priority_of(&self, node: &Node, id: NodeId, instance: &Instance) -> u8 {
        let base = instance.priority;
        if base == Priority::OWNER {
            return base.get();
        }
        let tracked = self.tracked(node, id, instance);
        let change: i32 = tracked.map(|(w, good)| i32::from(w.contribution(good))).sum();
        let change = change + sum_of_files(node, instance);
        let total = (i32::from(base.get()) + change).clamp(1, i32::from(Priority::MAX));
        u8::try_from(total).unwrap_or(Priority::MAX)
    }
}
