//! What the kernel tells of links and addresses, and what it is asked to change about them.

use std::collections::BTreeSet;

use super::address::Kind;
use super::event::{InstanceId, Link, Snapshot};
use super::instance::{Instance, say};
use super::{Action, Cx, Engine, HOLD_DOWN, Phase, Timer};
use crate::base::{IfIndex, IfName};
use crate::plan::{Op, Outcome, Token};

impl Engine {
    pub(super) fn kernel(&mut self, cx: &mut Cx<'_>, snapshot: Snapshot) {
        let there: BTreeSet<IfIndex> = snapshot.links.iter().map(|link| link.index).collect();
        let gone: Vec<IfIndex> =
            self.links.keys().copied().filter(|index| !there.contains(index)).collect();
        // The addresses first: what a link event leads to depends on them.
        self.addresses.forget_all();
        for (link, prefix) in snapshot.addresses {
            self.addresses.saw(link, prefix);
        }
        for index in gone {
            self.link_gone(cx, index);
        }
        for link in snapshot.links {
            self.link(cx, link);
        }
        if let Phase::Waiting { configured, .. } = self.phase {
            self.phase = Phase::Waiting { configured, seen: true };
            self.start(cx);
        } else {
            self.reconsider_sources(cx, self.instances.ids());
            let ids = self.addresses.ids();
            self.settle(cx, &ids);
        }
    }

    pub(super) fn link(&mut self, cx: &mut Cx<'_>, link: Link) {
        let (index, name) = (link.index, link.name.clone());
        let before = self.links.insert(index, link);
        if let Some(before) = &before
            && before.name != name
        {
            if self.link_names.get(&before.name) == Some(&index) {
                self.link_names.remove(&before.name);
            }
            self.rebind(cx, &before.name.clone(), None);
        }
        if before.as_ref().is_none_or(|b| b.name != name) {
            // An interface that is deleted and made again keeps its name but not its number.
            if let Some(old) =
                self.link_names.insert(name.clone(), index).filter(|old| *old != index)
            {
                self.links.remove(&old);
                self.addresses.forget_link(old);
            }
            self.rebind(cx, &name, Some(index));
        } else if before != self.links.get(&index).cloned() {
            self.interface_changed(cx, &name);
            let entries = self.addresses.on_interface(&name);
            self.settle(cx, &entries);
        }
    }

    pub(super) fn link_gone(&mut self, cx: &mut Cx<'_>, index: IfIndex) {
        self.addresses.forget_link(index);
        self.memberships.retain(|(interface, _), _| *interface != index);
        if let Some(link) = self.links.remove(&index)
            && self.link_names.get(&link.name) == Some(&index)
        {
            self.link_names.remove(&link.name);
            self.rebind(cx, &link.name, None);
        }
    }

    /// An interface of this name has another number now, or none.
    pub(super) fn rebind(&mut self, cx: &mut Cx<'_>, name: &IfName, index: Option<IfIndex>) {
        let entries = self.addresses.on_interface(name);
        for entry in &entries {
            self.addresses.set_link(*entry, index);
        }
        for id in self.instances.on_interface(name) {
            self.bind(cx, id, index);
        }
        self.interface_changed(cx, name);
        if self.running() {
            self.settle(cx, &entries);
        }
    }

    /// Ties an instance to an interface number.
    pub(super) fn bind(&mut self, cx: &mut Cx<'_>, id: InstanceId, index: Option<IfIndex>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let (family, vrid) = (instance.config.family, instance.config.vrid);
        let before = core::mem::replace(&mut instance.link, index);
        if before == index {
            return;
        }
        let group = instance.config.destination;
        if let Some(old) = before {
            self.instances.unlisten(&(old, family, vrid), id);
            self.leave(cx, old, group);
        }
        if let Some(new) = index {
            self.instances.listen((new, family, vrid), id);
            self.join(cx, new, group);
        }
        self.choose_source(id);
    }

    pub(super) fn address(
        &mut self,
        cx: &mut Cx<'_>,
        interface: IfIndex,
        prefix: crate::base::Prefix,
        present: bool,
        own: bool,
    ) {
        if present {
            self.addresses.saw(interface, prefix);
            if let Some(entry) = self.addresses.at(interface, prefix) {
                // Somebody added one of ours: if it is not wanted here, it goes again.
                self.settle(cx, &[entry]);
                return;
            }
        } else {
            match self.addresses.unexpected_removal(interface, prefix, own) {
                Some(entry) => {
                    if self.addresses.lost(interface, prefix) {
                        self.removed_by_others(cx, entry);
                    }
                    return;
                }
                None if self.addresses.at(interface, prefix).is_some() => return,
                None => {
                    self.addresses.lost(interface, prefix);
                }
            }
        }
        self.reconsider_sources(cx, self.on_link(interface));
    }

    /// An address that is wanted was taken away: it is put back, unless somebody keeps at it.
    pub(super) fn removed_by_others(&mut self, cx: &mut Cx<'_>, entry: u32) {
        if !self.running() || !self.wanted(entry) {
            return;
        }
        let Some(what) = self.addresses.entry(entry) else { return };
        if what.address.no_track && !what.fixed {
            return;
        }
        let (prefix, interface) = (what.address.prefix, what.address.interface.clone());
        let owners = what.owners.clone();
        for id in owners {
            if let Some(instance) = self.instance_mut(id)
                && instance.is_master()
            {
                instance.counters.addresses_restored += 1;
                say!(
                    warn,
                    *instance,
                    "address {prefix} was removed from {interface} by another program, putting it back"
                );
            }
        }
        if self.addresses.may_restore(entry, cx.now) {
            self.settle(cx, &[entry]);
        } else if let Some(at) = self.addresses.put_off(entry, 0, cx.now) {
            self.timers.set(Timer::Retry(entry), at);
        }
    }

    /// Whether an address is to be on its interface now. One that is only retained is to stay where it is, not
    /// to be added.
    pub(super) fn wanted(&self, entry: u32) -> bool {
        self.addresses.entry(entry).is_some_and(|e| {
            let running = matches!(self.phase, Phase::Running | Phase::Waiting { .. });
            let owned = |test: fn(&Instance) -> bool| {
                e.owners.iter().any(|id| self.instance(*id).is_some_and(test))
            };
            (e.fixed && running)
                || owned(Instance::is_master)
                || (owned(|i| i.retained) && self.addresses.is_present(entry))
        })
    }

    /// Asks the kernel for what is missing or too much among these entries.
    pub(super) fn settle(&mut self, cx: &mut Cx<'_>, entries: &[u32]) {
        if matches!(self.phase, Phase::Waiting { .. }) {
            return;
        }
        let mut asked: Vec<(Op, u32)> = Vec::new();
        for entry in entries {
            let wanted = self.wanted(*entry);
            let Some(op) = self.addresses.next_op(*entry, wanted, cx.now) else {
                if !wanted {
                    self.addresses.collect(*entry);
                }
                continue;
            };
            let owners = self.addresses.entry(*entry).map(|e| e.owners.clone()).unwrap_or_default();
            for owner in owners {
                if let Some(instance) = self.instances.get_mut(owner) {
                    instance.in_flight += 1;
                }
            }
            asked.push((op, *entry));
        }
        if !asked.is_empty() {
            // What is new answers before what is old goes.
            asked.sort_by_key(|(op, _)| matches!(op, Op::DeleteAddress { .. }));
            let (ops, ids) = asked.into_iter().unzip();
            let token = self.addresses.begin(ids);
            cx.out.push(Action::Apply { token, ops });
        }
    }

    pub(super) fn applied(&mut self, cx: &mut Cx<'_>, token: Token, item: u32, outcome: Outcome) {
        let Some(answer) = self.addresses.answered(token, item, outcome) else { return };
        let Some(entry) = self.addresses.entry(answer.entry) else { return };
        let owners = entry.owners.clone();
        let (prefix, interface) = (entry.address.prefix, entry.address.interface.clone());
        let repeated = entry.refused.is_some();
        for id in &owners {
            if let Some(instance) = self.instance_mut(*id) {
                instance.in_flight = instance.in_flight.saturating_sub(1);
            }
        }
        if let Outcome::Refused(errno) = outcome {
            if !repeated {
                let what = if answer.kind == Kind::Add { "add" } else { "remove" };
                tracing::warn!(
                    "cannot {what} address {prefix} on {interface}: error {errno}, trying again"
                );
            }
            if let Some(at) = self.addresses.put_off(answer.entry, errno, cx.now) {
                self.timers.set(Timer::Retry(answer.entry), at);
            }
            for id in &owners {
                self.hold_down_if_hopeless(cx, *id);
            }
        } else if answer.kind == Kind::Add {
            for id in &owners {
                if self.instance(*id).is_some_and(Instance::is_master) {
                    self.announce_confirmed(cx, *id, answer.entry);
                }
            }
        }
        self.settle(cx, &[answer.entry]);
        for id in owners {
            self.announce_state_if_settled(cx, id);
            self.reconsider_all(cx, [id]);
        }
    }

    /// A master none of whose addresses the kernel takes leaves the field to others for a while.
    pub(super) fn hold_down_if_hopeless(&mut self, cx: &Cx<'_>, id: InstanceId) {
        let Some(instance) = self.instance(id) else { return };
        if instance.is_master() && self.all_refused(instance) {
            let until = cx.now + HOLD_DOWN;
            if let Some(instance) = self.instance_mut(id) {
                instance.held_down_until = Some(until);
            }
            self.refresh(id);
            self.timers.set(Timer::HoldDown(id), until);
        }
    }
}
