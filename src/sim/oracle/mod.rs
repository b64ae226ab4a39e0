//! The invariants of every step.
//!
//! The oracle judges by the world: adverts and announcements on the wire, delivered adverts, addresses in the kernels,
//! notices. It has its own model of when each router may and must take over, and of the priority that its configuration
//! and what it tracks give it. A router is master as long as it sends adverts, and the engine's word is only compared
//! with that. It counts where the world does not tell: while a host has not been told of a change or has not finished
//! with it, while a script has no result, for some time after refused calls, for an owner that took a virtual address
//! for its interface's, and before a router has begun.
//!
//! | file | invariants |
//! |---|---|
//! | `wire` | adverts sent: content, period, first and last one, answers, yielding |
//! | `takeover` | takeovers at the exact time, masters that fall silent |
//! | `hear` | adverts received: which are refused and why, and the effects of the others |
//! | `ah` | the numbers of IP authentication headers |
//! | `script` | tracking scripts: when they run, and the effects of their results on priorities |
//! | `count` | counters and the view of the engine match the observations |
//! | `job` | nothing by itself: groups what a daemon does in several steps, to judge it as one |
//! | `host` | addresses on each host, what a stopped daemon leaves |
//! | `announce` | their announcements on the segment |
//! | `object` | routes, policy rules and packet filters on each host, and their order |
//! | `notice` | notices to scripts: order, each once, not before they are true |
//! | `cluster` | between hosts, once everything is settled |

mod ah;
mod announce;
mod cluster;
mod count;
mod hear;
mod host;
mod job;
mod notice;
mod object;
mod script;
mod takeover;
mod wire;

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::World;
use super::world::{Node, NodeId};
use crate::base::{Family, IfIndex, IfName, Instant, Name, Prefix};
use crate::model::{Address, Instance, Vrrp};
use crate::plan::Identity;
use crate::status::vrrp::State;

/// After the last disturbance everything has settled within this time: a refused address is tried again after
/// ten seconds at the latest, an election takes less than five.
const SETTLE: Duration = Duration::from_secs(20);
/// A router whose addresses were refused may not take part for this long after the last refusal.
const HELD_DOWN: Duration = Duration::from_secs(30);
/// How often a host and a settled cluster are checked while only adverts are exchanged.
const LOOK: Duration = Duration::from_secs(1);

/// The identity of a virtual router on the wire: the segment, the family, the VRID.
type Wire = (IfName, Family, u8);

/// The state of the oracle, and the violations it found.
#[derive(Debug, Default)]
pub struct Oracle {
    disturbed: Option<Instant>,
    /// When an event last happened to a host that may make it silent, unable to receive, or better than others.
    troubled: BTreeMap<NodeId, Instant>,
    /// When a host last got a new configuration.
    reloaded: BTreeMap<NodeId, Instant>,
    /// When a host was last stalled.
    stalled: BTreeMap<NodeId, Instant>,
    /// When the daemon of a host was started, and whether it continues an earlier process.
    started: BTreeMap<NodeId, (Instant, bool)>,
    /// When the kernel last refused something.
    refused: Option<Instant>,
    /// Objects whose last removal the kernel of a host refused.
    kept_by_kernel: BTreeSet<(NodeId, Identity<IfIndex>)>,
    /// When each host was last checked, and whether something has happened to it since.
    looked: BTreeMap<NodeId, (Instant, bool)>,
    /// The same for all of them together.
    compared: Option<(Instant, bool)>,
    routers: BTreeMap<(NodeId, Wire), wire::Router>,
    step: job::Step,
    /// Sequences of authenticated adverts: the last one sent by each host.
    sequences: BTreeMap<(NodeId, Wire, IpAddr), u64>,
    /// And the last one accepted from each sender, the most recent sender last, limited to the number of remembered
    /// senders.
    heard: BTreeMap<(NodeId, Wire), Vec<(IpAddr, u64)>>,
    /// The last number of an IP authentication header that a router sent or took.
    ah: BTreeMap<(NodeId, Wire), ah::Last>,
    /// The highest number that a host has sent since its daemon was started, by whatever process.
    ah_sent: BTreeMap<(NodeId, Wire), u32>,
    announcements: BTreeMap<(NodeId, IfIndex, IpAddr), announce::Announcement>,
    states: BTreeMap<(NodeId, Wire), (State, Instant)>,
    /// The last announcements, by host, kind and name.
    told: BTreeMap<(NodeId, String), notice::Told>,
    owed: notice::Owed,
    /// Groups created by a reload.
    made: BTreeSet<(NodeId, String)>,
    /// Packets seen since the counters of a host were read.
    ledgers: BTreeMap<NodeId, count::Ledger>,
    scripts: BTreeMap<(NodeId, Name), script::Track>,
    /// When another program flushed packet filters, or a reload came while objects were added or removed: their order is
    /// not judged for a moment.
    pub(super) unordered: BTreeMap<NodeId, Instant>,
    /// Addresses that another program removed.
    tugs: BTreeMap<(NodeId, IfIndex, Prefix), host::Tugs>,
    /// Routers that were master when their process was replaced.
    replaced: BTreeSet<(NodeId, Wire)>,
    /// The current jobs of the hosts that concern everything.
    jobs: BTreeMap<NodeId, job::Job>,
    /// Hosts whose daemon processes the consequences of a script's result right after it.
    ran_later: BTreeSet<NodeId>,
    /// Hosts whose daemon has more to do at once.
    unfinished: BTreeSet<NodeId>,
    /// Routers that heard a better master and have not taken over since.
    better: BTreeSet<(NodeId, Wire)>,
    violations: Vec<String>,
}

impl Oracle {
    /// The violations, in words; empty if there are none.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Notes an event of a host other than an advert.
    pub(super) fn touched(&mut self, id: NodeId) {
        if let Some((_, touched)) = self.looked.get_mut(&id) {
            *touched = true;
        }
        if let Some((_, touched)) = &mut self.compared {
            *touched = true;
        }
    }

    /// A step of an engine begins; `timer`: because a timer is due.
    pub(super) const fn begin_step(&mut self, timer: bool) {
        self.step.timer = timer;
    }

    pub(super) fn disturbed(&mut self, now: Instant) {
        self.disturbed = Some(now);
    }

    pub(super) fn troubled(&mut self, id: NodeId, now: Instant) {
        self.troubled.insert(id, now);
        self.muddle(id, now);
    }

    pub(super) fn started(&mut self, id: NodeId, now: Instant, resume: bool, config: &Vrrp) {
        self.forget_scripts(id, config);
        if resume {
            // It knows what its predecessor had last told its supervisor, which may be older than the last result.
            self.lose_results(id);
        }
        self.started.insert(id, (now, resume));
        if !resume {
            self.told.retain(|(node, _), _| *node != id);
            self.made.retain(|(node, _)| *node != id);
            self.replaced.retain(|(node, _)| *node != id);
            self.ah_sent.retain(|(node, _), _| *node != id);
        }
    }

    pub(super) fn woke(&mut self, id: NodeId, now: Instant) {
        self.stalled.insert(id, now);
        self.muddle(id, now);
        self.owed.held_up(id);
        for (_, router) in self.routers.iter_mut().filter(|((node, _), _)| *node == id) {
            router.held_up(now);
        }
    }

    /// A process is about to be replaced.
    pub(super) fn replaced(&mut self, id: NodeId) {
        let masters = self.routers.iter().filter(|((node, _), r)| *node == id && r.is_sending());
        self.replaced = masters.map(|(key, _)| key.clone()).collect();
    }

    /// The daemon of a host is gone: its earlier actions do not count any more.
    pub(super) fn forget(&mut self, id: NodeId) {
        self.count_anew(id);
        self.owed.forget(id);
        self.better.retain(|(node, _)| *node != id);
        self.unfinished.remove(&id);
        self.jobs.remove(&id);
        self.routers.retain(|(node, _), _| *node != id);
        self.sequences.retain(|(node, ..), _| *node != id);
        self.heard.retain(|(node, _), _| *node != id);
        self.ah.retain(|(node, _), _| *node != id);
        self.announcements.retain(|(node, ..), _| *node != id);
        self.states.retain(|(node, _), _| *node != id);
    }

    /// Gaps due to adverts that a host could not send are not violations.
    pub(super) fn forgive_gap(&mut self, id: NodeId, now: Instant) {
        for (_, router) in self.routers.iter_mut().filter(|((node, _), _)| *node == id) {
            router.forgive(now);
        }
    }

    /// The exact number of announcements is not known any more.
    pub(super) fn muddle(&mut self, id: NodeId, now: Instant) {
        for (_, a) in self.announcements.iter_mut().filter(|((node, ..), _)| *node == id) {
            a.muddle(now);
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
        self.muddle(id, now);
        self.count_anew(id);
        self.carry_notices(id, old, new);
        self.owed.reloaded(id, new.instances.iter().map(|i| &i.name));
        self.follow_intervals(id, new);
        // A router that moves gives up its addresses for a new election.
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
        // One that the new configuration prevents from taking part gives up its addresses, too.
        let new = new.instances.iter().zip(fit).filter(|(_, fit)| **fit).map(|(i, _)| i);
        let (old, new) = (all(&mut old.instances.iter()), all(&mut new.into_iter()));
        let places = old.intersection(&new).map(|(_, link, prefix)| (link.clone(), *prefix));
        let kept = places.collect();
        self.jobs.insert(id, job::Job::reload(now, Arc::clone(old_one), kept));
    }

    /// Updates the intervals of routers, which may have changed.
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

    /// Announcements of an instance also count under its new name; a group is identified by its name.
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
    /// A host, which already has its new configuration, begins the reload from the old one.
    pub(super) fn begin_reload(&mut self, id: NodeId, old: &Arc<Vrrp>, new: &Vrrp) {
        let now = self.now();
        self.oracle.carry_scripts(id, old, new);
        // A different virtual router begins with its own sequences.
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
        self.oracle.ah_sent.retain(|(node, wire), _| *node != id || !moves.contains(&wire.2));
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

    /// The violations found so far.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        self.oracle.violations()
    }

    /// Whether the last disturbance is so long ago that all elections must be over.
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

    /// Checks a host after an event. An advert that changes nothing is no reason to check everything.
    pub(super) fn check(&mut self, id: NodeId) {
        let unfinished = self.oracle.unfinished.contains(&id);
        if self
            .node(id)
            .is_some_and(|n| n.is_occupied() || n.engine.is_some() && (!n.started || unfinished))
        {
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
        // Each once: a violation mostly persists for many steps.
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

    /// Whether an instance said farewell, or heard a better master, and its host has not finished what follows.
    fn is_leaving(&self, id: NodeId, instance: &Instance) -> bool {
        self.node(id)
            .and_then(|node| wire_of(node, instance))
            .and_then(|wire| self.oracle.routers.get(&(id, wire)))
            .is_some_and(wire::Router::is_leaving)
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
