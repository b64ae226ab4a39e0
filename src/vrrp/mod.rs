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
//! | `object`, `link` | who wants which objects in the kernel; links |
//! | `garp`, `notify` | what the segment and what scripts and people are told |
//! | `script` | when tracking scripts run |
//! | `lifecycle` | start, end, announcements of state |
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
use crate::plan::{ObjectId, Table};
use crate::status::vrrp::Summary;

pub mod accept;
pub mod action;
mod advert;
pub mod event;
pub mod fsm;
mod garp;
mod group;
mod health;
mod instance;
mod lifecycle;
mod link;
mod notify;
mod object;
mod reload;
mod script;
mod snapshot;
#[cfg(test)]
mod tests;
pub mod timing;
mod transition;

pub use action::{Action, Actions};
pub use event::{Event, InstanceId, Link, RunEnd, RunId, Rx, Snapshot};
use group::Group;
use health::{Health, Membership};
use instance::Instance;
use object::Owner;
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
    objects: Table<Owner>,
    memberships: BTreeMap<(IfIndex, core::net::IpAddr), Membership>,
    /// When the next gratuitous frame may leave by an interface.
    spacing: BTreeMap<(IfIndex, Family), Instant>,
    timers: TimerQueue,
    resume: Summary,
    /// No instance becomes master before this (`vrrp_startup_delay`).
    silent_until: Instant,
    unknown_vrid: u64,
    malformed: u64,
    /// Steps that panicked.
    failures: u64,
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
    /// The next attempt for an object.
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
            objects: Table::default(),
            memberships: BTreeMap::new(),
            spacing: BTreeMap::new(),
            timers: TimerQueue::new(),
            resume: Summary::default(),
            silent_until: now,
            unknown_vrid: 0,
            malformed: 0,
            failures: 0,
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
            Event::Object(change) => self.object_changed(cx, &change),
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
        if self.phase == Phase::Stopping && !self.objects.is_busy() {
            self.phase = Phase::Stopped;
            cx.out.push(Action::Done);
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>) {
        while let Some((key, due)) = self.timers.pop(cx.now) {
            let Some((kind, id)) = Timer::from_key(key) else { continue };
            match kind {
                Timer::Protocol => self.protocol_timer(cx, InstanceId(id), due),
                Timer::Announce => self.announce_due(cx, InstanceId(id)),
                Timer::Notice => self.announce_state(cx, InstanceId(id)),
                Timer::Script => self.script_due(cx, id, due),
                Timer::Retry => self.settle(cx, &[ObjectId(id)]),
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
}
