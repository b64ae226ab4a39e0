//! Jobs that concern everything, which a daemon does in slices: the oracle judges the slices as one step, and adverts
//! sent between them by the previous or the new configuration.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::hear::{Flaw, content, without_trailer};
use super::{Oracle, Wire, instance_on};
use crate::base::{IfName, Instant, Name, Prefix};
use crate::model::{Instance, Vrrp};
use crate::sim::World;
use crate::sim::world::{Node, NodeId};
use crate::vrrp::Rx;
use crate::wire::vrrp;

/// The observations of the current step.
#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    /// Adverts sent, and whether with priority 0.
    pub sent: Vec<(Wire, bool)>,
    /// Number of adverts by destination.
    pub copies: BTreeMap<(Wire, IpAddr), u32>,
    /// An advert of a better router was delivered.
    pub better: bool,
    /// An advert was delivered to a host that has not been told of a change: it may have any effect.
    pub vague: bool,
    /// Masters must leave these wires.
    pub yields: BTreeSet<Wire>,
    /// Masters send one more advert here (`higher_prio_send_advert`).
    pub last: BTreeSet<Wire>,
    /// A master must answer here.
    pub answers: Option<Wire>,
    /// A packet that must be refused was delivered: it may have no effect.
    pub refused: bool,
    /// A script ended: priorities follow at once.
    pub ran: bool,
    /// A timer is due: regular adverts are sent before anything else.
    pub timer: bool,
}

impl Step {
    /// Adds the observations of another step.
    pub fn merge(&mut self, other: Self) {
        self.sent.extend(other.sent);
        for (to, count) in other.copies {
            *self.copies.entry(to).or_default() += count;
        }
        self.better |= other.better;
        self.vague |= other.vague;
        self.yields.extend(other.yields);
        self.last.extend(other.last);
        self.answers = self.answers.take().or(other.answers);
        self.refused |= other.refused;
        self.ran |= other.ran;
        self.timer |= other.timer;
    }
}

/// The current job.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// When it began.
    since: Instant,
    /// The observations of its slices.
    step: Step,
    reload: Option<Reloading>,
}

/// A reload.
#[derive(Clone, Debug)]
struct Reloading {
    /// The previous configuration.
    old: Arc<Vrrp>,
    /// The addresses that are in both configurations.
    kept: BTreeSet<(IfName, Prefix)>,
}

impl Job {
    pub fn reload(since: Instant, old: Arc<Vrrp>, kept: BTreeSet<(IfName, Prefix)>) -> Self {
        Self { since, step: Step::default(), reload: Some(Reloading { old, kept }) }
    }
}

impl Oracle {
    /// A slice has ended, and others follow.
    pub(in crate::sim) fn put_off(&mut self, id: NodeId, now: Instant) {
        let step = core::mem::take(&mut self.step);
        let job = Job { since: now, step: Step::default(), reload: None };
        self.jobs.entry(id).or_insert(job).step.merge(step);
    }

    /// An event arrives before a host has finished its job: it may be the reason for what the host removes from then
    /// on.
    pub(in crate::sim) fn cut_short(&mut self, id: NodeId) {
        if let Some(reload) = self.jobs.get_mut(&id).and_then(|job| job.reload.as_mut()) {
            reload.kept.clear();
        }
    }

    /// The configuration that a host is replacing.
    pub(super) fn old_config(&self, id: NodeId) -> Option<&Arc<Vrrp>> {
        self.jobs.get(&id).and_then(|job| job.reload.as_ref()).map(|reload| &reload.old)
    }

    /// Whether a host is applying a configuration that keeps this address.
    pub(super) fn keeps(&self, id: NodeId, place: &(IfName, Prefix)) -> bool {
        let reload = self.jobs.get(&id).and_then(|job| job.reload.as_ref());
        reload.is_some_and(|reload| reload.kept.contains(place))
    }
}

impl World {
    /// After a step, or after the last slice of a job.
    pub(in crate::sim) fn judge_end_of_step(&mut self, id: NodeId) {
        let now = self.now();
        let Some(job) = self.oracle.jobs.get_mut(&id) else { return self.judge_step(id, now) };
        let (since, mut step) = (job.since, core::mem::take(&mut job.step));
        let reloads = job.reload.is_some();
        // In this order: a router that says farewell in one slice may be another one in the next.
        step.merge(core::mem::take(&mut self.oracle.step));
        self.oracle.step = step;
        let config = self.node(id).map(|node| Arc::clone(&node.config)).unwrap_or_default();
        if since < now {
            // Timeouts of the master were not evaluated during the job.
            for (_, router) in self.oracle.routers.iter_mut().filter(|((node, _), _)| *node == id) {
                router.held_up_until(now);
            }
            if reloads {
                self.oracle.follow_intervals(id, &config);
            }
        }
        self.judge_step(id, since);
        self.oracle.jobs.remove(&id);
        if reloads {
            self.oracle.end_reload(id, &config);
        }
    }

    /// The configuration by which an advert of a host is judged: during a reload the previous one, if the advert fits
    /// that.
    pub(super) fn config_of_advert(
        &self,
        node: &Node,
        id: NodeId,
        (wire, rx): (&Wire, &Rx),
        payload: &[u8],
    ) -> Arc<Vrrp> {
        let old = self.oracle.old_config(id);
        let of_old = |old: &&Arc<Vrrp>| {
            instance_on(node, old, wire).is_some_and(|instance| fits(instance, rx, payload))
        };
        Arc::clone(old.filter(of_old).unwrap_or(&node.config))
    }

    /// The name by which the oracle knows an instance, which the reload may be about to rename.
    pub(super) fn next_name(&self, id: NodeId, name: &Name) -> Name {
        let Some((node, old)) = self.node(id).zip(self.oracle.old_config(id)) else {
            return name.clone();
        };
        if node.config.instances.iter().any(|i| i.name == *name) {
            return name.clone();
        }
        let all = crate::model::diff::instances(old, &node.config).kept;
        let position = old.instances.iter().position(|i| i.name == *name);
        let after = all.into_iter().find(|(before, _)| Some(*before) == position);
        let after = after.and_then(|(_, after)| node.config.instances.get(after));
        after.map_or_else(|| name.clone(), |instance| instance.name.clone())
    }
}

/// Whether an advert matches an instance, regardless of its priority.
fn fits(instance: &Instance, rx: &Rx, payload: &[u8]) -> bool {
    let ours: Vec<IpAddr> = instance.addresses.iter().map(|a| a.prefix.address).collect();
    let advert = without_trailer(instance, payload);
    let goes = match instance.unicast() {
        Some(unicast) => unicast.peers.iter().any(|peer| peer.address == rx.destination),
        None => instance.destination == rx.destination,
    };
    goes && content(instance, rx, payload, (None, None)).is_none_or(|flaw| flaw == Flaw::Owner)
        && vrrp::decode(advert, instance.family).is_ok_and(|advert| {
            advert.interval == instance.advert_int && advert.addresses().eq(ours)
        })
}
