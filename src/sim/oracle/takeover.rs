//! Takeovers and their absence: a backup becomes master at the exact time, a master does not fall silent.

use core::time::Duration;

use super::{SETTLE, Wire, routers_of, wire_of};
use crate::base::Name;
use crate::model::Instance;
use crate::model::vrrp::{InitialState, Priority};
use crate::sim::World;
use crate::sim::world::NodeId;
use crate::status::vrrp::State;

/// Whether a router need not wait when it starts (RFC 9568 6.4.1).
fn is_owner(instance: &Instance) -> bool {
    instance.priority == Priority::OWNER && instance.state == InitialState::Master
}

impl World {
    /// Whether the start of a daemon is so recent that `vrrp_startup_delay` is not over.
    pub(super) fn is_starting(&self, id: NodeId) -> bool {
        let delay = self.node(id).map_or(Duration::ZERO, |node| node.config.startup_delay);
        self.oracle.started.get(&id).is_some_and(|(at, _)| self.now() < *at + delay)
    }

    /// The first advert of a master: neither before its time nor after it.
    pub(super) fn judge_takeover(&mut self, id: NodeId, wire: &Wire, instance: &Instance) {
        let now = self.now();
        let key = (id, wire.clone());
        self.oracle.better.remove(&key);
        let before = self.oracle.states.get(&key).map_or(State::Init, |(state, _)| *state);
        let name = &instance.name;
        let since = self.oracle.started.get(&id).map(|(at, resume)| (now.since(*at), *resume));
        // As long as no master-down timer can have expired; results of scripts may be needed first.
        let resumed = since.is_some_and(|(age, resume)| resume && age < instance.advert_int * 2);
        if before == State::Init && resumed {
            let group = self.group_of(id, name);
            let had = |name: &Name| {
                self.node(id)
                    .into_iter()
                    .flat_map(|node| routers_of(node, &node.config))
                    .any(|(w, i)| i.name == *name && self.oracle.replaced.contains(&(id, w)))
            };
            if !group.iter().all(had) && !is_owner(instance) {
                self.violated_by(id, &format!("{name} goes on as the master it was not"));
            }
            return;
        }
        if self.is_starting(id) {
            self.violated_by(
                id,
                &format!("{name} becomes master before the startup delay is over"),
            );
        }
        if before != State::Backup {
            if !is_owner(instance) && self.group_of(id, name).len() == 1 {
                self.violated_by(id, &format!("{name} becomes master without waiting"));
            }
            return;
        }
        let due = self.oracle.routers.get_mut(&key).and_then(|router| router.due.take());
        if let Some(due) = due {
            if now < due.from {
                let text = format!("{name} takes over before its time, which is {}", due.from);
                self.violated_by(id, &text);
            }
            if now > due.at && due.exact && self.group_of(id, name).len() == 1 {
                let text = format!("{name} takes over late, its time was {}", due.at);
                self.violated_by(id, &text);
            }
        }
        self.judge_failover(id, name, wire);
    }

    /// A host becomes master. If another one has been master undisturbed and is at least as good, this is a false
    /// failover: the new master was stalled and did not process what it had missed.
    fn judge_failover(&mut self, id: NodeId, name: &Name, wire: &Wire) {
        let now = self.now();
        if !self.net.is_perfect() || self.within(&self.oracle.troubled, id, SETTLE) {
            return;
        }
        let rank = |id: NodeId| {
            let mut all = self.node(id)?.config.instances.iter();
            let instance = all.find(|i| i.name == *name)?;
            Some((self.judged_priority(id, instance)?, self.judged_source(id, instance)?))
        };
        let better = self.nodes().filter(|other| *other != id).any(|other| {
            let state = self.oracle.states.get(&(other, wire.clone()));
            let lasting =
                state.is_some_and(|(state, at)| *state == State::Master && now.since(*at) > SETTLE);
            let awake = self.node(other).is_some_and(|n| n.stalled_until.is_none());
            lasting
                && awake
                && !self.within(&self.oracle.troubled, other, SETTLE)
                && !self.within(&self.oracle.stalled, other, SETTLE)
                && rank(other) > rank(id)
        });
        if better {
            self.violated_by(id, &format!("{name} is taken from a living master"));
        }
    }

    /// A master that has not said farewell goes on sending.
    fn check_silence(&mut self, id: NodeId) {
        let now = self.now();
        let Some(node) = self.node(id) else { return };
        let routers = self.oracle.routers.iter().filter(|((node, _), _)| *node == id);
        let silent: Vec<u8> = routers
            .filter(|(_, router)| {
                router.sending.is_some_and(|sending| {
                    now > sending.since + sending.longest
                        && node.kernel.link_at(sending.link).is_some_and(|link| link.up)
                })
            })
            .map(|((_, wire), _)| wire.2)
            .collect();
        for vrid in silent {
            self.violated_by(id, &format!("VRID {vrid} is silent and said no farewell"));
        }
    }

    /// A backup whose time is over has taken over.
    pub(super) fn check_waiting(&mut self, id: NodeId) {
        let now = self.now();
        let Some(node) = self.node(id) else { return };
        if node.engine.is_none() || node.stalled_until.is_some() || node.events > 0 {
            return;
        }
        self.check_silence(id);
        let Some(node) = self.node(id) else { return };
        let late: Vec<Name> = node
            .config
            .instances
            .iter()
            .filter(|i| {
                let router = wire_of(node, i).and_then(|w| self.oracle.routers.get(&(id, w)));
                router.is_some_and(|r| {
                    r.sending.is_none() && r.due.is_some_and(|due| due.exact && due.at < now)
                })
            })
            .map(|i| i.name.clone())
            .filter(|name| self.group_of(id, name).len() == 1)
            .collect();
        for name in late {
            self.violated_by(id, &format!("{name} does not take over"));
        }
    }
}
