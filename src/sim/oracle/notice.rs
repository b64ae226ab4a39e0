//! Notices to scripts, FIFOs and mail recipients.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::base::{Instant, Name};
use crate::sim::World;
use crate::sim::world::NodeId;

/// A change of state waits for the kernel no longer than this.
const PATIENCE: Duration = Duration::from_secs(1);

/// A notice of a new state comes within this time: after [`PATIENCE`], and the slices of other work.
const OWED: Duration = Duration::from_millis(1_100);

/// A notice of a master of lower priority comes within this time: they are limited to one each tenth of a second.
const OWED_LOWER: Duration = Duration::from_millis(150);

/// Notices that have to come.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// Instances and groups whose last notice differs from what is sent, and since when. A pair of changes within
    /// [`PATIENCE`] may be merged: the engine announces a state once the kernel has answered, and none that is over by
    /// then.
    states: BTreeMap<(NodeId, String), Instant>,
    /// Masters that heard one of lower priority since their last notice of that, and since when; none if it is not
    /// known whether they heard it as master.
    lower: BTreeMap<(NodeId, Name), Option<Instant>>,
}

impl Owed {
    /// The process was not run: everything may be late.
    pub fn held_up(&mut self, id: NodeId) {
        self.states.retain(|(node, _), _| *node != id);
        self.lower.iter_mut().filter(|((node, _), _)| *node == id).for_each(|(_, at)| *at = None);
    }

    pub fn forget(&mut self, id: NodeId) {
        self.states.retain(|(node, _), _| *node != id);
        self.lower.retain(|(node, _), _| *node != id);
    }

    /// A reload may rename an instance before it announces what it heard.
    pub fn reloaded<'a>(&mut self, id: NodeId, names: impl Iterator<Item = &'a Name>) {
        self.forget(id);
        self.lower.extend(names.map(|name| ((id, name.clone()), None)));
    }

    /// A router heard one of lower priority, or may have heard it as master if `at` is none.
    pub fn heard_lower(&mut self, id: NodeId, name: &Name, at: Option<Instant>) {
        let known = self.lower.entry((id, name.clone())).or_insert(at);
        *known = known.or(at);
    }

    /// A router is not master any more: what it heard as master does not matter.
    pub fn left(&mut self, id: NodeId, name: &Name) {
        self.lower.remove(&(id, name.clone()));
    }
}

/// The last notice of an instance or a group.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub state: String,
}

impl World {
    /// A notice of the VRRP engine: `INSTANCE "VRRP1" MASTER 200`.
    pub(in crate::sim) fn judge_notice(&mut self, id: NodeId, line: &str) {
        let mut parts = line.split('"');
        let (Some(kind), Some(name), Some(rest)) = (parts.next(), parts.next(), parts.next())
        else {
            return self.violated_by(id, &format!("announces nonsense: {line}"));
        };
        let mut rest = rest.split_whitespace();
        let (Some(state), Some(priority)) = (rest.next(), rest.next()) else {
            return self.violated_by(id, &format!("announces nonsense: {line}"));
        };
        let named = self.next_name(id, &Name::from(name));
        if state == "MASTER_RX_LOWER_PRI" {
            let heard = self.oracle.owed.lower.remove(&(id, named.clone()));
            let old = self.oracle.owed.lower.remove(&(id, Name::from(name)));
            // What arrives on a link that is gone belongs to no router.
            let told = self.node(id).is_some_and(|node| node.events == 0);
            if told && heard.is_none() && old.is_none() {
                self.violated_by(id, &format!("announces {line} but heard none"));
            }
            return;
        }
        let key = (
            id,
            if kind.starts_with("GROUP") {
                format!("{kind}{name}")
            } else {
                format!("{kind}{named}")
            },
        );
        let told = Told { state: state.to_owned() };
        let before = self.oracle.told.insert(key, told);
        if before.is_some_and(|before| before.state == state) {
            self.violated_by(id, &format!("announces {line} twice"));
        }
        if kind.starts_with("GROUP") {
            self.judge_group_notice(id, name, state);
            return;
        }
        let Some(node) = self.node(id) else { return };
        let Some(instance) = node.config.instances.iter().find(|i| *i.name == *name).cloned()
        else {
            return;
        };
        let own = self.own_priority(id, &instance);
        if own.is_some_and(|p| p.to_string() != priority) {
            self.violated_by(id, &format!("announces {line}, a wrong priority"));
        }
        let Some(node) = self.node(id) else { return };
        let key = super::wire_of(node, &instance).map(|wire| (id, wire));
        let quiet =
            node.events == 0 && node.kernel.refusals == 0 && node.kernel.impossible.is_empty();
        let sending = self.is_sending(id, &instance);
        if quiet && state == "MASTER" {
            if !sending {
                self.violated_by(id, &format!("announces {line} without being master"));
            }
            let since = key.and_then(|key| self.oracle.states.get(&key)).map(|(_, at)| *at);
            let waited = since.is_some_and(|at| self.now().since(at) >= PATIENCE)
                || self
                    .oracle
                    .refused
                    .is_some_and(|at| self.now().since(at) < Duration::from_secs(12));
            let missing = self.node(id).is_some_and(|node| {
                instance.addresses.iter().chain(&instance.excluded).any(|a| {
                    let link = node.link_named(&a.interface);
                    link.is_some_and(|link| !node.kernel.has(link.index, a.prefix))
                })
            });
            if missing && !waited {
                self.violated_by(id, &format!("announces {line} before its addresses are there"));
            }
        }
    }

    /// A group is announced after its members.
    fn judge_group_notice(&mut self, id: NodeId, name: &str, state: &str) {
        let Some(node) = self.node(id) else { return };
        let Some(group) = node.config.groups.iter().find(|g| *g.name == *name) else { return };
        let members: Vec<Name> = group.members.clone();
        let same = |member: &Name| {
            let told = self.oracle.told.get(&(id, format!("INSTANCE {member}")));
            told.is_none_or(|told| told.state == state)
        };
        if !members.iter().all(same) {
            self.violated_by(id, &format!("announces {state} for group {name} before its members"));
        }
    }

    /// Every state on the wire is announced, and that a master heard one of lower priority.
    pub(super) fn check_notices(&mut self, id: NodeId) {
        let now = self.now();
        let Some(node) = self.node(id) else { return };
        let said = |kind: &str| {
            let told = self.oracle.told.get(&(id, kind.to_owned()));
            told.is_some_and(|told| told.state == "MASTER")
        };
        let mut differ = BTreeMap::new();
        for instance in &node.config.instances {
            let (kind, sending) =
                (format!("INSTANCE {}", instance.name), self.is_sending(id, instance));
            if said(&kind) != sending {
                differ.insert(kind, if sending { "became" } else { "is no longer" });
            }
        }
        for group in &node.config.groups {
            let kind = format!("GROUP {}", group.name);
            let members =
                || node.config.instances.iter().filter(|i| group.members.contains(&i.name));
            let all = members().all(|i| self.is_sending(id, i));
            let any = members().any(|i| self.is_sending(id, i));
            // A group that a reload made has the state of its members.
            let made = self.oracle.made.contains(&(id, kind.clone()))
                && !self.oracle.told.contains_key(&(id, kind.clone()));
            if said(&kind) {
                if !any {
                    differ.insert(kind, "is no longer");
                }
            } else if all && !made {
                differ.insert(kind, "became");
            }
        }
        let lower = self.oracle.owed.lower.iter().filter(|((node, _), _)| *node == id);
        let lower = lower.filter(|(_, at)| at.is_some_and(|at| now.since(at) > OWED_LOWER));
        let masters = lower.filter(|((_, name), _)| {
            let all = &node.config.instances;
            all.iter().any(|i| {
                i.name == *name && i.notify.master_rx_lower_pri.is_some() && self.is_sending(id, i)
            })
        });
        let mut found: Vec<String> = masters
            .map(|((_, name), _)| format!("{name} heard a lower priority and announced nothing"))
            .collect();
        let states = &mut self.oracle.owed.states;
        states.retain(|(node, kind), _| *node != id || differ.contains_key(kind));
        for (kind, what) in differ {
            let since = *states.entry((id, kind.clone())).or_insert(now);
            if now.since(since) > OWED {
                found.push(format!("{kind} {what} master and announced nothing"));
            }
        }
        for text in found {
            self.violated_by(id, &text);
        }
    }

    /// The last notice of every instance and group reports that it stopped.
    pub(super) fn judge_last_notices(&mut self, id: NodeId) {
        let wrong: Vec<String> = self
            .oracle
            .told
            .iter()
            .filter(|((node, _), told)| *node == id && told.state != "STOP")
            .map(|((_, kind), told)| format!("{kind} {}", told.state))
            .collect();
        for text in wrong {
            self.violated_by(id, &format!("stops, but announced last: {text}"));
        }
    }
}
