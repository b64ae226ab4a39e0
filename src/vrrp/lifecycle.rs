//! How the engine starts and ends, and how states are announced to scripts and people.

use core::cmp::Reverse;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::action::Actions;
use super::event::InstanceId;
use super::fsm::Input;
use super::history::{Blame, Why};
use super::instance::say;
use super::job::{Job, Progress};
use super::notify::{self, Word};
use super::object::Claimant;
use super::{Action, Engine, Moment, NOTICE_PATIENCE, Phase, SLICE, Timer, Timers};
use crate::base::{Instant, Name, Prefix};
use crate::model::vrrp::Priority;
use crate::plan::ObjectId;
use crate::status::vrrp::{InstanceSummary, State};
use crate::track::TrackerId;

/// The start of all instances.
#[derive(Debug)]
pub(super) struct Start {
    /// What the previous process of this role reported about its instances, and which addresses it considered each
    /// one's own.
    known: std::vec::IntoIter<InstanceSummary>,
    own: BTreeMap<InstanceId, Vec<Prefix>>,
    ids: Vec<InstanceId>,
    /// Number of instances done.
    next: usize,
    /// Scripts to start.
    idle: Vec<TrackerId>,
    /// All of this is done, and its consequences are being processed.
    started: bool,
}

/// The stop of all instances.
#[derive(Debug)]
pub(super) struct Farewells {
    keep_addresses: bool,
    /// In reverse order: the next one is the last element.
    ids: Vec<InstanceId>,
    /// Instances whose end is still to be announced, in the order of their numbers.
    told: std::vec::IntoIter<InstanceId>,
    groups: usize,
}

impl Engine {
    /// Starts everything once both the configuration and the kernel are known.
    pub(super) fn start(&mut self) -> Progress {
        if self.phase != (Phase::Waiting { configured: true, seen: true }) {
            return Progress::Complete;
        }
        let known = core::mem::take(&mut self.resume.instances).into_iter();
        let own = BTreeMap::new();
        let ids = self.instances.ids();
        let start = Start { known, own, ids, next: 0, idle: Vec::new(), started: false };
        Progress::Then(Job::Start(Box::new(start)))
    }

    /// Continues the start by one slice.
    pub(super) fn start_on(&mut self, moment: &mut Moment<'_>, start: &mut Start) -> Progress {
        if self.phase != Phase::Running {
            // Before any instance acts on it.
            let meant = core::mem::take(&mut self.resume.interfaces);
            self.resume_names(meant);
            if self.work_on(moment) {
                return Progress::Sliced;
            }
            self.begin_start(moment);
            start.idle = self.scripts.keys().rev().copied().collect();
        }
        let end = self.resume.at;
        while self.has_room() {
            // What follows from the start of an instance.
            if start.started && self.work_on(moment) {
                continue;
            }
            self.spend(1);
            if let Some(known) = start.known.next() {
                let id = self.instances.named(&known.name);
                if let Some(instance) = id.and_then(|id| self.instance_mut(id)) {
                    instance.was_master = known.state == State::Master;
                    instance.sequences.resume(known.ah, moment.now);
                    instance.sequences.resume_heard(known.heard, end);
                    instance.announced = known.announced;
                    instance.mailed = known.announced;
                    start.own.extend(id.map(|id| (id, known.own)));
                }
                if let Some(id) = id {
                    self.recount(id);
                }
            } else if let Some(id) = start.ids.get(start.next).copied() {
                start.next += 1;
                self.look_for_own(id, start.own.get(&id).map(Vec::as_slice));
                self.spend(1);
                self.choose_source(moment, id);
                self.look_for_retained(id);
            } else if self.undoing {
                return Progress::Complete;
            } else if let Some(id) = start.idle.pop() {
                self.start_script(moment, id);
            } else if !core::mem::replace(&mut start.started, true) {
                self.reconsider_all(moment, core::mem::take(&mut start.ids));
            } else {
                let entries = self.objects.ids();
                self.settle(moment, &entries);
                moment.out.push(Action::Report);
                return Progress::Complete;
            }
        }
        Progress::Sliced
    }

    fn begin_start(&mut self, moment: &mut Moment<'_>) {
        self.resume.settings.clear();
        self.resume.trackers.clear();
        self.phase = Phase::Running;
        self.silent_until = moment.now + self.config.startup_delay;
        if !self.config.startup_delay.is_zero() {
            tracing::info!(
                "Delaying startup for {} seconds",
                self.config.startup_delay.as_secs_f64()
            );
        }
        let known = core::mem::take(&mut self.resume.groups);
        let known: BTreeMap<Name, _> = known.into_iter().map(|g| (g.name, g.announced)).collect();
        for group in &mut self.groups {
            let announced = known.get(&group.config.name).copied().flatten();
            (group.announced, group.mailed) = (announced, announced);
        }
        self.objects.drop_strays();
        self.adopt_links();
        self.recall_settings();
        for stray in self.objects.take_strays(&self.config.mark) {
            if let Some(entry) = self.objects.entry(stray) {
                tracing::info!("removing {}, which an earlier run has left behind", entry.object);
            }
        }
    }

    /// Addresses of an instance that exist already are neither removed nor added again: they stay unless another router
    /// turns out to be master.
    pub(super) fn look_for_retained(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        // A route alone proves nothing: another instance may have the same one. Nor does an address that goes: an earlier
        // reload has removed its instance.
        let objects = &self.objects;
        let stays = |e: &ObjectId| objects.entry(*e).is_some_and(|entry| !entry.is_leaving());
        let address =
            |e: &ObjectId| objects.is_present(*e) && objects.address(*e).is_some() && stays(e);
        instance.retained = instance.entries.iter().any(address);
        let pieces = instance.entries.len() / 4;
        if instance.retained {
            say!(
                info,
                *instance,
                "virtual addresses exist already: they stay until a master is heard"
            );
        }
        self.spend(pieces);
    }

    /// The owner of an address (RFC 9568 1.6: priority 255) may have it as an address of the interface itself, which
    /// existed before the daemon and stays after it. An address that the previous process of this role added does not
    /// count: `known` are those that it considered the interface's own. They may be missing for a while, and a reload
    /// may have changed the priority.
    pub(super) fn look_for_own(&mut self, id: InstanceId, known: Option<&[Prefix]>) {
        let Some(instance) = self.instances.get(id) else { return };
        if known.is_none() && instance.config.priority != Priority::OWNER {
            return;
        }
        for entry in instance.entries.clone() {
            self.take_for_own(id, entry, known);
        }
    }

    /// Another program has added an address: for the owner it is the interface's own, added late or again.
    pub(super) fn added_by_others(&mut self, entry: ObjectId) {
        let claimants = self.objects.entry(entry).map(|e| e.claimants.clone()).unwrap_or_default();
        for claimant in claimants {
            if let Claimant::Instance(id) = claimant
                && self.instance(id).is_some_and(|i| i.config.priority == Priority::OWNER)
            {
                self.take_for_own(id, entry, None);
            }
        }
    }

    fn take_for_own(&mut self, id: InstanceId, entry: ObjectId, known: Option<&[Prefix]>) {
        if let Some(instance) = self.instances.get(id)
            && self.objects.take_for_own(entry, known)
            && let Some(prefix) = self.objects.own(entry)
        {
            say!(
                info,
                *instance,
                "{prefix} is an address of {} itself: it stays there whatever this instance does",
                instance.config.interface
            );
        }
    }

    pub(super) fn stop(&mut self, moment: &mut Moment<'_>, keep_addresses: bool) {
        if !self.running() {
            if !matches!(self.phase, Phase::Stopping | Phase::Stopped) {
                self.phase = Phase::Stopped;
                moment.out.push(Action::Done);
            }
            return;
        }
        let all = self.instances.ids();
        let mut ids = Vec::new();
        self.walking.clear();
        self.queue.clear();
        self.correcting.clear();
        self.sweeps.clear();
        if keep_addresses {
            self.phase = Phase::Stopped;
            self.timers = Timers::default();
        } else {
            self.phase = Phase::Stopping;
            // In this order each waiting backup receives either an advert or the farewell in time.
            ids.clone_from(&all);
            ids.sort_by_cached_key(|id| {
                Reverse((self.timers.get(Timer::Advert(*id)).ok_or(()), *id))
            });
            self.timers.keep_adverts();
        }
        let farewells = Farewells { keep_addresses, ids, told: all.into_iter(), groups: 0 };
        self.begin(moment, Job::Farewells(Box::new(farewells)));
    }

    /// Continues a stop by one slice: all farewells are sent before the first address is removed.
    pub(super) fn farewell_on(&mut self, moment: &mut Moment<'_>, f: &mut Farewells) -> Progress {
        while self.has_room() {
            self.spend(1);
            if let Some(id) = f.ids.pop() {
                self.say_farewell_for_the_last(moment, id);
                self.follow(moment, id, Input::Shutdown, &Blame::Own(Why::Stopped));
            } else if let Some(id) = f.told.next() {
                let settings = Arc::clone(&self.config);
                let notice = self.instance_mut(id).and_then(|instance| {
                    instance.unannounced = None;
                    notify::of_instance(instance, Word::Stop, &settings)
                });
                self.recount(id);
                moment.out.extend(notice.map(Action::Notify));
            } else if let Some(group) = self.groups.get_mut(f.groups) {
                f.groups += 1;
                group.unannounced = None;
                let notice = notify::of_group(group, Word::Stop, &self.config);
                moment.out.extend(notice.map(Action::Notify));
            } else if f.keep_addresses {
                moment.out.push(Action::Done);
                return Progress::Complete;
            } else {
                self.timers = Timers::default();
                let ids = self.objects.ids();
                self.settle(moment, &ids);
                return Progress::Complete;
            }
        }
        Progress::Sliced
    }

    /// A process that only undoes what the previous one did sends the farewell for it, as long as no other router can
    /// have taken over.
    fn say_farewell_for_the_last(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        let now = moment.now;
        if self.undoing && self.instance(id).is_some_and(|i| self.was_master_until(i, now)) {
            self.send_advert(moment, id, 0);
        }
    }

    /// Takes the instance whose step panicked out of service.
    pub(super) fn quarantine(&mut self, now: Instant, out: &mut Actions) {
        self.failures += 1;
        let Some(id) = self.current else {
            tracing::error!("a step of the VRRP engine failed; this is a defect, please report it");
            return;
        };
        let mut moment = Moment { now, out };
        self.budget = SLICE;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            if let Some(instance) = self.instances.get_mut(id) {
                instance.quarantined = true;
                say!(error, *instance, "a step failed; this is a defect, please report it");
            }
            self.refresh(id);
            self.recount(id);
            self.reconsider_all(&mut moment, vec![id]);
        }));
        if outcome.is_err() {
            tracing::error!("taking a failed instance out of service failed as well");
        }
    }

    /// Announces a new state as soon as the kernel has answered for all addresses.
    pub(super) fn announce_state_later(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        let Some(instance) = self.instance_mut(id) else { return };
        instance.unannounced = Some(instance.state());
        self.recount(id);
        self.timers.set(Timer::Notice(id), moment.now + NOTICE_PATIENCE);
        self.announce_state_if_settled(moment, id);
    }

    /// Writes the state of an instance again to FIFOs only. Always true.
    pub(super) fn announce_again_to_fifos(&self, moment: &mut Moment<'_>, id: InstanceId) -> bool {
        let notice = self.instance(id).and_then(notify::of_instance_again);
        moment.out.extend(notice.map(Action::Notify));
        true
    }

    /// The same for the group at this position. False if there is none.
    pub(super) fn announce_group_again(&self, moment: &mut Moment<'_>, position: usize) -> bool {
        let group = self.groups.get(position);
        moment.out.extend(group.and_then(notify::of_group_again).map(Action::Notify));
        group.is_some()
    }

    pub(super) fn announce_state_if_settled(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        if self.instance(id).is_some_and(|i| i.in_flight == 0) && !self.is_swept(id) {
            self.announce_state(moment, id);
        }
    }

    pub(super) fn announce_state(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        let settings = Arc::clone(&self.config);
        let Some(instance) = self.instance_mut(id) else { return };
        let Some(state) = instance.unannounced.take() else { return };
        let group = instance.group;
        if instance.announced.replace(state) != Some(state)
            && let Some(notice) = notify::of_instance(instance, Word::State(state), &settings)
        {
            moment.out.push(Action::Notify(notice));
        }
        self.timers.clear(Timer::Notice(id));
        self.recount(id);
        moment.out.push(Action::Report);
        if let Some(group) = group {
            self.announce_group(moment, group);
        }
    }
}
