//! From one configuration to the next: what is the same before and after is not touched.
//!
//! Wanted addresses are claimed anew by the new configuration and then compared with what is there, so an
//! address that stays wanted, by whichever instance, leads to no operation. Instances are matched as
//! [`crate::model::diff`] says and keep their state, timers and counters.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::auth::Sequences;
use super::event::InstanceId;
use super::group::{Group, GroupId};
use super::instance::{Instance, Machine, say};
use super::notify::{self, Word};
use super::script::Script;
use super::{Action, Engine, Moment, Phase, SLICE, Timer};
use crate::base::{Instant, Name};
use crate::model::{self, Weight, diff};
use crate::status::vrrp::State;
use crate::track::{self, Effect, Reference, Standing, Subject, TrackerId};

impl Engine {
    /// Takes a new configuration, or the first one.
    pub(super) fn reload(&mut self, moment: &mut Moment<'_>, new: Arc<model::Vrrp>) {
        if matches!(self.phase, Phase::Stopping | Phase::Stopped) {
            return;
        }
        // What is still under way comes to its end first, and what follows from the new configuration does so
        // before addresses are compared: an address that one instance leaves and another wants is not touched.
        self.budget = usize::MAX;
        self.sliced = false;
        self.work(moment);
        self.take(moment, new);
        self.budget = SLICE;
        self.start(moment);
    }

    fn take(&mut self, moment: &mut Moment<'_>, new: Arc<model::Vrrp>) {
        let old = core::mem::replace(&mut self.config, Arc::clone(&new));
        let matching = diff::instances(&old, &new);
        let id_of = |position: &usize| self.instances.named(&old.instances.get(*position)?.name);
        let removed: Vec<InstanceId> = matching.removed.iter().filter_map(id_of).collect();
        let mut ids: Vec<Option<InstanceId>> = vec![None; new.instances.len()];
        for (before, after) in &matching.kept {
            if let Some(slot) = ids.get_mut(*after) {
                *slot = id_of(before);
            }
        }
        let mut added: Vec<InstanceId> = Vec::with_capacity(matching.added.len());
        for position in &matching.added {
            let Some(config) = new.instances.get(*position) else { continue };
            let id = self.instances.add(|id| Instance::new(id, config.clone(), moment.now));
            added.push(id);
            if let Some(slot) = ids.get_mut(*position) {
                *slot = Some(id);
            }
        }
        debug_assert!(ids.iter().all(Option::is_some), "each configuration has its instance");
        let ids: Vec<InstanceId> = ids.into_iter().flatten().collect();
        for (id, config) in ids.iter().zip(&new.instances) {
            self.change(moment, *id, config);
        }
        // Group memberships, references and claims are made anew, so nothing of the old may stay.
        self.instances.index(&ids);
        self.claim_objects(&new, &ids);
        self.rebuild_scripts(moment, &new);
        self.rebuild_groups(&new);
        self.rebuild_references(&new, &ids);
        if let Phase::Waiting { seen, .. } = self.phase {
            self.phase = Phase::Waiting { configured: true, seen };
            for id in removed {
                self.remove(moment, id);
            }
            return;
        }
        // Additions first: what an old instance leaves and a new one wants is not to go and come.
        self.forget_names(moment);
        for id in added {
            self.look_for_own(id, None);
            self.choose_source(moment, id);
            self.look_for_retained(id);
        }
        self.start_scripts(moment);
        self.reconsider_all(moment, ids);
        for id in removed {
            self.remove(moment, id);
        }
        let entries = self.objects.ids();
        self.settle(moment, &entries);
        moment.out.push(Action::Report);
    }

    /// Gives an instance its new configuration.
    fn change(&mut self, moment: &mut Moment<'_>, id: InstanceId, new: &model::Instance) {
        let Some(instance) = self.instance(id) else { return };
        let renamed = instance.link.is_some() && instance.link == self.link_index(&new.interface);
        let elsewhere = is_elsewhere(&instance.config, new, renamed);
        if instance.state() != State::Init && elsewhere {
            self.move_away(moment, id, new);
        }
        let Some(instance) = self.instance_mut(id) else { return };
        let old = core::mem::replace(&mut instance.config, new.clone());
        instance.advertised = new.addresses.iter().map(|a| a.prefix.address).collect();
        instance.old_checksums = remembered(&old, &instance.old_checksums, new);
        if old.advert_int != new.advert_int {
            instance.master_interval = new.advert_int;
        }
        let timers = old.advert_int != new.advert_int
            || old.down_timer_adverts != new.down_timer_adverts
            || old.version != new.version;
        if old.preempt != new.preempt {
            instance.preempt_at = None;
        }
        if timers {
            self.retime(moment, id, old.advert_int);
        }
        let wanted = self.link_index(&new.interface);
        if let Some(instance) = self.instance_mut(id) {
            instance.link = wanted;
        }
        self.choose_source(moment, id);
    }

    /// Ends the part of an instance in the election that it took part in, while it still has the configuration for
    /// that: those it leaves need not wait for its silence, and those it comes to are not overrun.
    fn move_away(&mut self, moment: &mut Moment<'_>, id: InstanceId, new: &model::Instance) {
        if let Some(instance) = self.instance(id) {
            say!(
                info,
                *instance,
                "is another virtual router in the new configuration ({} {} on {}): a new election",
                new.family,
                new.vrid,
                new.interface
            );
        }
        self.enter(moment, id, State::Init);
        if let Some(instance) = self.instance_mut(id) {
            instance.was_master = false;
            instance.sequences = Sequences::default();
            instance.master_interval = new.advert_int;
            instance.last_sent_from = None;
        }
    }

    /// Applies a new interval: a master keeps the phase of its adverts, a backup has waited what it waited.
    fn retime(&mut self, moment: &Moment<'_>, id: InstanceId, old_interval: core::time::Duration) {
        let Some(instance) = self.instance_mut(id) else { return };
        let due: Instant = match instance.machine() {
            Machine::Master { next_advert } => {
                let last = next_advert - old_interval;
                (last + instance.config.advert_int).max(moment.now)
            }
            Machine::Backup { .. } => moment.now + instance.master_down(),
            Machine::Init | Machine::Fault => return,
        };
        self.rearm(id, due);
    }

    /// A script that is the same command for the same user goes on; another one begins with the condition of the one
    /// before it.
    fn rebuild_scripts(&mut self, moment: &mut Moment<'_>, new: &model::Vrrp) {
        let mut old = core::mem::take(&mut self.scripts);
        for config in &new.scripts {
            let subject = Subject::Script(config.name.clone());
            let id = self.trackers.row(&subject, || track::State::Unknown);
            let script = match old.remove(&id) {
                Some(mut known) if known.config.command == config.command => {
                    known.config = config.clone();
                    known
                }
                other => {
                    let script = Script::new(config.clone(), other.as_ref());
                    if let Some(other) = other {
                        self.end_script(moment, &other);
                    }
                    // Who refers to it is told when the references are made anew.
                    self.trackers.set(id, script.state());
                    self.timers.clear(Timer::Script(id));
                    script
                }
            };
            self.scripts.insert(id, script);
        }
        for (id, script) in old {
            self.end_script(moment, &script);
            self.timers.clear(Timer::Script(id));
        }
    }

    fn rebuild_groups(&mut self, new: &model::Vrrp) {
        let mut old: BTreeMap<Name, Group> =
            self.groups.drain(..).map(|g| (g.config.name.clone(), g)).collect();
        for instance in self.instances.iter_mut() {
            instance.group = None;
            instance.counted = super::group::Tally::default();
        }
        for config in &new.groups {
            let id = GroupId(u32::try_from(self.groups.len()).unwrap_or(u32::MAX));
            let members: Vec<InstanceId> =
                config.members.iter().filter_map(|name| self.instances.named(name)).collect();
            let mut states: Vec<State> = Vec::new();
            for member in &members {
                if let Some(instance) = self.instances.get_mut(*member) {
                    instance.group = Some(id);
                    states.push(instance.state());
                }
            }
            let group = match old.remove(&config.name) {
                Some(group) => group.renewed(config.clone(), members),
                None => {
                    let mut group = Group::new(config.clone(), members);
                    // A group made of instances that run already has the state they have.
                    if let Some(first) = states.first()
                        && states.iter().all(|s| s == first)
                    {
                        group.state = *first;
                    }
                    group
                }
            };
            self.groups.push(group);
        }
    }

    /// Works out what each instance depends on.
    fn rebuild_references(&mut self, new: &model::Vrrp, ids: &[InstanceId]) {
        self.trackers.release_all();
        for (config, id) in new.instances.iter().zip(ids) {
            let group = self.instance(*id).and_then(|i| self.group(i.group?));
            let mut references = Vec::new();
            let mut standing = Standing::default();
            for (subject, weight) in tracked(new, config, group.map(|g| &g.config)) {
                let Some(tracker) = self.row(&subject) else { continue };
                let reference = Reference { tracker, weight };
                self.trackers.refer(*id, reference);
                standing.add(Effect::of(self.trackers.state(tracker), weight));
                references.push(reference);
            }
            if let Some(instance) = self.instances.get_mut(*id) {
                instance.references = references;
                instance.standing = standing;
            }
            self.refresh(*id);
            self.recount(*id);
        }
        self.trackers.collect(|id, _| self.scripts.contains_key(&id));
    }

    /// The row of something that is tracked.
    fn row(&mut self, subject: &Subject) -> Option<TrackerId> {
        match subject {
            Subject::Interface(name) => {
                let up = self.is_up(name);
                Some(self.trackers.row(subject, || track::State::of(Some(up))))
            }
            // Made with the scripts themselves.
            Subject::Script(_) => self.trackers.find(subject),
            Subject::VirtualServers => {
                let state = self.ipvs;
                Some(self.trackers.row(subject, || state))
            }
        }
    }

    /// Ends an instance that the new configuration does not have.
    fn remove(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        let Some(instance) = self.instance_mut(id) else { return };
        say!(info, *instance, "removed by the new configuration");
        self.enter(moment, id, State::Init);
        // Who never started has nothing to announce.
        let waiting = matches!(self.phase, Phase::Waiting { .. });
        let Some(instance) = self.instance_mut(id) else { return };
        let word =
            if instance.config.notify_deleted { Word::Deleted } else { Word::State(State::Fault) };
        let notice = match word {
            _ if waiting => None,
            Word::State(state) if instance.announced == Some(state) => None,
            word => notify::of_instance(instance, word),
        };
        moment.out.extend(notice.map(Action::Notify));
        self.stop_listening(moment, id);
        for timer in
            [Timer::Announce(id), Timer::Notice(id), Timer::HoldDown(id), Timer::Limits(id)]
        {
            self.timers.clear(timer);
        }
        self.instances.remove(id);
        self.current = None;
    }
}

/// Whether a configuration puts an instance into another election: other routers that hear it, or none of those
/// that did. `same_link`: the names of the interfaces mean the same one.
fn is_elsewhere(old: &model::Instance, new: &model::Instance, same_link: bool) -> bool {
    (old.family, old.vrid, old.version) != (new.family, new.vrid, new.version)
        || (old.interface != new.interface && !same_link)
        || old.unicast().is_some() != new.unicast().is_some()
}

/// Which peers of a new configuration are known to use the old form of the checksum.
fn remembered(old: &model::Instance, known: &[bool], new: &model::Instance) -> Vec<bool> {
    let of = |instance: &model::Instance| -> Vec<_> {
        instance.unicast().map_or_else(Vec::new, |u| u.peers.iter().map(|p| p.address).collect())
    };
    let before: BTreeMap<_, bool> = of(old).into_iter().zip(known.iter().copied()).collect();
    of(new).iter().map(|peer| before.get(peer).copied().unwrap_or_default()).collect()
}

/// What is tracked for an instance: by itself and by its group. Where both name the same thing, the group's
/// weight counts unless it is 0. One line for each kind.
fn tracked(
    config: &model::Vrrp,
    instance: &model::Instance,
    group: Option<&model::SyncGroup>,
) -> BTreeMap<Subject, Weight> {
    let mut all = BTreeMap::new();
    let mut add = |subject: Subject, weight: Weight| {
        all.entry(subject)
            .and_modify(|w| {
                if weight != Weight::FAULT {
                    *w = weight;
                }
            })
            .or_insert(weight);
    };
    let of_group = group.map(|g| (&g.track_interfaces[..], &g.track_scripts[..]));
    let own = (&instance.track_interfaces[..], &instance.track_scripts[..]);
    for (interfaces, scripts) in [Some(own), of_group].into_iter().flatten() {
        interfaces.iter().for_each(|t| add(Subject::Interface(t.interface.clone()), t.weight));
        scripts.iter().for_each(|t| add(Subject::Script(t.script.clone()), t.weight));
    }
    if config.needs_ipvs {
        add(Subject::VirtualServers, Weight::FAULT);
    }
    all
}
