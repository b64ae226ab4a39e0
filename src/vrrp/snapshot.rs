//! Views of the engine for others.

use super::Engine;
use crate::base::Instant;
use crate::status::vrrp::{Group, Instance, InstanceSummary, Script, Summary, Vrrp};

impl Engine {
    /// What the supervisor keeps, so that a restarted role goes on where this one stopped.
    #[must_use]
    pub fn summary(&self, now: Instant) -> Summary {
        let instances = self
            .instances
            .iter()
            .map(|(_, i)| InstanceSummary {
                name: i.config.name.clone(),
                state: i.state(),
                announced: i.announced,
            })
            .collect();
        Summary { at: now, instances }
    }

    /// A full view.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Vrrp {
        let instances = self
            .config
            .instances
            .iter()
            .filter_map(|config| self.by_name.get(&config.name).and_then(|id| self.instance(*id)))
            .map(|i| Instance {
                name: i.config.name.clone(),
                interface: i.config.interface.clone(),
                vrid: i.config.vrid,
                state: i.state(),
                since: i.since,
                priority: i.config.priority.get(),
                effective_priority: i.priority,
                master: i.master.map(|(source, _)| source),
                faults: self.faults(i),
                addresses_set: i.entries.iter().filter(|e| self.addresses.is_present(**e)).count(),
                addresses_refused: i
                    .entries
                    .iter()
                    .filter_map(|e| self.addresses.entry(*e))
                    .filter_map(|e| Some((e.address.prefix.to_string(), e.refused?.errno)))
                    .collect(),
                counters: i.counters,
            })
            .collect();
        Vrrp {
            schema: 1,
            at: now,
            instances,
            groups: self
                .groups
                .iter()
                .map(|g| Group { name: g.config.name.clone(), state: g.state })
                .collect(),
            scripts: self
                .scripts
                .iter()
                .map(|(_, s)| Script { name: s.config.name.clone(), good: s.condition.good() })
                .collect(),
            unknown_vrid: self.unknown_vrid,
            malformed: self.malformed,
        }
    }
}
