//! What must hold after every step, whatever happened.
//!
//! The oracle judges by the world: adverts and announcements on the wire, adverts delivered, addresses in the
//! kernels, notices given. It keeps a model of its own of when each router may and must take over. The engine is
//! asked for its state and priority only to compare them with that.
//!
//! | file | what must hold |
//! |---|---|
//! | `wire` | adverts sent: content, period, first and last one, answers, who yields; takeovers at the exact time |
//! | `hear` | adverts received: which are refused and why, and what follows from the others |
//! | `ah` | the numbers of IP authentication headers |
//! | `script` | tracking scripts: when they run, and what their results make of priorities |
//! | `count` | counters and the view of the engine are what was seen |
//! | `job` | nothing by itself: what a daemon does in several steps, to be judged as one |
//! | `host` | addresses and their announcements on each host, what a stopped daemon leaves |
//! | `object` | policy rules and packet filters on each host, and their order |
//! | `notice` | what scripts are told: order, once each, not before it is true |
//! | `cluster` | between hosts, once all is settled |

mod ah;
mod cluster;
mod count;
mod hear;
mod host;
mod job;
mod notice;
mod object;
mod script;
mod wire;

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::World;
use super::world::{Node, NodeId};
use crate::base::{Family, IfIndex, IfName, Instant, Name, Prefix};
use crate::model::{Address, Instance, Vrrp};
use crate::status::vrrp::State;

/// After the last disturbance everything has settled within this time: a refused address is tried again after
/// ten seconds at the latest, an election takes less than five.
const SETTLE: Duration = Duration::from_secs(20);
/// A router whose addresses were refused may hold back for so long after the last refusal before that.
const HELD_DOWN: Duration = Duration::from_secs(30);
/// How often a host and a settled cluster are looked at when nothing happens to them but adverts.
const LOOK: Duration = Duration::from_secs(1);

/// What identifies a virtual router on the wire: the segment, the family, the VRID.
type Wire = (IfName, Family, u8);

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
    /// When the daemon of a host was started, and whether it goes on for another process.
    started: BTreeMap<NodeId, (Instant, bool)>,
    /// When the kernel last refused something.
    refused: Option<Instant>,
    /// When each host was last looked at, and whether something has happened to it since.
    looked: BTreeMap<NodeId, (Instant, bool)>,
    /// The same for all of them together.
    compared: Option<(Instant, bool)>,
    routers: BTreeMap<(NodeId, Wire), wire::Router>,
    step: job::Step,
    /// Sequences of authenticated adverts: who sent which last.
    sequences: BTreeMap<(NodeId, Wire, IpAddr), u64>,
    /// And who took which last from whom, those heard last at the end: of so many senders as are remembered.
    heard: BTreeMap<(NodeId, Wire), Vec<(IpAddr, u64)>>,
    /// The last number of an IP authentication header that a router sent or took.
    ah: BTreeMap<(NodeId, Wire), ah::Last>,
    announcements: BTreeMap<(NodeId, IfIndex, IpAddr), host::Announcement>,
    states: BTreeMap<(NodeId, Wire), (State, Instant)>,
    /// What was announced last: host, kind and name.
    told: BTreeMap<(NodeId, String), notice::Told>,
    /// Groups that a reload made.
    made: BTreeSet<(NodeId, String)>,
    /// What was seen since the counters of a host were read.
    ledgers: BTreeMap<NodeId, count::Ledger>,
    scripts: BTreeMap<(NodeId, Name), script::Track>,
    /// When another program flushed packet filters.
    pub(super) flushed: BTreeMap<NodeId, Instant>,
    /// Addresses that another program removed.
    tugs: BTreeMap<(NodeId, IfIndex, Prefix), host::Tugs>,
    /// Routers that were master when their process was replaced.
    replaced: BTreeSet<(NodeId, Wire)>,
    /// What the hosts are doing that concerns everything.
    jobs: BTreeMap<NodeId, job::Job>,
    /// Hosts whose daemon goes on at once with what the result of a run leads to.
    ran_later: BTreeSet<NodeId>,
    violations: Vec<String>,
}

impl Oracle {
    /// What did not hold, in words; empty if all is well.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Something other than an advert happens to a host, or it does something else.
    pub(super) fn touched(&mut self, id: NodeId) {
        if let Some((_, touched)) = self.looked.get_mut(&id) {
            *touched = true;
        }
        if let Some((_, touched)) = &mut self.compared {
            *touched = true;
        }
    }

    /// A step of an engine begins; `timer`: because something is due.
    pub(super) const fn begin_step(&mut self, timer: bool) {
        self.step.timer = timer;
    }

    pub(super) fn disturbed(&mut self, now: Instant) {
        self.disturbed = Some(now);
    }

    pub(super) fn troubled(&mut self, id: NodeId, now: Instant) {
        self.troubled.insert(id, now);
        self.muddle(id);
    }

    pub(super) fn started(&mut self, id: NodeId, now: Instant, resume: bool, config: &Vrrp) {
        self.forget_scripts(id, config);
        self.started.insert(id, (now, resume));
        if !resume {
            self.told.retain(|(node, _), _| *node != id);
            self.made.retain(|(node, _)| *node != id);
            self.replaced.retain(|(node, _)| *node != id);
        }
    }

    pub(super) fn woke(&mut self, id: NodeId, now: Instant) {
        self.stalled.insert(id, now);
        self.muddle(id);
        for (_, router) in self.routers.iter_mut().filter(|((node, _), _)| *node == id) {
            router.held_up();
        }
    }

    /// A process is about to be replaced by another.
    pub(super) fn replaced(&mut self, id: NodeId) {
        let masters = self.routers.iter().filter(|((node, _), r)| *node == id && r.is_sending());
        self.replaced = masters.map(|(key, _)| key.clone()).collect();
    }

    /// The daemon of a host is gone: what it did before does not count any more.
    pub(super) fn forget(&mut self, id: NodeId) {
        self.count_anew(id);
        self.jobs.remove(&id);
        self.routers.retain(|(node, _), _| *node != id);
        self.sequences.retain(|(node, ..), _| *node != id);
        self.heard.retain(|(node, _), _| *node != id);
        self.ah.retain(|(node, _), _| *node != id);
        self.announcements.retain(|(node, ..), _| *node != id);
        self.states.retain(|(node, _), _| *node != id);
    }

    /// Adverts that a host could not send are not its fault.
    pub(super) fn forgive_gap(&mut self, id: NodeId) {
        for (_, router) in self.routers.iter_mut().filter(|((node, _), _)| *node == id) {
            router.forgive();
        }
    }

    /// Exact numbers of announcements are not to be had any more.
    pub(super) fn muddle(&mut self, id: NodeId) {
        for (_, a) in self.announcements.iter_mut().filter(|((node, ..), _)| *node == id) {
            a.muddle();
        }
    }

    fn begin_reload(
        &mut self,
        id: NodeId,
        now: Instant,
        (old_one, new): (&Arc<Vrrp>, &Vrrp),
        fit: &[bool],
    ) {
        let old: &Vrrp = old_one;
        self.reloaded.insert(id, now);
        self.muddle(id);
        self.count_anew(id);
        self.carry_notices(id, old, new);
        self.follow_intervals(id, new);
        // A router that moves leaves its addresses for a new election.
        let all = |config: &mut dyn Iterator<Item = &Instance>| -> BTreeSet<_> {
            let place = |i: &Instance, a: &Address| {
                let router = (i.interface.clone(), i.family, i.vrid, i.version);
                (router, a.interface.clone(), a.prefix)
            };
            let of = |i: &Instance| -> Vec<_> {
                i.addresses.iter().chain(&i.excluded).map(|a| place(i, a)).collect()
            };
            config.flat_map(of).collect()
        };
        // One that the new configuration keeps from taking part leaves its addresses, too.
        let new = new.instances.iter().zip(fit).filter(|(_, fit)| **fit).map(|(i, _)| i);
        let (old, new) = (all(&mut old.instances.iter()), all(&mut new.into_iter()));
        let places = old.intersection(&new).map(|(_, link, prefix)| (link.clone(), *prefix));
        let kept = places.collect();
        self.jobs.insert(id, job::Job::reload(now, Arc::clone(old_one), kept));
    }

    /// Routers may have other intervals from now on.
    fn follow_intervals(&mut self, id: NodeId, new: &Vrrp) {
        for ((_, wire), router) in self.routers.iter_mut().filter(|((node, _), _)| *node == id) {
            let named = |i: &&Instance| i.family == wire.1 && i.vrid.get() == wire.2;
            router.reloaded(new.instances.iter().filter(named).map(|i| i.advert_int).max());
        }
    }

    fn end_reload(&mut self, id: NodeId, new: &Vrrp) {
        let names: BTreeSet<String> = new
            .instances
            .iter()
            .map(|i| format!("INSTANCE {}", i.name))
            .chain(new.groups.iter().map(|g| format!("GROUP {}", g.name)))
            .collect();
        self.told.retain(|(node, name), _| *node != id || names.contains(name));
        self.made.retain(|(node, name)| *node != id || names.contains(name));
    }

    /// What an instance has announced it has also announced under another name; a group is its name.
    fn carry_notices(&mut self, id: NodeId, old: &Vrrp, new: &Vrrp) {
        let mut told = BTreeMap::new();
        for (before, after) in crate::model::diff::instances(old, new).kept {
            let names = old.instances.get(before).zip(new.instances.get(after));
            let Some((before, after)) = names else { continue };
            if let Some(last) = self.told.remove(&(id, format!("INSTANCE {}", before.name))) {
                told.insert((id, format!("INSTANCE {}", after.name)), last);
            }
        }
        for group in &new.groups {
            let key = (id, format!("GROUP {}", group.name));
            match self.told.remove(&key) {
                Some(last) => _ = told.insert(key, last),
                None => _ = self.made.insert(key),
            }
        }
        self.told.retain(|(node, _), _| *node != id);
        self.told.append(&mut told);
    }

    /// Another program removed an address.
    pub(super) fn tugged(&mut self, id: NodeId, link: IfIndex, prefix: Prefix, now: Instant) {
        self.tugs.entry((id, link, prefix)).or_default().removed(now);
    }
}

impl World {
    /// A host, which has its new configuration already, takes it over from the old one.
    pub(super) fn begin_reload(&mut self, id: NodeId, old: &Arc<Vrrp>, new: &Vrrp) {
        let now = self.now();
        self.oracle.carry_scripts(id, old, new);
        // Another virtual router begins with sequences of its own.
        let matching = crate::model::diff::instances(old, new);
        let place = |i: &Instance| (i.interface.clone(), i.family, i.vrid, i.version);
        let moved = matching.kept.iter().filter_map(|(before, after)| {
            let (before, after) = (old.instances.get(*before)?, new.instances.get(*after)?);
            (place(before) != place(after)).then_some(before)
        });
        let removed = matching.removed.iter().filter_map(|position| old.instances.get(*position));
        let gone: Vec<u8> = moved.chain(removed).map(|i| i.vrid.get()).collect();
        self.oracle.sequences.retain(|(node, wire, _), _| *node != id || !gone.contains(&wire.2));
        self.oracle.heard.retain(|(node, wire), _| *node != id || !gone.contains(&wire.2));
        let moves = matching.kept.iter().filter_map(|(before, after)| {
            let (before, after) = (old.instances.get(*before)?, new.instances.get(*after)?);
            (place(before) != place(after)).then_some(after.vrid.get())
        });
        let moves: Vec<u8> = moves.chain(gone.iter().copied()).collect();
        self.oracle.loosen_ah(id);
        for ((node, wire), last) in &mut self.oracle.ah {
            if *node == id && moves.contains(&wire.2) {
                (last.number, last.own) = (0, false);
            }
        }
        let fit = |instance: &Instance| {
            let group = self.group_of(id, &instance.name);
            let mut members = new.instances.iter().filter(|i| group.contains(&i.name));
            self.node(id).is_some_and(|node| members.all(|member| self.is_fit(node, id, member)))
        };
        let fit: Vec<bool> = new.instances.iter().map(fit).collect();
        self.oracle.begin_reload(id, now, (old, new), &fit);
    }

    /// What the oracle found so far.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        self.oracle.violations()
    }

    /// Whether nothing was disturbed for so long that all elections must be over.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let long_ago = |at: Option<Instant>, time| at.is_none_or(|at| self.now().since(at) >= time);
        long_ago(self.oracle.disturbed, SETTLE)
            && long_ago(self.oracle.refused, SETTLE + HELD_DOWN)
            && self.net.is_perfect()
            && self.nodes().filter_map(|id| self.node(id)).all(|node| {
                node.kernel.refusals == 0
                    && !node.kernel.refuses_joins
                    && node.kernel.impossible.is_empty()
                    && node.stalled_until.is_none()
                    && !node.is_occupied()
                    && node.runner_alive
                    && node.director.refusals == 0
            })
    }

    /// After something happened to a host. An advert that changes nothing is no reason to look at everything.
    pub(super) fn check(&mut self, id: NodeId) {
        if self.node(id).is_some_and(|n| n.is_occupied() || n.engine.is_some() && !n.started) {
            return;
        }
        let now = self.now();
        let is_due = |last: Option<(Instant, bool)>| {
            last.is_none_or(|(at, touched)| touched || now.since(at) >= LOOK)
        };
        self.check_waiting(id);
        if is_due(self.oracle.looked.get(&id).copied()) {
            self.oracle.looked.insert(id, (now, false));
            self.check_host(id);
            let settled = self.is_settled();
            if self.node(id).is_some_and(|n| n.events == 0 && n.stalled_until.is_none()) {
                self.check_view(id, settled);
            }
            self.check_director(id, settled);
            if settled && is_due(self.oracle.compared) {
                self.oracle.compared = Some((now, false));
                self.check_cluster();
            }
        }
    }

    pub(super) fn violated(&mut self, text: String) {
        // Once each: what is broken mostly stays so for many steps.
        if !self.oracle.violations.iter().any(|known| known.ends_with(&text)) {
            let text = format!("{}: {text}", self.now());
            self.oracle.violations.push(text);
        }
    }

    fn violated_by(&mut self, id: NodeId, text: &str) {
        self.violated(format!("node {}: {text}", id.0 + 1));
    }

    /// The instances of the group of one, itself included.
    fn group_of(&self, id: NodeId, name: &Name) -> Vec<Name> {
        self.node(id)
            .and_then(|node| node.config.groups.iter().find(|g| g.members.contains(name)))
            .map_or_else(|| vec![name.clone()], |group| group.members.clone())
    }

    fn is_sending(&self, id: NodeId, instance: &Instance) -> bool {
        self.node(id)
            .and_then(|node| wire_of(node, instance))
            .and_then(|wire| self.oracle.routers.get(&(id, wire)))
            .is_some_and(wire::Router::is_sending)
    }

    fn within(&self, map: &BTreeMap<NodeId, Instant>, id: NodeId, time: Duration) -> bool {
        map.get(&id).is_some_and(|at| self.now().since(*at) < time)
    }
}

/// The routers that a host has, with the segments they are on now.
fn routers_of<'a, 'c>(
    node: &'a Node,
    config: &'c Vrrp,
) -> impl Iterator<Item = (Wire, &'c Instance)> + use<'a, 'c> {
    config.instances.iter().filter_map(|i| Some((wire_of(node, i)?, i)))
}

/// The router that a host has on a wire.
fn instance_on<'a>(node: &Node, config: &'a Vrrp, wire: &Wire) -> Option<&'a Instance> {
    config.instances.iter().find(|i| {
        (i.family, i.vrid.get()) == (wire.1, wire.2)
            && node
                .link_named(&i.interface)
                .is_some_and(|link| node.kernel.segment_of(link.index) == Some(&wire.0))
    })
}

fn wire_of(node: &Node, instance: &Instance) -> Option<Wire> {
    let link = node.link_named(&instance.interface)?;
    let segment = node.kernel.segment_of(link.index)?.clone();
    Some((segment, instance.family, instance.vrid.get()))
}
