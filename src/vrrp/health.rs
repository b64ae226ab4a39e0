//! Whether an instance can take part, and with which priority: links, source addresses, group memberships,
//! tracked interfaces and scripts.
//!
//! Faults are looked up afresh each time instead of being counted, so two broken things need both mending
//! before an instance returns.

use core::net::IpAddr;

use super::event::InstanceId;
use super::instance::{Instance, say};
use super::{Action, Cx, Engine, Timer};
use crate::base::{IfIndex, IfName};
use crate::model::vrrp::Priority;
use crate::plan::Outcome;

/// Time between two attempts to join a multicast group.
const JOIN_AGAIN: core::time::Duration = core::time::Duration::from_secs(1);
/// Attempts after which an address counts as refused for good when no other address works either.
const HOPELESS: u32 = 6;

/// What an instance is able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    /// Take part.
    Fit,
    /// Not known until a script has run.
    Unknown,
    /// Nothing: it belongs into FAULT.
    Unfit,
}

/// A multicast group on an interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Membership {
    /// Instances that need it.
    users: u32,
    /// Error number of the last attempt to join; none if it worked or was not answered yet.
    refused: Option<i32>,
}

impl Engine {
    pub(super) fn health(&self, id: InstanceId) -> Health {
        let Some(instance) = self.instance(id) else {
            return Health::Fit;
        };
        if self.first_fault(instance).is_some() {
            return Health::Unfit;
        }
        let unknown = instance.scripts.iter().any(|(script, weight)| {
            matches!(weight, crate::model::Weight::Fault { .. })
                && self.script_condition(*script).is_none()
        });
        if unknown { Health::Unknown } else { Health::Fit }
    }

    fn first_fault(&self, instance: &Instance) -> Option<String> {
        self.faults(instance).into_iter().next()
    }

    /// Why an instance cannot take part, in words.
    pub(super) fn faults(&self, instance: &Instance) -> Vec<String> {
        let mut faults = Vec::new();
        if instance.quarantined {
            faults.push("a step of it failed".to_owned());
        }
        let own = &instance.config.interface;
        match instance.link.and_then(|index| self.links.get(&index)) {
            None => faults.push(format!("interface {own} does not exist")),
            Some(link) => {
                if !link.up && !instance.config.dont_track_primary {
                    faults.push(format!("interface {own} down"));
                }
                if instance.source.is_none() {
                    faults.push(match instance.config.source {
                        Some(source) => format!("source address {source} not configured"),
                        None => {
                            format!("no {} address for interface {own}", instance.config.family)
                        }
                    });
                }
                let key = (link.index, instance.config.destination);
                if let Some(errno) = self.memberships.get(&key).and_then(|m| m.refused) {
                    faults.push(format!("cannot join {} on {own}: error {errno}", key.1));
                }
            }
        }
        for (name, weight) in &instance.interfaces {
            if weight.faults(self.is_up(name)) {
                faults.push(format!("interface {name} down"));
            }
        }
        for (script, weight) in &instance.scripts {
            if let Some(good) = self.script_condition(*script)
                && weight.faults(good)
            {
                faults.push(format!("script {}", self.script_name(*script)));
            }
        }
        if instance.barred_until.is_some() {
            faults.push("the kernel refuses all its addresses".to_owned());
        }
        faults
    }

    /// A master none of whose addresses the kernel takes serves nobody: another router may do better.
    pub(super) fn all_refused(&self, instance: &Instance) -> bool {
        let entries = instance.entries.iter().filter_map(|id| self.objects.entry(*id));
        let mut any = false;
        for entry in entries.filter(|e| e.object.address().is_some()) {
            any = true;
            if !entry.refused.is_some_and(|r| r.errno != 0 && r.attempts >= HOPELESS) {
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

    fn is_up(&self, name: &IfName) -> bool {
        self.link_names.get(name).and_then(|index| self.links.get(index)).is_some_and(|l| l.up)
    }

    /// The number of an interface, while it exists.
    pub(super) fn link_index(&self, name: &IfName) -> Option<IfIndex> {
        self.link_names.get(name).copied()
    }

    /// Computes the priority in force from the weights of what is tracked; the wait for a silent master
    /// changes with it.
    pub(super) fn update_priority(&mut self, cx: &Cx<'_>, id: InstanceId) {
        let Some(instance) = self.instance(id) else { return };
        let base = instance.config.priority;
        let mut total = i32::from(base.get());
        for (name, weight) in &instance.interfaces {
            total += i32::from(weight.contribution(self.is_up(name)));
        }
        for (script, weight) in &instance.scripts {
            if let Some(good) = self.script_condition(*script) {
                total += i32::from(weight.contribution(good));
            }
        }
        // Tracking never makes an owner or unmakes one.
        let effective = if base == Priority::OWNER {
            base.get()
        } else {
            u8::try_from(total.clamp(1, i32::from(Priority::MAX))).unwrap_or(Priority::MAX)
        };
        let Some(instance) = self.instance_mut(id) else { return };
        let before = instance.priority;
        if before == effective {
            return;
        }
        say!(info, *instance, "Changing effective priority from {before} to {effective}");
        let old = instance.master_down();
        instance.priority = effective;
        let new = instance.master_down();
        if let super::instance::Machine::Backup { master_down } = instance.machine {
            let shifted = (master_down + new) - old;
            self.wait_until(id, shifted.max(cx.now));
        }
    }

    /// Something about an interface changed that instances may depend on.
    pub(super) fn reconsider_watchers(&mut self, cx: &mut Cx<'_>, name: &IfName) {
        for id in self.watchers.get(name).cloned().unwrap_or_default() {
            self.reconsider(cx, id);
        }
    }

    /// Chooses the source of adverts anew, on one interface or on all, and what follows from that.
    pub(super) fn reconsider_sources(&mut self, cx: &mut Cx<'_>, link: Option<IfIndex>) {
        for id in self.ids() {
            let concerned = self.instance(id).is_some_and(|i| link.is_none() || i.link == link);
            if concerned && self.choose_source(id) {
                self.reconsider(cx, id);
            }
        }
    }

    /// Chooses the source of adverts: as configured, else the first address of the interface that is not a
    /// virtual one. Says whether it changed.
    pub(super) fn choose_source(&mut self, id: InstanceId) -> bool {
        let Some(instance) = self.instance(id) else {
            return false;
        };
        let source = match (instance.link, instance.config.source) {
            (None, _) => None,
            (Some(_), Some(configured)) => Some(configured),
            (Some(link), None) => self.objects.source(link, instance.config.family),
        };
        match self.instance_mut(id) {
            Some(instance) => core::mem::replace(&mut instance.source, source) != source,
            None => false,
        }
    }

    // ---- multicast groups ----

    pub(super) fn join(&mut self, cx: &mut Cx<'_>, interface: IfIndex, group: IpAddr) {
        let membership = self
            .memberships
            .entry((interface, group))
            .or_insert(Membership { users: 0, refused: None });
        membership.users += 1;
        if membership.users == 1 {
            cx.out.push(Action::Join { interface, group });
        }
    }

    pub(super) fn leave(&mut self, cx: &mut Cx<'_>, interface: IfIndex, group: IpAddr) {
        if let Some(membership) = self.memberships.get_mut(&(interface, group)) {
            membership.users = membership.users.saturating_sub(1);
            if membership.users == 0 {
                self.memberships.remove(&(interface, group));
                cx.out.push(Action::Leave { interface, group });
            }
        }
    }

    pub(super) fn joined(
        &mut self,
        cx: &mut Cx<'_>,
        interface: IfIndex,
        group: IpAddr,
        outcome: Outcome,
    ) {
        let Some(membership) = self.memberships.get_mut(&(interface, group)) else { return };
        let refused = match outcome {
            Outcome::Done | Outcome::Already => None,
            Outcome::Refused(errno) => Some(errno),
        };
        let changed = membership.refused != refused;
        membership.refused = refused;
        if refused.is_some() {
            self.set_timer(Timer::Join, 0, Some(cx.now + JOIN_AGAIN));
        }
        if changed {
            let concerned: Vec<InstanceId> = self
                .ids()
                .into_iter()
                .filter(|id| self.instance(*id).is_some_and(|i| i.link == Some(interface)))
                .collect();
            for id in concerned {
                self.reconsider(cx, id);
            }
        }
    }

    pub(super) fn join_again(&mut self, cx: &mut Cx<'_>) {
        let refused: Vec<(IfIndex, IpAddr)> =
            self.memberships.iter().filter(|(_, m)| m.refused.is_some()).map(|(k, _)| *k).collect();
        for (interface, group) in refused {
            cx.out.push(Action::Join { interface, group });
        }
    }
}
