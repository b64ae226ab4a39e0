//! How the engine starts and ends, and how states are announced to scripts and people.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::action::Actions;
use super::event::InstanceId;
use super::instance::say;
use super::notify::{self, Word};
use super::object::Claimant;
use super::{Action, Engine, Moment, NOTICE_PATIENCE, Phase, SLICE, Timer, Timers};
use crate::base::{Instant, Name, Prefix};
use crate::model::vrrp::Priority;
use crate::plan::ObjectId;
use crate::status::vrrp::State;

impl Engine {
    /// Starts everything once both the configuration and the kernel are known.
    pub(super) fn start(&mut self, moment: &mut Moment<'_>) {
        if self.phase != (Phase::Waiting { configured: true, seen: true }) {
            return;
        }
        // While nobody acts on it.
        let renamed = core::mem::take(&mut self.resume.renamed);
        self.resume_names(moment, renamed);
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
        let mut resumed = BTreeMap::new();
        for known in core::mem::take(&mut self.resume.instances) {
            let id = self.instances.named(&known.name);
            if let Some(instance) = id.and_then(|id| self.instance_mut(id)) {
                instance.was_master = known.state == State::Master;
                let (number, at) = known.ah;
                instance.sequences.resume(number, moment.now.since(at), instance.was_master);
                instance.announced = known.announced;
                instance.mailed = known.announced;
                resumed.extend(id.map(|id| (id, known.own)));
            }
        }
        self.objects.drop_strays();
        let ids = self.instances.ids();
        for id in &ids {
            self.look_for_own(*id, resumed.get(id).map(Vec::as_slice));
            self.choose_source(moment, *id);
            self.look_for_retained(*id);
        }
        self.start_scripts(moment);
        self.reconsider_all(moment, ids);
        let entries = self.objects.ids();
        self.settle(moment, &entries);
        moment.out.push(Action::Report);
    }

    /// Addresses of an instance that are there already are neither removed nor added again: if nobody else
    /// turns out to hold them, they simply stay.
    pub(super) fn look_for_retained(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        // A route alone is no sign: another instance may name it too.
        let objects = &self.objects;
        let address = |e: &ObjectId| objects.is_present(*e) && objects.address(*e).is_some();
        instance.retained = instance.entries.iter().any(address);
        if instance.retained {
            say!(
                info,
                *instance,
                "virtual addresses are there already: they stay until a master is heard"
            );
        }
    }

    /// The owner of an address (RFC 9568 1.6: priority 255) may have it as an address of the interface itself, which
    /// was there before us and stays when we leave. What the last process of this role put there is not taken for one:
    /// `known` are those it took for such. They may be away for a while, and a reload may have changed the priority.
    pub(super) fn look_for_own(&mut self, id: InstanceId, known: Option<&[Prefix]>) {
        let Some(instance) = self.instances.get(id) else { return };
        if known.is_none() && instance.config.priority != Priority::OWNER {
            return;
        }
        for entry in instance.entries.clone() {
            self.take_for_own(id, entry, known);
        }
    }

    /// Another program has put an address there: for the owner it is one of the interface itself, come late or back.
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
        if keep_addresses {
            self.phase = Phase::Stopped;
        } else {
            self.phase = Phase::Stopping;
            for id in self.instances.ids() {
                self.enter(moment, id, State::Init);
            }
        }
        self.timers = Timers::default();
        self.walking.clear();
        self.queue.clear();
        self.sweeps.clear();
        self.sliced = false;
        for id in self.instances.ids() {
            let notice = self.instance_mut(id).and_then(|i| notify::of_instance(i, Word::Stop));
            moment.out.extend(notice.map(Action::Notify));
        }
        for group in &mut self.groups {
            moment.out.extend(notify::of_group(group, Word::Stop).map(Action::Notify));
        }
        if keep_addresses {
            moment.out.push(Action::Done);
        } else {
            // All farewells before the first address goes.
            let ids = self.objects.ids();
            self.settle(moment, &ids);
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
            self.reconsider_all(&mut moment, [id]);
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

    pub(super) fn announce_state_if_settled(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        if self.instance(id).is_some_and(|i| i.in_flight == 0) && !self.is_swept(id) {
            self.announce_state(moment, id);
        }
    }

    pub(super) fn announce_state(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        let Some(instance) = self.instance_mut(id) else { return };
        let Some(state) = instance.unannounced.take() else { return };
        let group = instance.group;
        if instance.announced.replace(state) != Some(state)
            && let Some(notice) = notify::of_instance(instance, Word::State(state))
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
