//! From one configuration to the next: what is the same before and after is not touched.
//!
//! Wanted objects are claimed anew by the new configuration and then compared with what is there, so an
//! address that stays wanted, by whichever instance, leads to no operation. Instances are matched as
//! [`crate::model::diff`] says and keep their state, timers and counters.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::InstanceId;
use super::group::Group;
use super::instance::{Instance, Machine, say};
use super::notify::{self, Word};
use super::script::Script;
use super::{Action, Cx, Engine, Phase, Timer};
use crate::base::{IfName, Instant, Name};
use crate::model::{self, Weight, diff};
use crate::status::vrrp::State;

impl Engine {
    /// Takes a new configuration, or the first one.
    pub(super) fn reload(&mut self, cx: &mut Cx<'_>, new: Arc<model::Vrrp>) {
        if matches!(self.phase, Phase::Stopping | Phase::Stopped) {
            return;
        }
        let old = core::mem::replace(&mut self.config, Arc::clone(&new));
        let matching = diff::instances(&old, &new);
        let mut ids: Vec<Option<InstanceId>> = vec![None; new.instances.len()];
        let removed: Vec<InstanceId> = matching
            .removed
            .iter()
            .filter_map(|n| old.instances.get(*n))
            .filter_map(|i| self.by_name.get(&i.name).copied())
            .collect();
        for (before, after) in &matching.kept {
            let id = old.instances.get(*before).and_then(|i| self.by_name.get(&i.name)).copied();
            if let (Some(id), Some(slot)) = (id, ids.get_mut(*after)) {
                *slot = Some(id);
            }
        }
        // Group memberships and claims are made anew, so nothing of the old may stay.
        for position in &matching.added {
            let Some(config) = new.instances.get(*position) else { continue };
            let number = u32::try_from(self.instances.vacant_key()).unwrap_or(u32::MAX);
            let id = InstanceId(number);
            self.instances.insert(Instance::new(id, config.clone(), cx.now));
            if let Some(slot) = ids.get_mut(*position) {
                *slot = Some(id);
            }
        }
        for (id, config) in ids.iter().zip(&new.instances) {
            if let Some(id) = id {
                self.change(cx, *id, config);
            }
        }
        self.by_name = new
            .instances
            .iter()
            .zip(&ids)
            .filter_map(|(config, id)| Some((config.name.clone(), (*id)?)))
            .collect();
        self.claim_objects(&new, &ids);
        self.rebuild_scripts(&new);
        self.rebuild_groups(&new);
        self.rebuild_trackers(&new, &ids);
        if let Phase::Waiting { seen, .. } = self.phase {
            self.phase = Phase::Waiting { configured: true, seen };
            self.start(cx);
            return;
        }
        // Additions first: what an old instance leaves and a new one wants is not to go and come.
        for position in &matching.added {
            if let Some(Some(id)) = ids.get(*position) {
                self.choose_source(*id);
                self.look_for_leftovers(*id);
            }
        }
        self.start_scripts(cx);
        for id in ids.iter().flatten() {
            self.reconsider(cx, *id);
        }
        for id in removed {
            self.remove(cx, id);
        }
        let entries = self.objects.ids();
        self.settle(cx, &entries);
        cx.out.push(Action::Report);
    }

    /// Gives an instance its new configuration.
    fn change(&mut self, cx: &mut Cx<'_>, id: InstanceId, new: &model::Instance) {
        let Some(instance) = self.instance_mut(id) else { return };
        let old = core::mem::replace(&mut instance.config, new.clone());
        instance.advertised = new.addresses.iter().map(|a| a.prefix.address).collect();
        let socket = (&old.interface, old.family, old.vrid, old.destination)
            != (&new.interface, new.family, new.vrid, new.destination);
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
            self.retime(cx, id, old.advert_int);
        }
        let bound = self.instance(id).and_then(|i| i.link);
        let wanted = self.link_index(&new.interface);
        if socket || bound != wanted {
            // Listen to the new before leaving the old.
            let key = bound.map(|index| (index, old.family, old.vrid));
            if key.is_some_and(|key| self.by_key.get(&key) == Some(&id)) {
                key.and_then(|key| self.by_key.remove(&key));
            }
            self.join_moved(cx, id, wanted, new);
            if let Some(index) = bound {
                self.leave(cx, index, old.destination);
            }
        }
        self.choose_source(id);
    }

    fn join_moved(
        &mut self,
        cx: &mut Cx<'_>,
        id: InstanceId,
        index: Option<crate::base::IfIndex>,
        new: &model::Instance,
    ) {
        if let Some(index) = index {
            self.by_key.insert((index, new.family, new.vrid), id);
            self.join(cx, index, new.destination);
        }
        if let Some(instance) = self.instance_mut(id) {
            instance.link = index;
        }
    }

    /// Applies a new interval: a master keeps the phase of its adverts, a backup has waited what it waited.
    fn retime(&mut self, cx: &Cx<'_>, id: InstanceId, old_interval: core::time::Duration) {
        let Some(instance) = self.instance_mut(id) else { return };
        let due: Instant = match instance.machine {
            Machine::Master { next_advert } => {
                let last = next_advert - old_interval;
                let next = (last + instance.config.advert_int).max(cx.now);
                instance.machine = Machine::Master { next_advert: next };
                next
            }
            Machine::Backup { .. } => {
                let master_down = cx.now + instance.master_down();
                instance.machine = Machine::Backup { master_down };
                master_down
            }
            Machine::Init | Machine::Fault => return,
        };
        self.set_timer(Timer::Protocol, id.0, Some(due));
    }

    /// A script that is the same command for the same user keeps its condition.
    fn rebuild_scripts(&mut self, new: &model::Vrrp) {
        let mut old: BTreeMap<Name, u32> = self
            .scripts
            .iter()
            .filter_map(|(id, s)| Some((s.config.name.clone(), u32::try_from(id).ok()?)))
            .collect();
        for config in &new.scripts {
            let known = old.remove(&config.name);
            match known.and_then(|id| self.scripts.get_mut(id as usize)) {
                Some(script) if script.config.command == config.command => {
                    script.config = config.clone();
                }
                Some(script) => {
                    *script = Script::new(config.clone());
                    if let Some(id) = known {
                        self.timers.clear(Timer::Script.key(id));
                    }
                }
                None => {
                    self.scripts.insert(Script::new(config.clone()));
                }
            }
        }
        for id in old.into_values() {
            self.scripts.remove(id as usize);
            self.timers.clear(Timer::Script.key(id));
        }
    }

    fn rebuild_groups(&mut self, new: &model::Vrrp) {
        let mut old: BTreeMap<Name, Group> =
            self.groups.drain(..).map(|g| (g.config.name.clone(), g)).collect();
        for (_, instance) in &mut self.instances {
            instance.group = None;
        }
        for config in &new.groups {
            let members: Vec<InstanceId> =
                config.members.iter().filter_map(|name| self.by_name.get(name).copied()).collect();
            for id in &members {
                if let Some(instance) = self.instances.get_mut(id.0 as usize) {
                    instance.group = Some(self.groups.len());
                }
            }
            let group = match old.remove(&config.name) {
                Some(group) => Group { config: config.clone(), members, ..group },
                None => {
                    // A group made of instances that run already has the state they have.
                    let mut group = Group::new(config.clone(), members);
                    let states = group.members.iter().filter_map(|id| self.instance(*id));
                    let mut states = states.map(Instance::state);
                    if let Some(first) = states.next()
                        && states.all(|s| s == first)
                    {
                        group.state = first;
                    }
                    group
                }
            };
            self.groups.push(group);
        }
    }

    /// Works out what each instance depends on: its own trackers and those of its group. Where both name the
    /// same thing, the group's weight counts unless it is 0.
    fn rebuild_trackers(&mut self, new: &model::Vrrp, ids: &[Option<InstanceId>]) {
        let numbers: BTreeMap<Name, u32> = self
            .scripts
            .iter()
            .filter_map(|(id, s)| Some((s.config.name.clone(), u32::try_from(id).ok()?)))
            .collect();
        for (_, script) in &mut self.scripts {
            script.users.clear();
        }
        self.watchers.clear();
        for (config, id) in new.instances.iter().zip(ids) {
            let Some(id) = id else { continue };
            let group = self.instance(*id).and_then(|i| self.groups.get(i.group?));
            let mut scripts: BTreeMap<u32, Weight> = BTreeMap::new();
            let mut interfaces: BTreeMap<IfName, Weight> = BTreeMap::new();
            let group_scripts =
                group.map(|g| g.config.track_scripts.as_slice()).unwrap_or_default();
            for tracked in config.track_scripts.iter().chain(group_scripts) {
                if let Some(number) = numbers.get(&tracked.script) {
                    merge(&mut scripts, *number, tracked.weight);
                }
            }
            let group_interfaces =
                group.map(|g| g.config.track_interfaces.as_slice()).unwrap_or_default();
            for tracked in config.track_interfaces.iter().chain(group_interfaces) {
                merge(&mut interfaces, tracked.interface.clone(), tracked.weight);
            }
            for number in scripts.keys() {
                if let Some(script) = self.scripts.get_mut(*number as usize) {
                    script.users.push(*id);
                }
            }
            for name in interfaces.keys().chain(core::iter::once(&config.interface)) {
                let watchers = self.watchers.entry(name.clone()).or_default();
                if watchers.last() != Some(id) {
                    watchers.push(*id);
                }
            }
            if let Some(instance) = self.instances.get_mut(id.0 as usize) {
                instance.scripts = scripts.into_iter().collect();
                instance.interfaces = interfaces.into_iter().collect();
            }
        }
    }

    /// Ends an instance that the new configuration does not have.
    fn remove(&mut self, cx: &mut Cx<'_>, id: InstanceId) {
        let Some(instance) = self.instance_mut(id) else { return };
        say!(info, *instance, "removed by the new configuration");
        if instance.is_master() {
            self.send_advert(cx, id, 0);
        }
        let Some(instance) = self.instance_mut(id) else { return };
        let (family, vrid) = (instance.config.family, instance.config.vrid);
        let (link, destination) = (instance.link, instance.config.destination);
        instance.machine = Machine::Fault;
        instance.holds_leftovers = false;
        let word =
            if instance.config.notify_deleted { Word::Deleted } else { Word::State(State::Fault) };
        let notice = match word {
            Word::State(state) if instance.announced == Some(state) => None,
            word => notify::of_instance(instance, word),
        };
        cx.out.extend(notice.map(Action::Notify));
        if let Some(index) = link {
            if self.by_key.get(&(index, family, vrid)) == Some(&id) {
                self.by_key.remove(&(index, family, vrid));
            }
            self.leave(cx, index, destination);
        }
        for kind in [Timer::Protocol, Timer::Announce, Timer::Notice] {
            self.timers.clear(kind.key(id.0));
        }
        self.instances.try_remove(id.0 as usize);
        self.current = None;
    }
}

fn merge<K: Ord>(all: &mut BTreeMap<K, Weight>, key: K, weight: Weight) {
    all.entry(key)
        .and_modify(|w| {
            if !matches!(weight, Weight::Fault { reverse: false }) {
                *w = weight;
            }
        })
        .or_insert(weight);
}
