//! Notices to scripts, FIFOs and mail recipients.

use core::time::Duration;

use crate::base::Name;
use crate::sim::World;
use crate::sim::world::NodeId;

/// A change of state waits for the kernel no longer than this.
const PATIENCE: Duration = Duration::from_secs(1);

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
        if state == "MASTER_RX_LOWER_PRI" {
            return;
        }
        let named = self.next_name(id, &Name::from(name));
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
        let engine = self.engine(id).and_then(|e| e.priority(name));
        if engine.is_some_and(|p| p.to_string() != priority) {
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
