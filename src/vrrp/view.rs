//! Views of the engine for readers, and summaries for the next process of the role.

use super::Engine;
use crate::base::Instant;
use crate::plan::{ObjectId, Waits};
use crate::status::vrrp::{
    Group, GroupSummary, Instance, InstanceSummary, Missing, MissingObject, State, Summary, Vrrp,
};

impl Engine {
    /// What the supervisor stores, so that a restarted role continues where this one stopped; in one piece.
    #[must_use]
    pub fn summary(&self, now: Instant) -> Summary {
        self.summary_part(now, 0, usize::MAX).0
    }

    /// A part of the summary: at most `count` objects (instances, groups, trackers, in this order) after the first
    /// `skip` of them; and whether there are more. The names of interfaces are in the first part.
    #[must_use]
    pub fn summary_part(&self, now: Instant, skip: usize, count: usize) -> (Summary, bool) {
        let (own, time) = (self.instances.iter().count(), self.time_of_day(now));
        let instances: Vec<InstanceSummary> = self
            .instances
            .iter()
            .skip(skip)
            .take(count)
            .map(|i| InstanceSummary {
                name: i.config.name.clone(),
                state: i.state(),
                announced: i.announced,
                own: i.entries.iter().filter_map(|e| self.objects.own(*e)).collect(),
                ah: i.sequences.report(now, time),
                heard: i.sequences.heard().to_vec(),
            })
            .collect();
        let groups = self
            .groups
            .iter()
            .skip(skip.saturating_sub(own))
            .take(count.saturating_sub(own.saturating_sub(skip)))
            .map(|g| GroupSummary { name: g.config.name.clone(), announced: g.announced })
            .collect();
        let interfaces = if skip == 0 { self.meanings() } else { Vec::new() };
        let before = own + self.groups.len();
        let trackers = self
            .view_of_trackers()
            .skip(skip.saturating_sub(before))
            .take(count.saturating_sub(before.saturating_sub(skip)))
            .collect();
        let more = skip.saturating_add(count) < before + self.tracked_by_name();
        let settings = if skip == 0 { self.settings_before() } else { Vec::new() };
        (
            Summary { at: now, instances, groups, trackers, interfaces, settings, reports: None },
            more,
        )
    }

    /// A full view, in one piece: for tests and for the end of a process. A thread that must not be delayed takes parts
    /// by [`Self::part_of_view`].
    #[must_use]
    pub fn view(&self, now: Instant) -> Vrrp {
        self.part_of_view(now, 0, usize::MAX).0
    }

    /// A part of the view: at most `count` objects (instances, groups, trackers, in this order) after the first
    /// `skip` of them; and whether there are more behind these. [`Vrrp::joined`] puts parts together.
    #[must_use]
    pub fn part_of_view(&self, now: Instant, skip: usize, count: usize) -> (Vrrp, bool) {
        let config = &self.config.instances;
        let (own, groups) = (config.len(), self.groups.len());
        let total = own + groups + self.tracked_by_name();
        let end = skip.saturating_add(count).min(total);
        // The objects of a list that starts at this position of all objects.
        let some = |begin: usize, length: usize| {
            let first = skip.saturating_sub(begin).min(length);
            let behind = end.saturating_sub(begin).min(length);
            (first, behind.saturating_sub(first))
        };
        let (first, length) = some(0, own);
        let instances = config
            .iter()
            .skip(first)
            .take(length)
            .filter_map(|config| self.named(&config.name))
            .map(|instance| self.view_of(instance))
            .collect();
        let (first, length) = some(own + groups, self.tracked_by_name());
        let trackers = self.view_of_trackers().skip(first).take(length).collect();
        let (first, length) = some(own, groups);
        let groups = (self.groups.iter().skip(first).take(length))
            .map(|g| Group { name: g.config.name.clone(), state: g.state })
            .collect();
        let (unknown_vrid, malformed) = (self.unknown_vrid, self.malformed);
        (
            Vrrp { schema: 1, at: now, instances, groups, trackers, unknown_vrid, malformed },
            end < total,
        )
    }

    fn view_of(&self, i: &super::Instance) -> Instance {
        Instance {
            name: i.config.name.clone(),
            interface: i.config.interface.clone(),
            vrid: i.config.vrid,
            state: i.state(),
            since: i.since,
            priority: i.config.priority.get(),
            effective_priority: i.effective_priority,
            master: i.master.map(|(source, _)| source),
            faults: self.faults(i),
            objects_wanted: i.entries.len(),
            objects_present: i.entries.iter().filter(|e| self.objects.is_present(**e)).count(),
            objects_missing: i.entries.iter().filter_map(|e| self.missing(i, *e)).collect(),
            counters: i.counters,
        }
    }
}

impl Engine {
    /// Why an object of an instance is not as wanted: the kernel refuses it, or something it needs is missing.
    fn missing(&self, instance: &super::Instance, id: ObjectId) -> Option<MissingObject> {
        let entry = self.objects.entry(id)?;
        let reason = match (entry.refused, self.objects.waits(id)) {
            (
                Some(refused),
                None
                | Some(Waits::Interface(_) | Waits::Vrf(_) | Waits::Address(_) | Waits::Removal(_)),
            ) => Missing::Refused {
                errno: refused.errno,
                attempts: refused.attempts,
                retry_at: refused.retry_at,
            },
            (_, Some(waits)) if instance.is_master() => match waits {
                Waits::Interface(name) => Missing::NoInterface(name),
                Waits::Vrf(name) => Missing::NoVrf(name),
                Waits::Address(address) => Missing::NoAddress(address),
                // Interfaces are not among the objects of an instance.
                Waits::Removal(_) => return None,
                Waits::FilterTable(table, entry) => Missing::NoTable {
                    table: table.to_string(),
                    errno: self.objects.entry(entry).and_then(|e| e.refused).map_or(0, |r| r.errno),
                },
            },
            _ => return None,
        };
        Some(MissingObject { object: entry.object.to_string(), reason })
    }
}

/// Accessors for tests and the simulator.
impl Engine {
    /// Number of steps that panicked: each is a defect.
    #[must_use]
    pub const fn failures(&self) -> u64 {
        self.failures
    }

    /// The state of an instance.
    #[must_use]
    pub fn state(&self, name: &str) -> Option<State> {
        self.named(name).map(super::Instance::state)
    }

    /// The effective priority of an instance.
    #[must_use]
    pub fn priority(&self, name: &str) -> Option<u8> {
        self.named(name).map(|i| i.effective_priority)
    }

    /// The source of the adverts of an instance.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<core::net::IpAddr> {
        self.named(name).and_then(|i| i.source)
    }

    /// Whether an instance wants its addresses on their interfaces.
    #[must_use]
    pub fn holds_addresses(&self, name: &str) -> bool {
        self.named(name).is_some_and(super::Instance::holds_addresses)
    }

    fn named(&self, name: &str) -> Option<&super::Instance> {
        self.instances.named(name).and_then(|id| self.instance(id))
    }
}
