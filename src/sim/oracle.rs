//! What must hold after every step, whatever happened.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::World;
use super::world::{Node, NodeId};
use crate::base::{Family, IfIndex, IfName, Instant, Name, Prefix};
use crate::model::Vrrp;
use crate::plan::{Op, Verb};
use crate::status::vrrp::State;
use crate::vrrp::accept;
use crate::wire::{ip, vrrp};

/// After the last disturbance everything has settled within this time: a refused address is tried again after
/// ten seconds at the latest, an election takes less than five.
const SETTLE: Duration = Duration::from_secs(20);
/// A new master announces its addresses within this time.
const ANNOUNCE: Duration = Duration::from_secs(1);
/// Adverts of a master may be this much apart beyond their interval.
const LATE: Duration = Duration::from_micros(1);

/// What identifies a virtual router on the wire.
type Wire = (IfName, Family, u8);

fn wire(instance: &crate::model::Instance) -> Wire {
    (instance.interface.clone(), instance.family, instance.vrid.get())
}

/// What the oracle remembers, and what it found.
#[derive(Debug, Default)]
pub struct Oracle {
    disturbed: Option<Instant>,
    /// When something last happened to a host that may make it silent, deaf or better than others.
    troubled: BTreeMap<NodeId, Instant>,
    /// When a host last got a new configuration.
    reloaded: BTreeMap<NodeId, Instant>,
    /// When a host was last stalled.
    stalled: BTreeMap<NodeId, Instant>,
    /// The last advert of each master and the interval it spoke of.
    adverts: BTreeMap<(NodeId, Wire), (Instant, Duration)>,
    garps: BTreeMap<(NodeId, IfIndex, IpAddr), Instant>,
    states: BTreeMap<(NodeId, Wire), (State, Instant)>,
    /// Addresses that the configuration has before and after the reload that is going on.
    kept: Option<BTreeSet<(IfName, Prefix)>>,
    violations: Vec<String>,
}

impl Oracle {
    /// What did not hold, in words; empty if all is well.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(super) fn disturbed(&mut self, now: Instant) {
        self.disturbed = Some(now);
    }

    pub(super) fn troubled(&mut self, id: NodeId, now: Instant) {
        self.troubled.insert(id, now);
    }

    pub(super) fn woke(&mut self, id: NodeId, now: Instant) {
        self.stalled.insert(id, now);
    }

    /// A host is off: what it did before does not count any more.
    pub(super) fn forget(&mut self, id: NodeId) {
        self.adverts.retain(|(node, ..), _| *node != id);
        self.garps.retain(|(node, ..), _| *node != id);
        self.states.retain(|(node, _), _| *node != id);
    }

    /// A host was stalled: adverts it did not send in that time are not its fault.
    pub(super) fn forgive_gap(&mut self, id: NodeId) {
        self.adverts.retain(|(node, ..), _| *node != id);
    }

    pub(super) fn begin_reload(&mut self, id: NodeId, now: Instant, old: &Vrrp, new: &Vrrp) {
        self.reloaded.insert(id, now);
        let all = |config: &Vrrp| -> BTreeSet<(IfName, Prefix)> {
            config
                .instances
                .iter()
                .flat_map(|i| i.addresses.iter().chain(&i.excluded))
                .map(|a| (a.interface.clone(), a.prefix))
                .collect()
        };
        self.kept = Some(all(old).intersection(&all(new)).cloned().collect());
    }

    pub(super) fn end_reload(&mut self) {
        self.kept = None;
    }

    pub(super) fn asked(&mut self, id: NodeId, ops: &[Op], now: Instant) {
        let Some(kept) = &self.kept else { return };
        for op in ops {
            if let (Verb::Delete { .. }, Some((_, address))) = (&op.verb, op.as_address())
                && kept.contains(&(address.interface.clone(), address.prefix))
            {
                self.violations.push(format!(
                    "{now}: node {} removes {} in a reload that keeps it",
                    id.0 + 1,
                    address.prefix
                ));
            }
        }
    }

    pub(super) fn saw_garp(&mut self, id: NodeId, link: IfIndex, address: IpAddr, now: Instant) {
        self.garps.insert((id, link, address), now);
    }

    /// Every advert on the wire is valid, and those of a master keep their period.
    pub(super) fn saw_advert(
        &mut self,
        id: NodeId,
        link: &IfName,
        source: IpAddr,
        destination: IpAddr,
        octets: &[u8],
        now: Instant,
    ) {
        let family = Family::of(&source);
        let payload = match family {
            Family::V4 => ip::decode(octets).ok().map(|(_, payload)| payload),
            Family::V6 => Some(octets),
        };
        let advert = payload.and_then(|p| vrrp::decode(p, family).ok().map(|a| (p, a)));
        let Some((payload, advert)) = advert else {
            self.violations.push(format!("{now}: node {} sends nonsense", id.0 + 1));
            return;
        };
        let pseudo = (advert.version == 3).then_some((source, destination));
        if !vrrp::checksum_holds(payload, pseudo) {
            self.violations.push(format!("{now}: node {} sends a wrong checksum", id.0 + 1));
        }
        let vrid = accept::vrid(payload).unwrap_or_default();
        let key = (id, (link.clone(), family, vrid));
        if advert.priority == 0 {
            self.adverts.remove(&key);
            return;
        }
        let Some((last, interval)) = self.adverts.insert(key, (now, advert.interval)) else {
            return;
        };
        // A reload may shorten the interval after more than the new one has passed; two of them may also
        // have lengthened it for a moment. Stories change it by a factor of two.
        let factor = if self.reloaded.get(&id).is_some_and(|at| *at >= last) { 2 } else { 1 };
        if now.since(last) > advert.interval.max(interval) * factor + LATE {
            self.violations.push(format!(
                "{now}: node {} missed an advert of VRID {vrid}: the last one was at {last}",
                id.0 + 1
            ));
        }
    }
}

impl World {
    /// What the oracle found so far.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        self.oracle.violations()
    }

    /// Whether nothing was disturbed for so long that all elections must be over.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.oracle.disturbed.is_none_or(|at| self.now().since(at) >= SETTLE)
            && self.net.is_perfect()
            && self.nodes().filter_map(|id| self.node(id)).all(|node| {
                node.kernel.refusals == 0
                    && node.kernel.impossible.is_empty()
                    && node.stalled_until.is_none()
                    && node.director.refusals == 0
            })
    }

    pub(super) fn check(&mut self) {
        let settled = self.is_settled();
        for id in self.nodes() {
            self.check_node(id);
            self.check_director(id, settled);
        }
        if settled {
            self.check_cluster();
        }
    }

    pub(super) fn violated(&mut self, text: String) {
        // Once each: what is broken mostly stays so for many steps.
        if !self.oracle.violations.iter().any(|known| known.ends_with(&text)) {
            let text = format!("{}: {text}", self.now());
            self.oracle.violations.push(text);
        }
    }

    /// Notes changes of state.
    pub(super) fn follow_states(&mut self, id: NodeId) {
        let Some(node) = self.node(id) else { return };
        let Some(engine) = &node.engine else { return };
        let mut changes = Vec::new();
        for instance in &node.config.instances {
            let Some(state) = engine.state(&instance.name) else { continue };
            let key = (id, wire(instance));
            if self.oracle.states.get(&key).map(|(state, _)| *state) != Some(state) {
                changes.push((key, state, instance.name.clone()));
            }
        }
        let now = self.now();
        for (key, state, name) in changes {
            if state == State::Master {
                self.check_takeover(id, &name, &key.1);
            } else {
                self.oracle.adverts.remove(&key);
            }
            self.oracle.states.insert(key, (state, now));
        }
    }

    /// A host becomes master. If another one has been master undisturbed and is at least as good, this is a
    /// false failover: the new master was stalled and did not hear what it had missed.
    fn check_takeover(&mut self, id: NodeId, name: &Name, wire: &Wire) {
        let now = self.now();
        let recent = |map: &BTreeMap<NodeId, Instant>, id: NodeId| {
            map.get(&id).is_some_and(|at| now.since(*at) < SETTLE)
        };
        if !self.net.is_perfect() || recent(&self.oracle.troubled, id) {
            return;
        }
        let rank = |id: NodeId| {
            let engine = self.engine(id)?;
            Some((engine.priority(name)?, engine.source(name)?))
        };
        let better = self.masters(name).into_iter().filter(|other| *other != id).any(|other| {
            let lasting = self
                .oracle
                .states
                .get(&(other, wire.clone()))
                .is_some_and(|(_, since)| now.since(*since) > SETTLE);
            let awake = self.node(other).is_some_and(|n| n.stalled_until.is_none());
            lasting
                && awake
                && !recent(&self.oracle.troubled, other)
                && !recent(&self.oracle.stalled, other)
                && rank(other) > rank(id)
        });
        if better {
            self.violated(format!("node {} takes {name} from a living master", id.0 + 1));
        }
    }

    /// What holds on each host alone, at every moment at which nothing is on its way.
    fn check_node(&mut self, id: NodeId) {
        let mut found = Vec::new();
        if let Some(node) = self.node(id)
            && let Some(engine) = &node.engine
            && node.stalled_until.is_none()
        {
            for group in &node.config.groups {
                let states: BTreeSet<State> =
                    group.members.iter().filter_map(|name| engine.state(name)).collect();
                // Only a member that a reload added may take a while to join a group of masters.
                let joining =
                    self.oracle.reloaded.get(&id).is_some_and(|at| self.now().since(*at) < SETTLE);
                if states.contains(&State::Master) && states.len() > 1 && !joining {
                    found.push(format!("group {} is split: {states:?}", group.name));
                }
            }
            let quiet = node.in_flight == 0 && node.events == 0 && node.kernel.refusals == 0;
            if quiet && node.kernel.impossible.is_empty() {
                self.check_addresses(node, engine, &mut found);
            }
            self.check_announcements(id, node, &mut found);
        }
        for text in found {
            self.violated(format!("node {}: {text}", id.0 + 1));
        }
    }

    fn check_addresses(&self, node: &Node, engine: &crate::vrrp::Engine, found: &mut Vec<String>) {
        let mut wanted: BTreeMap<(IfName, Prefix), bool> = BTreeMap::new();
        for instance in &node.config.instances {
            let holds = engine.holds_addresses(&instance.name);
            for address in instance.addresses.iter().chain(&instance.excluded) {
                *wanted.entry((address.interface.clone(), address.prefix)).or_default() |= holds;
            }
        }
        for ((name, prefix), wanted) in wanted {
            let Some(link) = node.kernel.link(&name) else { continue };
            if node.kernel.has(link.index, prefix) != wanted && !engine.is_retrying() {
                let there = if wanted { "missing" } else { "not to be there" };
                found.push(format!("{prefix} is {there} on {name}"));
            }
        }
    }

    /// A master announces its addresses.
    fn check_announcements(&self, id: NodeId, node: &Node, found: &mut Vec<String>) {
        for instance in &node.config.instances {
            let Some((State::Master, since)) =
                self.oracle.states.get(&(id, wire(instance))).copied()
            else {
                continue;
            };
            if self.now().since(since) < ANNOUNCE {
                continue;
            }
            for address in &instance.addresses {
                let Some(link) = node.kernel.link(&address.interface) else { continue };
                let key = (id, link.index, address.prefix.address);
                let there = node.kernel.has(link.index, address.prefix);
                let announced = self.oracle.garps.get(&key).is_some_and(|at| *at >= since);
                if there && link.up && !announced && node.in_flight == 0 {
                    found.push(format!("{} was not announced", address.prefix));
                }
            }
        }
    }

    /// What holds between hosts once all is settled.
    fn check_cluster(&mut self) {
        let mut routers: BTreeMap<Wire, Vec<(NodeId, Name)>> = BTreeMap::new();
        for id in self.nodes() {
            let Some(node) = self.node(id) else { continue };
            if node.engine.is_none() {
                continue;
            }
            for i in &node.config.instances {
                routers.entry(wire(i)).or_default().push((id, i.name.clone()));
            }
        }
        let mut found = Vec::new();
        for ((link, _, vrid), members) in routers {
            let fit: Vec<_> = members
                .iter()
                .filter(|(id, name)| {
                    self.state(*id, name).is_some_and(|s| !matches!(s, State::Fault | State::Init))
                })
                .collect();
            let masters: Vec<_> = fit
                .iter()
                .filter(|(id, name)| self.state(*id, name) == Some(State::Master))
                .collect();
            if masters.len() != usize::from(!fit.is_empty()) {
                found.push(format!("VRID {vrid} on {link} has {} masters", masters.len()));
                continue;
            }
            // Among equals whoever is master stays it (RFC 9568 6.4.2): only a lower priority is wrong.
            let rank = |id: NodeId, name: &Name| self.engine(id)?.priority(name);
            if let Some((master, name)) = masters.first() {
                let best = fit.iter().filter_map(|(id, name)| rank(*id, name)).max();
                if rank(*master, name) < best && !self.keeps_lower(&members) {
                    found.push(format!("VRID {vrid} on {link} is not held by the best router"));
                }
            }
        }
        for text in found {
            self.violated(text);
        }
    }

    /// Whether some router is told not to displace a master of lower priority, or not at once.
    fn keeps_lower(&self, members: &[(NodeId, Name)]) -> bool {
        members.iter().any(|(id, name)| {
            self.node(*id).is_some_and(|node| {
                node.config.instances.iter().any(|i| {
                    i.name == *name
                        && i.preempt != crate::model::vrrp::Preempt::After(Duration::ZERO)
                })
            })
        })
    }
}
