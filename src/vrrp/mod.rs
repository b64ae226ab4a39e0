//! The VRRP engine: everything a host does for its virtual routers, as a value.
//!
//! [`Engine::handle`] takes what happened and the time, and lists what is to be done. It has no clock, socket, thread
//! or file; equal inputs give equal outputs. Sending, receiving, changing addresses and running scripts are left to an
//! interpreter of [`Action`]s: the driver of the daemon, or the simulator.
//!
//! | file | concern |
//! |---|---|
//! | `accept`, `fsm`, `timing` | the protocol's rules, without state |
//! | `instance`, `registry`, `timers` | the data of one virtual router; all virtual routers; timers |
//! | `transition` | the only way from one state to another, and when it is taken |
//! | `group` | sync groups: their counters, and how a change reaches all members |
//! | `advert` | adverts received and sent |
//! | `health` | why an instance cannot take part, and its priority |
//! | `object`, `link`, `membership` | which claimant wants which kernel objects; links; multicast groups |
//! | `upper` | interfaces created for instances (`use_vmac`), and their settings |
//! | `job` | work that concerns everything at once, in slices: reload, kernel snapshot, start, stop |
//! | `consequence` | what a change of a link, an address or a tracked object means for many instances, in slices |
//! | `sweep` | many objects at once, in slices |
//! | `filter` | packet filters of instances with `no_accept` |
//! | `garp`, `notify` | announcements to the segment; notices to scripts and people |
//! | `limit` | rate limits for what other routers cause: answers and log lines |
//! | `script` | when tracking scripts run |
//! | `queue` | the required sizes of the queues of received packets |
//! | `lifecycle` | start, end, announcements of state |
//! | `reload` | from one configuration to the next |
//! | `peer` | who was heard |
//! | `history` | why states changed |
//! | `view` | views for readers, summaries for the next process |
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::base::{IfIndex, IfName, Instant, Name, WallTime};
use crate::model;
use crate::plan::{Setting, Table};
use crate::status::vrrp::Summary;
use crate::track::{self, TrackerId};

pub mod accept;
pub mod action;
mod advert;
pub mod auth;
mod consequence;
mod delay;
pub mod event;
mod filter;
pub mod fsm;
mod garp;
mod group;
mod health;
mod history;
mod instance;
mod job;
mod lifecycle;
mod limit;
mod link;
mod membership;
mod notify;
mod object;
mod peer;
mod queue;
mod registry;
mod reload;
mod script;
mod send;
mod sweep;
mod sync;
#[cfg(test)]
mod tests;
mod timers;
pub mod timing;
mod tracker;
mod transition;
mod upper;
mod view;

pub use action::{Action, Actions};
use consequence::Consequence;
pub use event::{Event, InstanceId, Link, RunEnd, RunId, Rx, Snapshot};
pub use filter::tables as filter_tables;
use group::{Group, GroupId};
use instance::Instance;
use job::Job;
use membership::Membership;
use object::Claimant;
use registry::Registry;
use script::Script;
use sweep::Sweep;
use timers::{Timer, Timers};
pub use view::Position;

/// Longest time a change of state waits for the kernel before scripts are told.
const NOTICE_PATIENCE: core::time::Duration = core::time::Duration::from_secs(1);
/// How long an instance does not take part after the kernel refused all its addresses. Each takeover that ends like
/// this leaves the addresses without a master for some seconds, so this doubles each time,
const HOLD_DOWN: core::time::Duration = core::time::Duration::from_secs(30);
/// up to this. A missing privilege does not come back: it is the first time already.
const LONGEST_HOLD_DOWN: core::time::Duration = core::time::Duration::from_secs(3600);
/// Largest number of changes of state and kernel operations in one step; the others follow in later steps, between
/// which adverts are sent. A change costs some 10 us, most of it for its log lines.
const SLICE: usize = 64;
/// Pieces of a job (see `job::EFFORT`) that an advert costs, in addition to one for each packet.
const ADVERT: usize = 1;
/// Largest number of instances with which tests verify the maintained values after each step.
#[cfg(test)]
const CHECKED: usize = 16;

/// All virtual routers of one host.
#[derive(Debug)]
pub struct Engine {
    phase: Phase,
    config: Arc<model::Vrrp>,
    instances: Registry,
    groups: Vec<Group>,
    /// What instances and groups track.
    trackers: track::Table<InstanceId>,
    /// The scripts among the trackers.
    scripts: BTreeMap<TrackerId, Script>,
    /// Whether virtual servers can be served.
    ipvs: track::State,
    /// What another process reported about files and processes.
    reports: BTreeMap<track::Subject, track::State>,
    /// Number of running processes, by the name of the `vrrp_track_process`.
    counts: BTreeMap<Name, u32>,
    runs: BTreeMap<RunId, TrackerId>,
    next_run: u64,
    links: BTreeMap<IfIndex, Link>,
    /// When a pending change of a link between up and down takes effect (`interface_up_down_delays`),
    held: BTreeMap<IfIndex, Instant>,
    /// and the links that have been up.
    were_up: BTreeSet<IfIndex>,
    /// Which interface a name refers to.
    link_names: BTreeMap<IfName, IfIndex>,
    /// Former names that still refer to an interface.
    aliases: BTreeMap<IfIndex, Vec<IfName>>,
    objects: Table<Claimant>,
    /// Settings of interfaces from before they were changed.
    originals: BTreeMap<(IfName, Setting), u32>,
    memberships: BTreeMap<(IfIndex, core::net::IpAddr), Membership>,
    /// When the last gratuitous frame was sent, for the minimum time to the next one.
    last_frames: BTreeMap<garp::Spaced, Instant>,
    timers: Timers,
    /// Groups in which a change of state is in progress.
    walking: VecDeque<GroupId>,
    /// Instances to reconsider.
    queue: VecDeque<InstanceId>,
    /// Groups whose members announce their addresses after an advert of lower priority, and the position of the next one.
    correcting: VecDeque<(GroupId, usize)>,
    /// What follows from changes and is not done yet.
    consequences: VecDeque<Consequence>,
    /// Objects to compare with the kernel in slices.
    sweeps: VecDeque<Sweep>,
    /// A step was cut into slices and is not finished. Only [`Timer::Slice`] continues it: other events may be too
    /// frequent.
    sliced: bool,
    /// Remaining number of changes of state and operations in this step.
    budget: usize,
    /// When adverts fell due that did not fit into one step and are not all sent.
    burst: Option<Instant>,
    /// The job in progress.
    job: Option<Job>,
    /// Remaining pieces of the job, and instances to examine, in this step.
    effort: usize,
    effort_of_step: usize,
    resume: Summary,
    /// This process only undoes what the previous process of this role did.
    undoing: bool,
    /// No instance becomes master before this (`vrrp_startup_delay`).
    silent_until: Instant,
    /// Remaining frames that this step may send, and addresses that it may examine for that.
    frames: u32,
    visits: u32,
    /// What all instances require together, see [`Engine::receive_buffer`].
    receive_buffer: u64,
    /// At least one instance uses the IP authentication header.
    hears_ah: bool,
    /// The time of day, and when it was reported.
    told_time: Option<(Instant, WallTime)>,
    unknown_vrids: limit::UnknownVrids,
    unknown_vrid: u64,
    malformed: u64,
    /// Number of steps that panicked.
    failures: u64,
    /// The instance being processed, for the log if its step panics.
    current: Option<InstanceId>,
    #[cfg(test)]
    panic_in: Option<InstanceId>,
    /// Changes of state since the last check of a test.
    #[cfg(test)]
    entered: usize,
    /// Links processed and objects claimed since the last check of a test.
    #[cfg(test)]
    looks: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Until the first configuration and the first kernel snapshot arrive.
    Waiting {
        configured: bool,
        seen: bool,
    },
    Running,
    /// Until the kernel has answered for everything.
    Stopping,
    Stopped,
}

/// The context of a step.
struct Moment<'a> {
    now: Instant,
    out: &'a mut Actions,
}

impl Engine {
    /// An engine without a configuration.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Waiting { configured: false, seen: false },
            config: Arc::default(),
            instances: Registry::default(),
            groups: Vec::new(),
            trackers: track::Table::default(),
            scripts: BTreeMap::new(),
            ipvs: track::State::Unknown,
            reports: BTreeMap::new(),
            counts: BTreeMap::new(),
            runs: BTreeMap::new(),
            next_run: 0,
            links: BTreeMap::new(),
            held: BTreeMap::new(),
            were_up: BTreeSet::new(),
            link_names: BTreeMap::new(),
            aliases: BTreeMap::new(),
            objects: Table::default(),
            originals: BTreeMap::new(),
            memberships: BTreeMap::new(),
            last_frames: BTreeMap::new(),
            timers: Timers::default(),
            walking: VecDeque::new(),
            queue: VecDeque::new(),
            correcting: VecDeque::new(),
            consequences: VecDeque::new(),
            sweeps: VecDeque::new(),
            sliced: false,
            budget: SLICE,
            burst: None,
            job: None,
            effort: job::EFFORT,
            effort_of_step: job::EFFORT,
            resume: Summary::default(),
            undoing: false,
            silent_until: now,
            frames: garp::SLICE,
            visits: garp::VISITS,
            receive_buffer: 0,
            hears_ah: false,
            told_time: None,
            unknown_vrids: limit::UnknownVrids::default(),
            unknown_vrid: 0,
            malformed: 0,
            failures: 0,
            current: None,
            #[cfg(test)]
            panic_in: None,
            #[cfg(test)]
            entered: 0,
            #[cfg(test)]
            looks: 0,
        }
    }

    /// Processes one event and appends the resulting actions to `out`. `now` must not go back.
    ///
    /// A panic in here, which would be a defect, only takes the instance out of service whose step panicked.
    pub fn handle(&mut self, now: Instant, event: Event<'_>, out: &mut Actions) {
        self.current = None;
        self.budget = SLICE;
        self.effort = self.effort_of_step;
        (self.frames, self.visits) = (garp::SLICE, garp::VISITS);
        while self.job.is_some() && !Self::fits_in(&event) {
            self.guarded(now, out, Self::go_on);
            (self.budget, self.effort) = (SLICE, self.effort_of_step);
        }
        self.guarded(now, out, |engine, moment| engine.dispatch(moment, event));
        self.occupy(&Moment { now, out });
        #[cfg(test)]
        if self.instances.len() <= CHECKED && self.job.is_none() {
            self.check_counts();
        }
    }

    fn guarded(
        &mut self,
        now: Instant,
        out: &mut Actions,
        step: impl FnOnce(&mut Self, &mut Moment<'_>),
    ) {
        if catch_unwind(AssertUnwindSafe(|| step(self, &mut Moment { now, out }))).is_err() {
            self.quarantine(now, out);
        }
    }

    /// When [`Event::Timer`] is due next.
    pub fn deadline(&mut self) -> Option<Instant> {
        let two = [self.timers.earliest_advert(), self.timers.earliest_other()];
        two.into_iter().flatten().min()
    }

    /// When [`Event::Adverts`] is due next, the part of [`Self::deadline`] that does not depend on received packets.
    pub fn advert_deadline(&mut self) -> Option<Instant> {
        self.timers.earliest_advert()
    }

    /// When a master's silence is to be judged next: before that, all received packets must be handed over.
    pub fn silence_deadline(&mut self) -> Option<Instant> {
        self.timers.earliest_silence()
    }

    /// When anything but adverts is due next.
    pub fn other_deadline(&mut self) -> Option<Instant> {
        self.timers.earliest_other()
    }

    fn dispatch(&mut self, moment: &mut Moment<'_>, event: Event<'_>) {
        match event {
            Event::Advert { rx, packet } => self.heard(moment, &rx, packet),
            Event::Timer => self.adverts_and_timer(moment),
            Event::Adverts => {
                self.adverts(moment, moment.now);
            }
            Event::Kernel(snapshot) => self.kernel(moment, snapshot),
            Event::Link(link) => self.link(moment, link),
            Event::LinkGone(index) => self.link_gone(moment, index),
            Event::Object(change) => self.object_changed(moment, &change),
            Event::Applied { token, item, outcome } => self.applied(moment, token, item, outcome),
            Event::Joined { interface, group, outcome } => {
                self.joined(moment, interface, group, outcome)
            }
            Event::Unsent { instance, destination, errno } => {
                self.unsent(moment.now, instance, destination, errno);
            }
            Event::Ran { run, end } => self.ran(moment, run, end),
            Event::RunnerReady => self.runner_ready(),
            Event::TimeOfDay(time) => self.told_time = Some((moment.now, time)),
            Event::Ipvs { works } => self.ipvs(moment, works),
            Event::Report(report) => self.report(moment, report),
            Event::Resume(summary) => {
                self.resume = summary;
                self.resume_reports();
            }
            Event::Undo => self.undoing = matches!(self.phase, Phase::Waiting { .. }),
            Event::Reload(config) => self.reload(moment, config),
            Event::Stop { keep_addresses } => self.stop(moment, keep_addresses),
        }
        let settled = self.job.is_none() && !self.objects.is_busy() && self.sweeps.is_empty();
        if self.phase == Phase::Stopping && settled {
            self.phase = Phase::Stopped;
            moment.out.push(Action::Done);
        }
    }

    /// Sends adverts that were due at this time, up to one slice. False if some are left.
    fn adverts(&mut self, moment: &mut Moment<'_>, until: Instant) -> bool {
        while self.effort > 0
            && self.budget > 0
            && let Some((id, due)) = self.timers.pop_advert(until)
        {
            let packets = self.instance(id).map_or(1, |i| i.config.copies());
            self.spend(ADVERT + packets);
            self.advert_due(moment, id, due);
        }
        self.timers.earliest_advert().is_none_or(|at| at > until)
    }

    /// Sends the adverts that are due, and then processes the other timers: not before all these adverts are sent, but
    /// without waiting for those that fall due meanwhile, or a host with too many would do nothing else.
    fn adverts_and_timer(&mut self, moment: &mut Moment<'_>) {
        let until = self.burst.unwrap_or(moment.now);
        let complete = self.adverts(moment, until);
        self.burst = (!complete).then_some(until);
        if complete {
            // At least one piece, also if adverts fall due between all steps.
            self.effort = self.effort.max(1);
            self.timer(moment);
        }
    }

    fn timer(&mut self, moment: &mut Moment<'_>) {
        if self.job.is_some() {
            self.go_on(moment);
            return;
        }
        while self.budget > 0
            && self.effort > 0
            && self.consequences.is_empty()
            && let Some((timer, due)) = self.timers.pop(moment.now)
        {
            // The slice itself is done below: if it cost anything, a step with room for one piece would do nothing.
            if timer != Timer::Slice {
                self.spend(1);
            }
            match timer {
                Timer::Silence(id) => self.silence(moment, id),
                Timer::Announce(id) => self.announce_due(moment, id),
                Timer::Limits(id) => self.limits_due(moment, id),
                Timer::Notice(id) => self.announce_state(moment, id),
                Timer::Script(id) => self.script_due(moment, id, due),
                Timer::Retry(entry) => {
                    let entries = self.objects.with_elements(entry);
                    self.settle(moment, &entries);
                }
                Timer::Join => self.join_again(moment),
                Timer::Delays => self.delays_over(moment),
                Timer::Reports => self.reports_overdue(moment),
                Timer::UnknownVrids => self.report_unknown_vrids(),
                Timer::HoldDown(id) => {
                    if let Some(instance) = self.instance_mut(id) {
                        instance.held_down_until = None;
                        self.refresh(id);
                        self.reconsider_all(moment, vec![id]);
                    }
                }
                // A slice comes after all other due timers; adverts have a queue of their own.
                Timer::Slice | Timer::Advert(_) => {}
            }
        }
        self.sliced = false;
        self.work(moment);
        if self.consequences.is_empty() {
            self.sweep(moment);
            self.correct_on(moment);
        }
    }

    fn set_timer(&mut self, timer: Timer, at: Option<Instant>) {
        match at {
            Some(at) => self.timers.set(timer, at),
            None => self.timers.clear(timer),
        }
    }

    fn instance(&self, id: InstanceId) -> Option<&Instance> {
        self.instances.get(id)
    }

    /// Begins a step of an instance: notes which one it is.
    fn instance_mut(&mut self, id: InstanceId) -> Option<&mut Instance> {
        self.current = Some(id);
        #[cfg(test)]
        assert_ne!(self.panic_in.take_if(|p| *p == id), Some(id), "asked for by a test");
        self.instances.get_mut(id)
    }

    /// The time of day; 1970-01-01 until it is reported.
    fn time_of_day(&self, now: Instant) -> WallTime {
        let (at, told) = self.told_time.unwrap_or_default();
        told.after(now.since(at))
    }

    fn running(&self) -> bool {
        self.phase == Phase::Running
    }
}
