//! The VRRP engine: everything a host does for its virtual routers, as a value.
//!
//! [`Engine::handle`] takes what happened and the time, and lists what is to be done. It has no clock, socket,
//! thread or file; equal inputs give equal outputs. Sending, listening, changing addresses and running scripts
//! is left to an interpreter of [`Action`]s: the driver of the daemon, or the simulator.
//!
//! | file | concern |
//! |---|---|
//! | `accept`, `fsm`, `timing` | the protocol's rules, without state |
//! | `instance`, `group` | the data of one virtual router, of one sync group |
//! | `advert` | adverts received and sent |
//! | `transition` | from one state to another, and who else follows |
//! | `health` | why an instance cannot take part, and its priority |
//! | `address` | addresses wanted, seen and asked for |
//! | `garp`, `notify` | what the segment and what scripts and people are told |
//! | `script` | when tracking scripts run |
//! | `reload` | from one configuration to the next |
//! | `snapshot` | views for others |
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use slab::Slab;

use crate::base::{Family, IfIndex, IfName, Instant, Name, TimerQueue};
use crate::model;
use crate::model::vrrp::Vrid;
use crate::plan::{Op, Outcome, Token};
use crate::status::vrrp::{State, Summary};

pub mod accept;
pub mod action;
mod address;
mod advert;
pub mod event;
pub mod fsm;
mod garp;
mod group;
mod health;
mod instance;
mod notify;
mod reload;
mod script;
mod snapshot;
#[cfg(test)]
mod tests;
pub mod timing;
mod transition;

pub use action::{Action, Actions};
use address::Kind;
pub use event::{Event, InstanceId, Link, RunEnd, RunId, Rx, Snapshot};
use group::Group;
use health::{Health, Membership};
use instance::{Instance, say};
use notify::Word;
use script::Script;

/// Longest time a change of state waits for the kernel before scripts are told.
const NOTICE_PATIENCE: core::time::Duration = core::time::Duration::from_secs(1);
/// How long an instance takes no part after the kernel refused all its addresses.
const BAR: core::time::Duration = core::time::Duration::from_secs(30);

/// All virtual routers of one host.
#[derive(Debug)]
pub struct Engine {
    phase: Phase,
    config: Arc<model::Vrrp>,
    instances: Slab<Instance>,
    by_name: BTreeMap<Name, InstanceId>,
    by_key: BTreeMap<(IfIndex, Family, Vrid), InstanceId>,
    groups: Vec<Group>,
    scripts: Slab<Script>,
    runs: BTreeMap<RunId, u32>,
    next_run: u64,
    links: BTreeMap<IfIndex, Link>,
    link_names: BTreeMap<IfName, IfIndex>,
    /// Instances that an interface concerns.
    watchers: BTreeMap<IfName, Vec<InstanceId>>,
    addresses: address::Table,
    memberships: BTreeMap<(IfIndex, core::net::IpAddr), Membership>,
    /// When the next gratuitous frame may leave by an interface.
    spacing: BTreeMap<(IfIndex, Family), Instant>,
    timers: TimerQueue,
    resume: Summary,
    /// No instance becomes master before this (`vrrp_startup_delay`).
    silent_until: Instant,
    unknown_vrid: u64,
    malformed: u64,
    /// The instance being worked on, to name the culprit if its step panics.
    current: Option<InstanceId>,
    #[cfg(test)]
    panic_in: Option<InstanceId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Until the first configuration and the first view of the kernel are there.
    Waiting {
        configured: bool,
        seen: bool,
    },
    Running,
    /// Until the kernel has answered for everything.
    Stopping,
    Stopped,
}

/// What a step works with.
struct Cx<'a> {
    now: Instant,
    out: &'a mut Actions,
}

/// What a timer is for. Timers of all kinds share one queue; a key is the number of an object and a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// The advert of a master, the silence of its master for a backup.
    Protocol,
    /// Gratuitous frames.
    Announce,
    /// The kernel took too long to answer: announce the state anyway.
    Notice,
    /// The next run of a script.
    Script,
    /// The next attempt for an address.
    Retry,
    /// The next attempt to join multicast groups; one for all.
    Join,
    /// An instance whose addresses the kernel refused may try again.
    Bar,
}

impl Timer {
    const KINDS: [Self; 7] = [
        Self::Protocol,
        Self::Announce,
        Self::Notice,
        Self::Script,
        Self::Retry,
        Self::Join,
        Self::Bar,
    ];

    const fn key(self, id: u32) -> u32 {
        id * 8 + self as u32
    }

    fn from_key(key: u32) -> Option<(Self, u32)> {
        Self::KINDS.get((key % 8) as usize).map(|kind| (*kind, key / 8))
    }
}

impl Engine {
    /// An engine without a configuration.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Waiting { configured: false, seen: false },
            config: Arc::default(),
            instances: Slab::new(),
            by_name: BTreeMap::new(),
            by_key: BTreeMap::new(),
            groups: Vec::new(),
            scripts: Slab::new(),
            runs: BTreeMap::new(),
            next_run: 0,
            links: BTreeMap::new(),
            link_names: BTreeMap::new(),
            watchers: BTreeMap::new(),
            addresses: address::Table::default(),
            memberships: BTreeMap::new(),
            spacing: BTreeMap::new(),
            timers: TimerQueue::new(),
            resume: Summary::default(),
            silent_until: now,
            unknown_vrid: 0,
            malformed: 0,
            current: None,
            #[cfg(test)]
            panic_in: None,
        }
    }

    /// Takes one event and appends to `out` what is to be done about it. `now` must not go back.
    ///
    /// A panic in here, which would be a defect, ends the part of the instance it happened in and no other.
    pub fn handle(&mut self, now: Instant, event: Event<'_>, out: &mut Actions) {
        self.current = None;
        if catch_unwind(AssertUnwindSafe(|| self.dispatch(&mut Cx { now, out }, event))).is_err() {
            self.quarantine(now, out);
        }
    }

    /// When [`Event::Timer`] is due next.
    pub fn deadline(&mut self) -> Option<Instant> {
        self.timers.earliest()
    }

    fn dispatch(&mut self, cx: &mut Cx<'_>, event: Event<'_>) {
        match event {
            Event::Advert { rx, packet } => self.heard(cx, &rx, packet),
            Event::Timer => self.timer(cx),
            Event::Kernel(snapshot) => self.kernel(cx, snapshot),
            Event::Link(link) => self.link(cx, link),
            Event::LinkGone(index) => self.link_gone(cx, index),
            Event::Address { interface, prefix, present, own } => {
                self.address(cx, interface, prefix, present, own);
            }
            Event::Applied { token, item, outcome } => self.applied(cx, token, item, outcome),
            Event::Joined { interface, group, outcome } => {
                self.joined(cx, interface, group, outcome)
            }
            Event::Unsent { instance, errno } => self.unsent(instance, errno),
            Event::Ran { run, end } => self.ran(cx, run, end),
            Event::RunnerReady => self.runner_ready(),
            Event::Resume(summary) => self.resume = summary,
            Event::Reload(config) => self.reload(cx, config),
            Event::Stop { keep_addresses } => self.stop(cx, keep_addresses),
        }
        if self.phase == Phase::Stopping && !self.addresses.is_busy() {
            self.phase = Phase::Stopped;
            cx.out.push(Action::Done);
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>) {
        while let Some((key, due)) = self.timers.pop(cx.now) {
            let Some((kind, id)) = Timer::from_key(key) else {
                continue;
            };
            match kind {
                Timer::Protocol => self.protocol_timer(cx, InstanceId(id), due),
                Timer::Announce => self.announce_due(cx, InstanceId(id)),
                Timer::Notice => self.announce_state(cx, InstanceId(id)),
                Timer::Script => self.script_due(cx, id, due),
                Timer::Retry => self.settle(cx, &[id]),
                Timer::Join => self.join_again(cx),
                Timer::Bar => {
                    if let Some(instance) = self.instance_mut(InstanceId(id)) {
                        instance.barred_until = None;
                        self.reconsider(cx, InstanceId(id));
                    }
                }
            }
        }
    }

    fn set_timer(&mut self, kind: Timer, id: u32, at: Option<Instant>) {
        match at {
            Some(at) => self.timers.set(kind.key(id), at),
            None => self.timers.clear(kind.key(id)),
        }
    }

    fn instance(&self, id: InstanceId) -> Option<&Instance> {
        self.instances.get(id.0 as usize)
    }

    /// For a step of an instance: notes whose it is.
    fn instance_mut(&mut self, id: InstanceId) -> Option<&mut Instance> {
        self.current = Some(id);
        #[cfg(test)]
        assert_ne!(self.panic_in.take_if(|p| *p == id), Some(id), "asked for by a test");
        self.instances.get_mut(id.0 as usize)
    }

    /// All instances, in the order of their numbers.
    fn ids(&self) -> Vec<InstanceId> {
        self.instances.iter().map(|(_, i)| i.id).collect()
    }

    fn running(&self) -> bool {
        self.phase == Phase::Running
    }

    // ---- links and addresses ----

    fn kernel(&mut self, cx: &mut Cx<'_>, snapshot: Snapshot) {
        let gone: Vec<IfIndex> = self
            .links
            .keys()
            .copied()
            .filter(|index| snapshot.links.iter().all(|link| link.index != *index))
            .collect();
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
            self.reconsider_sources(cx, None);
            let ids = self.addresses.ids();
            self.settle(cx, &ids);
        }
    }

    fn link(&mut self, cx: &mut Cx<'_>, link: Link) {
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
            self.reconsider_watchers(cx, &name);
            let entries = self.addresses.on_interface(&name);
            self.settle(cx, &entries);
        }
    }

    fn link_gone(&mut self, cx: &mut Cx<'_>, index: IfIndex) {
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
    fn rebind(&mut self, cx: &mut Cx<'_>, name: &IfName, index: Option<IfIndex>) {
        let entries = self.addresses.on_interface(name);
        for entry in &entries {
            self.addresses.set_link(*entry, index);
        }
        for id in self.ids() {
            if self.instance(id).is_some_and(|i| i.config.interface == *name) {
                self.bind(cx, id, index);
            }
        }
        if self.running() {
            self.reconsider_watchers(cx, name);
            self.settle(cx, &entries);
        }
    }

    /// Ties an instance to an interface number.
    fn bind(&mut self, cx: &mut Cx<'_>, id: InstanceId, index: Option<IfIndex>) {
        let Some(instance) = self.instances.get_mut(id.0 as usize) else {
            return;
        };
        let (family, vrid) = (instance.config.family, instance.config.vrid);
        let before = core::mem::replace(&mut instance.link, index);
        if before == index {
            return;
        }
        let group = instance.config.destination;
        if let Some(old) = before {
            self.by_key.remove(&(old, family, vrid));
            self.leave(cx, old, group);
        }
        if let Some(new) = index {
            self.by_key.insert((new, family, vrid), id);
            self.join(cx, new, group);
        }
        self.choose_source(id);
    }

    fn address(
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
        self.reconsider_sources(cx, Some(interface));
    }

    /// An address that is wanted was taken away: it is put back, unless somebody keeps at it.
    fn removed_by_others(&mut self, cx: &mut Cx<'_>, entry: u32) {
        if !self.running() || !self.wanted(entry) {
            return;
        }
        let Some(what) = self.addresses.entry(entry) else {
            return;
        };
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
            self.set_timer(Timer::Retry, entry, Some(at));
        }
    }

    /// Whether an address is to be on its interface now.
    fn wanted(&self, entry: u32) -> bool {
        self.addresses.entry(entry).is_some_and(|e| {
            let running = matches!(self.phase, Phase::Running | Phase::Waiting { .. });
            (e.fixed && running)
                || e.owners
                    .iter()
                    .any(|id| self.instance(*id).is_some_and(Instance::holds_addresses))
        })
    }

    /// Asks the kernel for what is missing or too much among these entries.
    fn settle(&mut self, cx: &mut Cx<'_>, entries: &[u32]) {
        if matches!(self.phase, Phase::Waiting { .. }) {
            return;
        }
        let (mut ids, mut ops): (Vec<u32>, Vec<Op>) = (Vec::new(), Vec::new());
        for entry in entries {
            let wanted = self.wanted(*entry);
            let Some(op) = self.addresses.next_op(*entry, wanted, cx.now) else {
                if !wanted {
                    self.addresses.collect(*entry);
                }
                continue;
            };
            // Nothing is taken from an interface without its owner knowing that the kernel is at it.
            let owners = self.addresses.entry(*entry).map(|e| e.owners.clone()).unwrap_or_default();
            for owner in owners {
                if let Some(instance) = self.instances.get_mut(owner.0 as usize) {
                    instance.in_flight += 1;
                }
            }
            ids.push(*entry);
            ops.push(op);
        }
        if !ops.is_empty() {
            let token = self.addresses.begin(ids);
            cx.out.push(Action::Apply { token, ops });
        }
    }

    fn applied(&mut self, cx: &mut Cx<'_>, token: Token, item: u32, outcome: Outcome) {
        let Some(answer) = self.addresses.answered(token, item, outcome) else {
            return;
        };
        let Some(entry) = self.addresses.entry(answer.entry) else {
            return;
        };
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
                self.set_timer(Timer::Retry, answer.entry, Some(at));
            }
            for id in &owners {
                self.bar_if_hopeless(cx, *id);
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
            self.reconsider(cx, id);
        }
    }

    /// A master none of whose addresses the kernel takes leaves the field to others for a while.
    fn bar_if_hopeless(&mut self, cx: &Cx<'_>, id: InstanceId) {
        let Some(instance) = self.instance(id) else {
            return;
        };
        if instance.is_master() && self.all_refused(instance) {
            let until = cx.now + BAR;
            if let Some(instance) = self.instance_mut(id) {
                instance.barred_until = Some(until);
            }
            self.set_timer(Timer::Bar, id.0, Some(until));
        }
    }

    // ---- start and end ----

    /// Starts everything once both the configuration and the kernel are known.
    fn start(&mut self, cx: &mut Cx<'_>) {
        if self.phase != (Phase::Waiting { configured: true, seen: true }) {
            return;
        }
        self.phase = Phase::Running;
        self.silent_until = cx.now + self.config.startup_delay;
        if !self.config.startup_delay.is_zero() {
            tracing::info!(
                "Delaying startup for {} seconds",
                self.config.startup_delay.as_secs_f64()
            );
        }
        for known in core::mem::take(&mut self.resume.instances) {
            let id = self.by_name.get(&known.name).copied();
            if let Some(instance) = id.and_then(|id| self.instance_mut(id)) {
                instance.was_master = known.state == State::Master;
                instance.announced = known.announced;
                instance.mailed = known.announced;
            }
        }
        for id in self.ids() {
            self.choose_source(id);
            self.look_for_leftovers(id);
        }
        self.start_scripts(cx);
        for id in self.ids() {
            self.reconsider(cx, id);
        }
        let ids = self.addresses.ids();
        self.settle(cx, &ids);
        cx.out.push(Action::Report);
    }

    /// Addresses of an instance that are there already are neither removed nor added again: if nobody else
    /// turns out to hold them, they simply stay.
    fn look_for_leftovers(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(id.0 as usize) else {
            return;
        };
        instance.holds_leftovers = instance.entries.iter().any(|e| self.addresses.is_present(*e));
        if instance.holds_leftovers {
            say!(
                info,
                *instance,
                "virtual addresses are there already: they stay until a master is heard"
            );
        }
    }

    fn stop(&mut self, cx: &mut Cx<'_>, keep_addresses: bool) {
        if !self.running() {
            if !matches!(self.phase, Phase::Stopping | Phase::Stopped) {
                self.phase = Phase::Stopped;
                cx.out.push(Action::Done);
            }
            return;
        }
        if keep_addresses {
            self.phase = Phase::Stopped;
        } else {
            self.phase = Phase::Stopping;
            for id in self.ids() {
                if self.instance(id).is_some_and(Instance::is_master) {
                    self.send_advert(cx, id, 0);
                }
            }
            for id in self.ids() {
                if let Some(instance) = self.instance_mut(id) {
                    if instance.is_master() {
                        say!(debug, *instance, "removing VIPs.");
                    }
                    instance.machine = instance::Machine::Init;
                    instance.holds_leftovers = false;
                }
            }
            let ids = self.addresses.ids();
            self.settle(cx, &ids);
        }
        self.timers = TimerQueue::new();
        for id in self.ids() {
            let notice = self.instance_mut(id).and_then(|i| notify::of_instance(i, Word::Stop));
            cx.out.extend(notice.map(Action::Notify));
        }
        for group in &mut self.groups {
            cx.out.extend(notify::of_group(group, Word::Stop).map(Action::Notify));
        }
        if keep_addresses {
            cx.out.push(Action::Done);
        }
    }

    /// Takes the instance whose step panicked out of service.
    fn quarantine(&mut self, now: Instant, out: &mut Actions) {
        let Some(id) = self.current else {
            tracing::error!("a step of the VRRP engine failed; this is a defect, please report it");
            return;
        };
        let mut cx = Cx { now, out };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            if let Some(instance) = self.instances.get_mut(id.0 as usize) {
                instance.quarantined = true;
                say!(error, *instance, "a step failed; this is a defect, please report it");
            }
            self.reconsider(&mut cx, id);
        }));
        if outcome.is_err() {
            tracing::error!("taking a failed instance out of service failed as well");
        }
    }

    // ---- announcements of state ----

    /// Announces a new state as soon as the kernel has answered for all addresses.
    fn announce_state_later(&mut self, cx: &mut Cx<'_>, id: InstanceId) {
        let Some(instance) = self.instance_mut(id) else {
            return;
        };
        instance.unannounced = Some(instance.state());
        self.set_timer(Timer::Notice, id.0, Some(cx.now + NOTICE_PATIENCE));
        self.announce_state_if_settled(cx, id);
    }

    fn announce_state_if_settled(&mut self, cx: &mut Cx<'_>, id: InstanceId) {
        if self.instance(id).is_some_and(|i| i.in_flight == 0) {
            self.announce_state(cx, id);
        }
    }

    fn announce_state(&mut self, cx: &mut Cx<'_>, id: InstanceId) {
        let Some(instance) = self.instance_mut(id) else {
            return;
        };
        let Some(state) = instance.unannounced.take() else {
            return;
        };
        let group = instance.group;
        if instance.announced.replace(state) != Some(state)
            && let Some(notice) = notify::of_instance(instance, Word::State(state))
        {
            cx.out.push(Action::Notify(notice));
        }
        self.timers.clear(Timer::Notice.key(id.0));
        cx.out.push(Action::Report);
        if let Some(group) = group {
            self.announce_group(cx, group);
        }
    }

    /// The state of an instance by name, for tests and the simulator.
    #[must_use]
    pub fn state(&self, name: &str) -> Option<State> {
        self.by_name.get(name).and_then(|id| self.instance(*id)).map(Instance::state)
    }
}
