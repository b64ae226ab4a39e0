//! The engine's counters and views match what the oracle has seen.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::{Oracle, Wire, wire_of};
use crate::base::{Instant, Name};
use crate::model::Instance;
use crate::sim::World;
use crate::sim::world::NodeId;
use crate::status::vrrp::{Counters, State, Tracker, TrackerKind};

/// How often counters are compared.
const LOOK: Duration = Duration::from_secs(5);

/// Packets seen for a host since its counters were read.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    at: Instant,
    instances: BTreeMap<Name, Pair<Counters>>,
    host: Pair<Packets>,
}

/// Packets that belong to no instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Packets {
    pub unknown: u64,
    pub malformed: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pair<T> {
    /// The value read from the engine.
    before: T,
    /// The expected increase since then.
    seen: T,
}

fn fields(c: &Counters) -> impl Iterator<Item = (&'static str, u64)> + use<> {
    c.dropped().into_iter().chain([
        ("received", c.adverts_received),
        ("sent", c.adverts_sent),
        ("priority 0 received", c.priority_zero_received),
        ("priority 0 sent", c.priority_zero_sent),
        ("other addresses", c.address_list_mismatch),
        ("became master", c.became_master),
        ("left master", c.released_master),
    ])
}

impl Oracle {
    /// Adds to an expected counter of an instance.
    pub(super) fn count(&mut self, id: NodeId, name: &Name, count: impl FnOnce(&mut Counters)) {
        if let Some(pair) = self.ledgers.get_mut(&id).and_then(|l| l.instances.get_mut(name)) {
            count(&mut pair.seen);
        }
    }

    pub(super) fn count_host(&mut self, id: NodeId, count: impl FnOnce(&mut Packets)) {
        if let Some(ledger) = self.ledgers.get_mut(&id) {
            count(&mut ledger.host.seen);
        }
    }

    /// The expected counters are unknown: they are read again.
    pub(in crate::sim) fn count_anew(&mut self, id: NodeId) {
        self.ledgers.remove(&id);
    }
}

impl World {
    /// Masters whose link is gone: they leave MASTER without a frame, and not always in the step that tells them of the
    /// link. Counts those that have left, and returns the others.
    pub(super) fn follow_without_link(&mut self, id: NodeId) -> Vec<Wire> {
        let now = self.now();
        let Some(node) = self.node(id) else { return Vec::new() };
        let Some(engine) = &node.engine else { return Vec::new() };
        let all = node.config.instances.iter();
        let linkless: Vec<&Instance> = all.filter(|i| wire_of(node, i).is_none()).collect();
        let find = |wire: &Wire| {
            let is_it = |i: &&&Instance| (i.family, i.vrid.get()) == (wire.1, wire.2);
            linkless.iter().find(is_it).and_then(|i| Some((i.name.clone(), engine.state(&i.name)?)))
        };
        let known = self.oracle.states.iter().filter(|((node, _), _)| *node == id);
        let masters = known.filter(|(_, (state, _))| *state == State::Master);
        let masters: Vec<_> = masters
            .filter_map(|((_, wire), _)| {
                find(wire).map(|(name, state)| (wire.clone(), name, state))
            })
            .collect();
        let mut waiting = Vec::new();
        for (wire, name, state) in masters {
            if state == State::Master {
                waiting.push(wire);
            } else {
                self.oracle.states.insert((id, wire), (state, now));
                self.oracle.count(id, &name, |c| c.released_master += 1);
            }
        }
        waiting
    }

    /// Compares the view of a host with the observations; in a settled cluster completely.
    pub(super) fn check_view(&mut self, id: NodeId, settled: bool) {
        let now = self.now();
        let ledger = self.oracle.ledgers.get(&id);
        if ledger.is_some_and(|ledger| now.since(ledger.at) < LOOK) {
            return;
        }
        let Some(node) = self.node(id) else { return };
        let Some(engine) = &node.engine else { return };
        let view = engine.view(now);
        let mut found = Vec::new();
        if let Some(ledger) = ledger {
            for instance in &view.instances {
                let Some(pair) = ledger.instances.get(&instance.name) else { continue };
                let all = fields(&pair.before).zip(fields(&pair.seen));
                for (((what, before), (_, seen)), (_, said)) in all.zip(fields(&instance.counters))
                {
                    if before + seen != said {
                        let name = &instance.name;
                        found.push(format!("{name} counts {said} ({what}), not {}", before + seen));
                    }
                }
            }
            let Pair { before, seen } = ledger.host;
            let unknown = before.unknown + seen.unknown;
            let malformed = before.malformed + seen.malformed;
            if (view.unknown_vrid, view.malformed) != (unknown, malformed) {
                let said = (view.unknown_vrid, view.malformed);
                found.push(format!(
                    "counts {said:?} packets of unknown routers, not {unknown} {malformed}"
                ));
            }
        }
        if settled {
            for (shown, config) in view.instances.iter().zip(&node.config.instances) {
                let name = &config.name;
                let all: BTreeSet<_> = (config.addresses.iter().chain(&config.excluded))
                    .map(|a| (&a.interface, a.prefix))
                    .collect();
                let sending = self.is_sending(id, config);
                let objects = all.len() + super::object::others(config, all.len());
                if shown.name != *name
                    || Some(shown.state) != engine.state(name)
                    || Some(shown.effective_priority) != engine.priority(name)
                    || (shown.priority, shown.vrid) != (config.priority.get(), config.vrid)
                    || shown.interface != config.interface
                    || shown.faults.is_empty() != self.is_fit(node, id, config)
                    || shown.objects_wanted != objects
                    || sending && shown.objects_present != objects
                    || sending && !shown.objects_missing.is_empty()
                    || shown.master.is_some() != (shown.state == State::Backup)
                {
                    found.push(format!("{name} is shown wrong: {shown:?}"));
                }
            }
            let names = node.config.instances.len();
            let groups =
                view.groups.iter().map(|g| &g.name).eq(node.config.groups.iter().map(|g| &g.name));
            if view.instances.len() != names || !groups {
                found.push("does not show its instances and groups".to_owned());
            }
            for (group, config) in view.groups.iter().zip(&node.config.groups) {
                let mut states = config.members.iter().filter_map(|m| engine.state(m));
                if !states.all(|state| state == group.state) {
                    found.push(format!("group {} is shown as {}", group.name, group.state));
                }
            }
            for script in &node.config.scripts {
                let is_it = |t: &&Tracker| t.kind == TrackerKind::Script && t.name == script.name;
                let shown = view.trackers.iter().find(is_it);
                let known = self.oracle.scripts.get(&(id, script.name.clone()));
                if shown.is_none_or(|s| known.is_some_and(|k| k.good.is_some() && s.good != k.good))
                {
                    found.push(format!("script {} is shown wrong", script.name));
                }
            }
        }
        let host = Packets { unknown: view.unknown_vrid, malformed: view.malformed };
        let read = |i: &crate::status::vrrp::Instance| {
            (i.name.clone(), Pair { before: i.counters, seen: Counters::default() })
        };
        let ledger = Ledger {
            at: now,
            instances: view.instances.iter().map(read).collect(),
            host: Pair { before: host, seen: Packets::default() },
        };
        self.oracle.ledgers.insert(id, ledger);
        for text in found {
            self.violated_by(id, &text);
        }
    }
}
