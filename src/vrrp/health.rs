//! Whether an instance can take part, and with which priority: links, source addresses, group memberships,
//! and what it tracks.
//!
//! Each fault is a bit or a count of its own, so an instance with two faults returns only after both are gone. Texts
//! are only made when they are read.

use super::consequence::What;
use super::event::InstanceId;
use super::history::Ended;
use super::instance::{Instance, say};
use super::{Action, Engine, Moment, notify};
use crate::base::{IfIndex, IfName};
use crate::model::vrrp::Priority;
use crate::plan::VrfRole;
use crate::track::{Effect, State, Subject};

/// Attempts after which an address counts as refused permanently if no other address works either.
const HOPELESS: u32 = 6;

/// Whether an instance can take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    /// It can.
    Fit,
    /// Not known until a script or report has a result.
    Unknown,
    /// It must enter FAULT.
    Unfit,
}

/// A fault of the instance itself, not of something it tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnFault {
    /// One of its steps panicked.
    Quarantined,
    /// Its interface does not exist.
    NoInterface,
    InterfaceDown,
    /// Its interface is not in its VRF.
    NotInVrf,
    /// The kernel refuses the interface that is created for it.
    NoUpper,
    /// It has no source address for its adverts.
    NoSource,
    /// It has no peer to send adverts to (`unicast_fault_no_peer`).
    NoPeer,
    /// Its multicast group cannot be joined.
    NotJoined,
    /// The kernel refuses all its addresses.
    HeldDown,
}

/// A set of [`OwnFault`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OwnFaults(u16);

impl OwnFaults {
    /// In the order in which they are reported; faults of tracked objects come before the last one.
    const ALL: [OwnFault; 9] = [
        OwnFault::Quarantined,
        OwnFault::NoInterface,
        OwnFault::InterfaceDown,
        OwnFault::NotInVrf,
        OwnFault::NoUpper,
        OwnFault::NoSource,
        OwnFault::NoPeer,
        OwnFault::NotJoined,
        OwnFault::HeldDown,
    ];

    pub const fn any(self) -> bool {
        self.0 != 0
    }

    const fn contains(self, fault: OwnFault) -> bool {
        self.0 & (1 << fault as u8) != 0
    }

    const fn put(&mut self, fault: OwnFault, there: bool) {
        if there {
            self.0 |= 1 << fault as u8;
        }
    }
}

impl Engine {
    pub(super) fn own_faults(&self, instance: &Instance) -> OwnFaults {
        let mut faults = OwnFaults::default();
        faults.put(OwnFault::Quarantined, instance.quarantined);
        match instance.link.and_then(|index| self.links.get(&index)) {
            None => faults.put(OwnFault::NoInterface, true),
            Some(link) => {
                faults
                    .put(OwnFault::InterfaceDown, !link.up && !instance.config.dont_track_primary);
                let inside = |vrf: &IfName| match link.vrf {
                    Some(VrfRole::Port { of }) => self.link_index(vrf) == Some(of),
                    _ => false,
                };
                faults.put(OwnFault::NotInVrf, !instance.config.vrf().is_none_or(inside));
                faults.put(OwnFault::NoUpper, self.refused_upper(instance).is_some());
                faults.put(OwnFault::NoSource, instance.source.is_none());
                faults.put(OwnFault::NotJoined, self.refused_join(instance).is_some());
            }
        }
        let no_peer = instance.config.unicast().is_some_and(|u| u.peers.is_empty());
        faults.put(OwnFault::NoPeer, no_peer);
        faults.put(OwnFault::HeldDown, instance.held_down_until.is_some());
        faults
    }

    fn refused_join(&self, instance: &Instance) -> Option<i32> {
        let (interface, _, address) = instance.listening?;
        self.memberships.get(&(interface, address)).and_then(|m| m.refused)
    }

    /// Recomputes what is kept about an instance and depends on its interfaces: its own faults, and the room that its
    /// adverts need.
    pub(super) fn refresh(&mut self, id: InstanceId) {
        let Some(instance) = self.instance(id) else { return };
        let (faults, awaits_upper) = (self.own_faults(instance), self.awaits_upper(instance));
        let buffer = self.receive_buffer_of(instance);
        let Some(instance) = self.instances.get_mut(id) else { return };
        let before = core::mem::replace(&mut instance.receive_buffer, buffer);
        self.receive_buffer = self.receive_buffer + u64::from(buffer) - u64::from(before);
        if (instance.own_faults, instance.awaits_upper) != (faults, awaits_upper) {
            let gone = |f: &OwnFault| instance.own_faults.contains(*f) && !faults.contains(*f);
            if let Some(fault) = OwnFaults::ALL.into_iter().find(gone) {
                instance.history.ended = Some(Ended::Own(fault));
            }
            (instance.own_faults, instance.awaits_upper) = (faults, awaits_upper);
            self.recount(id);
        }
    }

    /// Why an instance cannot take part, in words.
    pub(super) fn faults(&self, instance: &Instance) -> Vec<String> {
        let tracked = instance
            .references
            .iter()
            .filter(|r| Effect::of(self.trackers.state(r.tracker), r.weight).fault)
            .filter_map(|r| self.trackers.subject(r.tracker).map(Subject::to_string));
        self.own_fault_texts(instance).chain(tracked).collect()
    }

    /// Its own faults, in words.
    pub(super) fn own_fault_texts(&self, instance: &Instance) -> impl Iterator<Item = String> {
        let own = &instance.config.interface;
        let text = move |fault: OwnFault| match fault {
            OwnFault::Quarantined => "a step of it failed".to_owned(),
            OwnFault::NoInterface => format!("interface {own} does not exist"),
            OwnFault::InterfaceDown => format!("interface {own} down"),
            OwnFault::NotInVrf => match instance.config.vrf() {
                Some(vrf) if self.link_index(vrf).is_none() => format!("VRF {vrf} does not exist"),
                Some(vrf) => format!("interface {own} is not in VRF {vrf}"),
                None => String::new(),
            },
            OwnFault::NoUpper => self.refusal_of_upper(instance),
            OwnFault::NoSource => match instance.config.source {
                Some(source) => format!("source address {source} not configured"),
                None => format!("no {} address for interface {own}", instance.config.family),
            },
            OwnFault::NoPeer => "unicast without any peers".to_owned(),
            OwnFault::NotJoined => {
                let errno = self.refused_join(instance).unwrap_or_default();
                match instance.listening {
                    Some((_, _, address)) if !address.is_multicast() => {
                        format!("cannot listen to {address} on {own}: error {errno}")
                    }
                    _ => {
                        let group = instance.config.destination;
                        format!("cannot join {group} on {own}: error {errno}")
                    }
                }
            }
            OwnFault::HeldDown => "the kernel refuses all its addresses".to_owned(),
        };
        OwnFaults::ALL.into_iter().filter(|f| instance.own_faults.contains(*f)).map(text)
    }

    /// Whether the kernel refuses all addresses of a master: another router may then be able to serve them. Called at
    /// each refusal, so the address that was not permanently refused the last time is checked first.
    pub(super) fn all_refused(&mut self, id: InstanceId) -> bool {
        let Some(instance) = self.instance(id) else { return false };
        let (count, witness) = (instance.entries.len(), instance.witness);
        let mut any = false;
        for position in (0..count).map(|n| (witness + n) % count) {
            #[cfg(test)]
            self.instances.visits.set(self.instances.visits.get() + 1);
            let entry = instance.entries.get(position).and_then(|id| self.objects.entry(*id));
            let Some(entry) = entry.filter(|e| e.object.address().is_some()) else { continue };
            any = true;
            if !entry.refused.is_some_and(|r| r.errno != 0 && r.attempts >= HOPELESS) {
                if let Some(instance) = self.instances.get_mut(id) {
                    instance.witness = position;
                }
                return false;
            }
        }
        any
    }

    pub(super) fn log_faults(&self, id: InstanceId) {
        if let Some(instance) = self.instance(id) {
            for fault in self.faults(instance) {
                say!(info, *instance, "entering FAULT state ({fault})");
            }
        }
    }

    pub(super) fn is_up(&self, name: &IfName) -> bool {
        self.link_names.get(name).and_then(|index| self.links.get(index)).is_some_and(|l| l.up)
    }

    /// The number of an interface, while it exists.
    pub(super) fn link_index(&self, name: &IfName) -> Option<IfIndex> {
        self.link_names.get(name).copied()
    }

    /// The instances whose own interface has this number.
    pub(super) fn on_link(&self, index: IfIndex) -> Vec<InstanceId> {
        self.names_of(index).iter().flat_map(|name| self.instances.on_interface(name)).collect()
    }

    /// Computes the effective priority from the weights of what is tracked, and adapts the master-down time.
    pub(super) fn update_priority(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        let Some(instance) = self.instance_mut(id) else { return };
        let base = instance.config.priority;
        // Tracking never changes whether an instance is the owner.
        let effective = if base == Priority::OWNER {
            base.get()
        } else {
            let total = i32::from(base.get()) + instance.standing.priority;
            u8::try_from(total.clamp(1, i32::from(Priority::MAX))).unwrap_or(Priority::MAX)
        };
        let before = instance.effective_priority;
        if before == effective {
            return;
        }
        say!(info, *instance, "Changing effective priority from {before} to {effective}");
        let old = instance.master_down();
        instance.effective_priority = effective;
        let new = instance.master_down();
        moment.out.extend(notify::of_priority(instance).map(Action::Notify));
        if let super::instance::Machine::Backup { master_down } = instance.machine() {
            let shifted = (master_down + new) - old;
            self.rearm(id, shifted.max(moment.now));
        }
    }

    /// An interface changed: notes what follows for the instances that use or track it.
    pub(super) fn interface_changed(&mut self, name: &IfName) {
        self.each(What::Refresh, self.instances.on_interface(name));
        if let Some(tracker) = self.trackers.find(&Subject::Interface(name.clone())) {
            let state = State::of(Some(self.is_up(name)));
            self.note_tracker(tracker, state);
        }
        self.then_act();
    }

    /// Virtual servers can be served now, or cannot be served.
    pub(super) fn ipvs(&mut self, moment: &mut Moment<'_>, works: bool) {
        self.ipvs = State::of(Some(works));
        if let Some(tracker) = self.trackers.find(&Subject::VirtualServers) {
            self.tracker_is(moment, tracker, self.ipvs);
        }
    }

    /// Chooses the source of adverts: the configured one (if it must exist, only if the host has it), else the first
    /// address of the interface that is not a virtual one. Returns whether it changed.
    pub(super) fn choose_source(&mut self, moment: &mut Moment<'_>, id: InstanceId) -> bool {
        let Some(instance) = self.instance(id) else {
            return false;
        };
        let source = match (instance.link, instance.config.source) {
            (None, _) => None,
            (Some(_), Some(configured)) if instance.config.needs_source() => {
                self.objects.holds(configured).then_some(configured)
            }
            (Some(_), Some(configured)) => Some(configured),
            (Some(link), None) => self.objects.source(link, instance.config.family),
        };
        let hears_ah = self.hears_ah;
        let Some(instance) = self.instance_mut(id) else { return false };
        let changed = core::mem::replace(&mut instance.source, source) != source;
        let new_ah = !hears_ah && instance.config.ah_key().is_some();
        let heard = (instance.listening, instance.overhearing);
        if new_ah || heard != (instance.hears(), instance.overhears()) {
            self.listen(moment, id);
        }
        self.refresh(id);
        changed
    }
}
