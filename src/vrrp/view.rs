//! Views of the engine for readers, and summaries for the next process of the role.

use super::Engine;
use crate::base::{IfName, Instant};
use crate::plan::{ObjectId, Waits};
use crate::status::vrrp::{
    Group, GroupSummary, Instance, InstanceSummary, Missing, MissingObject, State, Summary, Vrrp,
};

/// Objects of instances that a part looks at, for each object that it may show.
const ENTRIES: usize = 8;

/// Where a part of a view begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Number of instances, groups and trackers before it.
    object: usize,
    /// The same for the kernel objects of the instance at which it begins: those of one may fill several parts.
    entry: usize,
}

impl Position {
    /// Number of objects before it.
    pub(super) const fn object(self) -> usize {
        self.object
    }

    /// The position this many objects later, if there are more in all.
    pub(super) fn after(self, shown: usize, all: usize) -> Option<Self> {
        let object = self.object.saturating_add(shown);
        (object < all).then_some(Self { object, entry: 0 })
    }
}

/// The room of a part: what it skips, and what it may still show.
struct Room {
    skip: usize,
    left: usize,
}

impl Room {
    /// The objects that a part shows of a list of this length that follows the previous one: how many it skips, and how
    /// many it takes.
    fn of(&mut self, length: usize) -> (usize, usize) {
        let first = self.skip.min(length);
        let taken = self.left.min(length - first);
        self.skip -= first;
        self.left -= taken;
        (first, taken)
    }
}

impl Engine {
    /// What the supervisor stores, so that a restarted role continues where this one stopped; in one piece.
    #[must_use]
    pub fn summary(&self, now: Instant) -> Summary {
        self.summary_part(now, Position::default(), usize::MAX).0
    }

    /// A part of the summary: at most `count` objects (instances, groups, trackers, settings of interfaces and their
    /// names, in this order) from `begin` on; and where the next part begins, if there are more. [`Summary::joined`]
    /// puts parts together.
    #[must_use]
    pub fn summary_part(
        &self,
        now: Instant,
        begin: Position,
        count: usize,
    ) -> (Summary, Option<Position>) {
        let (mut room, time) = (Room { skip: begin.object, left: count }, self.time_of_day(now));
        let mut summary = Summary { at: now, ..Summary::default() };
        let (first, length) = room.of(self.instances.len());
        let (mut entry, mut left) = (begin.entry, count.saturating_mul(ENTRIES));
        for (object, i) in (first..).zip(self.instances.iter_from(first).take(length)) {
            let (some, more) = part_of(&i.entries, &mut entry, &mut left);
            if !some.is_empty() || !more {
                self.instances.view(some.len());
                summary.instances.push(InstanceSummary {
                    name: i.config.name.clone(),
                    state: i.state(),
                    announced: i.announced,
                    own: some.iter().filter_map(|e| self.objects.own(*e)).collect(),
                    ah: i.sequences.report(now, time),
                    heard: i.sequences.heard().to_vec(),
                });
            }
            if more {
                return (summary, Some(Position { object, entry }));
            }
        }
        let (first, length) = room.of(self.groups.len());
        let groups = self.groups.iter().skip(first).take(length);
        let of_group = |g: &super::Group| {
            let (name, announced) = (g.config.name.clone(), g.announced);
            GroupSummary { name, announced }
        };
        summary.groups = groups.map(of_group).collect();
        let (first, length) = room.of(self.tracked_by_name());
        summary.trackers = self.view_of_trackers().skip(first).take(length).collect();
        let (first, length) = room.of(self.settings_before().len());
        summary.settings = self.settings_before().skip(first).take(length).collect();
        let mut names = self.named().skip(room.skip);
        let meant = |name: &IfName| Some((name.clone(), self.link_index(name)?));
        summary.interfaces = names.by_ref().take(room.left).filter_map(meant).collect();
        let object = begin.object.saturating_add(count);
        (summary, names.next().map(|_| Position { object, entry: 0 }))
    }

    /// A full view, in one piece: for tests and for the end of a process. A thread that must not be delayed takes parts
    /// by [`Self::part_of_view`].
    #[must_use]
    pub fn view(&self, now: Instant) -> Vrrp {
        self.part_of_view(now, Position::default(), usize::MAX).0
    }

    /// A part of the view: at most `count` objects (instances, groups, trackers, in this order) from `begin` on; and
    /// where the next part begins, if there are more. [`Vrrp::joined`] puts parts together.
    #[must_use]
    pub fn part_of_view(
        &self,
        now: Instant,
        begin: Position,
        count: usize,
    ) -> (Vrrp, Option<Position>) {
        let config = &self.config.instances;
        let mut room = Room { skip: begin.object, left: count };
        let (unknown_vrid, malformed) = (self.unknown_vrid, self.malformed);
        let (instances, groups, trackers) = (Vec::new(), Vec::new(), Vec::new());
        let mut view =
            Vrrp { schema: 1, at: now, instances, groups, trackers, unknown_vrid, malformed };
        let (first, length) = room.of(config.len());
        let (mut entry, mut left) = (begin.entry, count.saturating_mul(ENTRIES));
        for (object, config) in config.iter().enumerate().skip(first).take(length) {
            let Some(instance) = self.named_instance(&config.name) else { continue };
            let (some, more) = part_of(&instance.entries, &mut entry, &mut left);
            if !some.is_empty() || !more {
                view.instances.push(self.view_of(instance, some));
            }
            if more {
                return (view, Some(Position { object, entry }));
            }
        }
        let (first, length) = room.of(self.groups.len());
        view.groups = (self.groups.iter().skip(first).take(length))
            .map(|g| Group { name: g.config.name.clone(), state: g.state })
            .collect();
        let (first, length) = room.of(self.tracked_by_name());
        view.trackers = self.view_of_trackers().skip(first).take(length).collect();
        let object = begin.object.saturating_add(count);
        let total = config.len() + self.groups.len() + self.tracked_by_name();
        (view, (object < total).then_some(Position { object, entry: 0 }))
    }

    /// View of an instance, with these of its objects.
    fn view_of(&self, i: &super::Instance, entries: &[ObjectId]) -> Instance {
        self.instances.view(entries.len());
        Instance {
            name: i.config.name.clone(),
            interface: i.config.interface.clone(),
            vrid: i.config.vrid,
            state: i.state(),
            since: i.since,
            priority: i.config.priority.get(),
            effective_priority: i.effective_priority,
            master: i.master.map(|(source, _)| source),
            master_priority: i.master.map(|(_, priority)| priority),
            master_interval: i.master_interval,
            faults: self.faults(i),
            objects_wanted: i.entries.len(),
            objects_present: entries.iter().filter(|e| self.objects.is_present(**e)).count(),
            objects_missing: entries.iter().filter_map(|e| self.missing(i, *e)).collect(),
            addresses_held: entries.iter().filter_map(|e| self.objects.held(*e)).collect(),
            counters: i.counters,
        }
    }
}

/// The objects of an instance that belong to a part with room for `left` of them, from `entry` on; and whether there are
/// more. Updates both for what follows.
fn part_of<'a>(all: &'a [ObjectId], entry: &mut usize, left: &mut usize) -> (&'a [ObjectId], bool) {
    let rest = all.get(*entry..).unwrap_or_default();
    let some = rest.get(..*left).unwrap_or(rest);
    *left -= some.len();
    let more = some.len() < rest.len();
    *entry = if more { *entry + some.len() } else { 0 };
    (some, more)
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
        self.named_instance(name).map(super::Instance::state)
    }

    /// The effective priority of an instance.
    #[must_use]
    pub fn priority(&self, name: &str) -> Option<u8> {
        self.named_instance(name).map(|i| i.effective_priority)
    }

    /// The source of the adverts of an instance.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<core::net::IpAddr> {
        self.named_instance(name).and_then(|i| i.source)
    }

    /// Whether an instance wants its addresses on their interfaces.
    #[must_use]
    pub fn holds_addresses(&self, name: &str) -> bool {
        self.named_instance(name).is_some_and(super::Instance::holds_addresses)
    }

    fn named_instance(&self, name: &str) -> Option<&super::Instance> {
        self.instances.named(name).and_then(|id| self.instance(id))
    }
}
