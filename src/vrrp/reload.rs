//! From one configuration to the next: what is the same before and after is not touched.
//!
//! Wanted objects are claimed again from the new configuration and then compared with the kernel, so an address that
//! stays wanted, by whichever instance, leads to no operation. Instances are matched as [`crate::model::diff`] says and
//! keep their state, timers and counters.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::auth::Sequences;
use super::event::InstanceId;
use super::fsm::Input;
use super::group::{Group, GroupId, Tally};
use super::history::{Blame, Ended, Origin, Why};
use super::instance::{Instance, Machine, say};
use super::job::{Job, Progress};
use super::notify::{self, Word};
use super::object::Claiming;
use super::script::Script;
use super::tracker::tracked;
use super::{Action, Engine, Moment, Phase, Timer};
use crate::base::{Instant, Name};
use crate::model::vrrp::Version;
use crate::model::{self, diff};
use crate::status::vrrp::State;
use crate::track::{self, Effect, Reference, Standing, Subject, TrackerId};

/// A reload in progress, stage by stage.
#[derive(Debug)]
pub(super) struct Reload {
    old: Arc<model::Vrrp>,
    new: Arc<model::Vrrp>,
    stage: Stage,
    /// Position of the next piece of the stage.
    next: usize,
    matcher: diff::Matcher,
    /// The instance of each new configuration.
    ids: Vec<Option<InstanceId>>,
    removed: Vec<InstanceId>,
    claiming: Claiming,
    /// Scripts and groups of the old configuration that have not been found in the new one.
    scripts: BTreeMap<TrackerId, Script>,
    groups: BTreeMap<Name, Group>,
    /// Members of the group that is being built, and the number of member names looked up.
    members: Vec<InstanceId>,
    seen_members: usize,
    /// The state that its members seen so far have in common, if they do.
    common: Option<Option<State>>,
    /// Scripts that may have to be started.
    idle: Vec<TrackerId>,
    /// Instances whose state is to be written to FIFOs again.
    told: Vec<InstanceId>,
}

/// In this order. All objects are claimed again from the new configuration before anything is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Match,
    /// Pairs instances with configurations and creates new instances.
    Pair,
    Leave,
    Change,
    Index,
    Claim,
    Scripts,
    /// Takes groups and their members apart,
    Disband,
    Part,
    /// and builds those of the new configuration.
    Groups,
    References,
    /// Additions first: an address that an old instance releases and a new one wants is not removed and added again.
    Added,
    StartScripts,
    /// Changes of state come before addresses are compared: an address that one instance releases and another wants is
    /// not touched.
    Reconsider,
    Remove,
    Settle,
    /// Writes all states again to FIFOs.
    Announce,
}

impl Stage {
    const fn following(self) -> Option<Self> {
        Some(match self {
            Self::Match => Self::Pair,
            Self::Pair => Self::Leave,
            Self::Leave => Self::Change,
            Self::Change => Self::Index,
            Self::Index => Self::Claim,
            Self::Claim => Self::Scripts,
            Self::Scripts => Self::Disband,
            Self::Disband => Self::Part,
            Self::Part => Self::Groups,
            Self::Groups => Self::References,
            Self::References => Self::Added,
            Self::Added => Self::StartScripts,
            Self::StartScripts => Self::Reconsider,
            Self::Reconsider => Self::Remove,
            Self::Remove => Self::Settle,
            Self::Settle => Self::Announce,
            Self::Announce => return None,
        })
    }
}

impl Reload {
    fn id(&self, position: usize) -> Option<InstanceId> {
        self.ids.get(position).copied().flatten()
    }

    /// Whether the instance of a new configuration was created by this reload.
    fn is_added(&self, position: usize) -> bool {
        self.matcher.matching().added.binary_search(&position).is_ok()
    }
}

impl Engine {
    /// Begins a reload, or the first load, of a configuration.
    pub(super) fn reload(&mut self, moment: &mut Moment<'_>, new: Arc<model::Vrrp>) {
        if matches!(self.phase, Phase::Stopping | Phase::Stopped) {
            return;
        }
        let reload = Reload {
            old: Arc::clone(&self.config),
            ids: vec![None; new.instances.len()],
            new,
            stage: Stage::Match,
            next: 0,
            matcher: diff::Matcher::default(),
            removed: Vec::new(),
            claiming: Claiming::default(),
            scripts: BTreeMap::new(),
            groups: BTreeMap::new(),
            members: Vec::new(),
            seen_members: 0,
            common: None,
            idle: Vec::new(),
            told: Vec::new(),
        };
        self.begin(moment, Job::Reload(Box::new(reload)));
    }

    /// Continues a reload by one slice.
    pub(super) fn reload_on(&mut self, moment: &mut Moment<'_>, reload: &mut Reload) -> Progress {
        while self.has_room() {
            // Work left by earlier steps, and the consequences of the last piece.
            if self.work_on(moment) {
                continue;
            }
            let position = reload.next;
            reload.next += 1;
            if self.reload_piece(moment, reload, position) {
                continue;
            }
            reload.next = 0;
            let Some(stage) = reload.stage.following() else {
                return self.reloaded(moment);
            };
            reload.stage = stage;
        }
        Progress::Sliced
    }

    fn reloaded(&mut self, moment: &mut Moment<'_>) -> Progress {
        if let Phase::Waiting { seen, .. } = self.phase {
            self.phase = Phase::Waiting { configured: true, seen };
            return self.start();
        }
        moment.out.push(Action::Report);
        Progress::Complete
    }

    /// One piece of a stage. False if there is none at this position: the stage is complete.
    fn reload_piece(&mut self, moment: &mut Moment<'_>, r: &mut Reload, position: usize) -> bool {
        let waiting = matches!(self.phase, Phase::Waiting { .. });
        self.spend(1);
        match r.stage {
            Stage::Match => {
                // Not at the end of a reload: objects under the former name may not be removed yet.
                if position == 0 {
                    self.forget_names();
                }
                r.matcher.step(&r.old, &r.new)
            }
            Stage::Pair => self.pair(moment, r, position),
            Stage::Leave => self.note_removed(r, position),
            Stage::Change => self.change_one(moment, r, position),
            Stage::Index => {
                if position == 0 {
                    self.instances.begin_index();
                }
                if let Some(id) = r.id(position) {
                    self.instances.index(id);
                }
                position < r.ids.len()
            }
            Stage::Claim => {
                let new = Arc::clone(&r.new);
                self.claim_some(&mut r.claiming, &new, &r.ids)
            }
            Stage::Scripts => self.rebuild_script(moment, r, position),
            // Their positions change.
            Stage::Disband if !self.correcting.is_empty() => {
                self.correcting.clear();
                true
            }
            Stage::Disband => match self.groups.pop() {
                Some(group) => {
                    r.groups.insert(group.config.name.clone(), group);
                    true
                }
                None => false,
            },
            Stage::Part => self.part(r, position),
            Stage::Groups => self.rebuild_group(r),
            Stage::References => {
                let more = self.rebuild_references(r, position);
                if !more {
                    self.await_reports(moment);
                }
                more
            }
            Stage::Added if waiting => false,
            Stage::Added => self.begin_added(moment, r, position),
            Stage::StartScripts if waiting => false,
            Stage::StartScripts => {
                if position == 0 {
                    r.idle = self.scripts.keys().rev().copied().collect();
                }
                r.idle.pop().inspect(|id| self.start_script(moment, *id)).is_some()
            }
            Stage::Reconsider if waiting => false,
            Stage::Reconsider => {
                if position == 0 {
                    self.reconsider_all(moment, r.ids.iter().flatten().copied().collect());
                }
                position == 0
            }
            Stage::Remove => match r.removed.get(position).copied() {
                Some(id) => {
                    self.spend(2);
                    self.remove(moment, id);
                    true
                }
                None => false,
            },
            Stage::Settle if waiting => false,
            Stage::Settle => {
                let entries = self.objects.ids();
                self.settle(moment, &entries);
                false
            }
            Stage::Announce if waiting || !self.config.fifo_states_on_reload => false,
            Stage::Announce => {
                if position == 0 {
                    r.told = self.instances.ids();
                }
                match r.told.get(position) {
                    Some(id) => self.announce_again_to_fifos(moment, *id),
                    None => self.announce_group_again(moment, position - r.told.len()),
                }
            }
        }
    }

    /// Finds or creates the instance of a new configuration.
    fn pair(&mut self, moment: &Moment<'_>, r: &mut Reload, position: usize) -> bool {
        let matching = r.matcher.matching();
        let kept = matching.kept.get(position).copied();
        if let Some((before, after)) = kept {
            let name = r.old.instances.get(before).map(|i| &i.name);
            let id = name.and_then(|name| self.instances.named(name));
            debug_assert!(id.is_some(), "each configuration has its instance");
            if let Some(slot) = r.ids.get_mut(after) {
                *slot = id;
            }
            return true;
        }
        let position = position - matching.kept.len();
        let Some(added) = matching.added.get(position).copied() else { return false };
        if let Some(config) = r.new.instances.get(added) {
            let id = self.instances.add(|id| Instance::new(id, config.clone(), moment.now));
            if self.running()
                && let Some(instance) = self.instances.get_mut(id)
            {
                instance.history.origin = Origin::Added;
            }
            if let Some(slot) = r.ids.get_mut(added) {
                *slot = Some(id);
            }
        }
        true
    }

    fn note_removed(&self, r: &mut Reload, position: usize) -> bool {
        let Some(before) = r.matcher.matching().removed.get(position) else { return false };
        let name = r.old.instances.get(*before).map(|i| &i.name);
        r.removed.extend(name.and_then(|name| self.instances.named(name)));
        true
    }

    fn change_one(&mut self, moment: &mut Moment<'_>, r: &Reload, position: usize) -> bool {
        if position == 0 {
            self.config = Arc::clone(&r.new);
        }
        let Some(config) = r.new.instances.get(position) else { return false };
        let Some(id) = r.id(position) else { return true };
        let same = self.instance(id).is_some_and(|i| i.config == *config);
        if !same || r.is_added(position) {
            self.spend(2 + config.addresses.len() / 4 + config.excluded.len() / 4);
            self.change(moment, id, config);
        }
        true
    }

    /// Starts an instance that only the new configuration has.
    fn begin_added(&mut self, moment: &mut Moment<'_>, r: &Reload, position: usize) -> bool {
        let Some(added) = r.matcher.matching().added.get(position).copied() else { return false };
        if let Some(id) = r.id(added) {
            self.look_for_own(id, None);
            self.choose_source(moment, id);
            self.look_for_retained(id);
        }
        true
    }

    /// Gives an instance its new configuration.
    fn change(&mut self, moment: &mut Moment<'_>, id: InstanceId, new: &model::Instance) {
        let Some(instance) = self.instance(id) else { return };
        let renamed = instance.link.is_some() && instance.link == self.link_index(&new.interface);
        let elsewhere = is_elsewhere(&instance.config, new, renamed);
        if instance.state() != State::Init && elsewhere {
            self.move_away(moment, id, new);
        }
        self.rename_links(id, new);
        let Some(instance) = self.instance_mut(id) else { return };
        let old = core::mem::replace(&mut instance.config, new.clone());
        instance.advertised = new.addresses.iter().map(|a| a.prefix.address).collect();
        instance.old_checksums = remembered(&old, &instance.old_checksums, new);
        //= rfc9568 6.1: Active_Adver_Interval: contained in advertisements received from the Active Router
        // The interval that a backup has learned is its master's, whatever its own is now.
        let learned = new.version == Version::V3 && instance.master.is_some();
        if old.advert_int != new.advert_int && !learned {
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
        if old.garp.refresh != new.garp.refresh || old.garp_extra() != new.garp_extra() {
            self.announce_otherwise(moment.now, id);
        }
        let wanted = self.link_index(&new.interface);
        let upper = new.own_link().and_then(|link| self.link_index(&link.name));
        if let Some(instance) = self.instance_mut(id) {
            (instance.link, instance.upper) = (wanted, upper);
        }
        self.choose_source(moment, id);
    }

    /// Takes an instance out of its election while it still has the old configuration: routers there need not wait for
    /// the master-down timer, and it does not take over from routers of the new election.
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
        self.follow(moment, id, Input::Shutdown, &Blame::Own(Why::Moved));
        if let Some(instance) = self.instance_mut(id) {
            instance.was_master = false;
            instance.sequences = Sequences::default();
            instance.senders.clear();
            instance.history.origin = Origin::Moved;
            instance.master_interval = new.advert_int;
            instance.last_sent_from = None;
        }
        self.recount(id);
    }

    /// Applies a new interval: a master keeps the phase of its adverts, and the time a backup has waited counts.
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

    /// A script with the same command and user continues; a different one starts with the condition of its predecessor.
    fn rebuild_script(&mut self, moment: &mut Moment<'_>, r: &mut Reload, position: usize) -> bool {
        if position == 0 {
            r.scripts = core::mem::take(&mut self.scripts);
        }
        let Some(config) = r.new.scripts.get(position) else {
            let Some((id, script)) = r.scripts.pop_first() else { return false };
            self.end_script(moment, &script);
            self.timers.clear(Timer::Script(id));
            return true;
        };
        let subject = Subject::Script(config.name.clone());
        let id = self.trackers.row(&subject, || track::State::Unknown);
        let script = match r.scripts.remove(&id) {
            Some(mut known) if known.config.command == config.command => {
                known.config = config.clone();
                known
            }
            other => {
                let mut script = Script::new(config.clone(), other.as_ref());
                if other.is_none() {
                    script = script.resumed(self.resumed_script(&config.name));
                }
                if let Some(other) = other {
                    self.end_script(moment, &other);
                }
                // Instances that refer to it are updated when the references are rebuilt.
                self.trackers.set(id, script.state());
                self.timers.clear(Timer::Script(id));
                script
            }
        };
        self.scripts.insert(id, script);
        true
    }

    fn part(&mut self, r: &Reload, position: usize) -> bool {
        let removed = position.checked_sub(r.ids.len());
        let id = match removed {
            None => r.id(position),
            Some(position) => r.removed.get(position).copied(),
        };
        if let Some(instance) = id.and_then(|id| self.instances.get_mut(id)) {
            instance.group = None;
            instance.counted = Tally::default();
        }
        removed.is_none_or(|position| position < r.removed.len())
    }

    /// Adds a member to the group that is being built, or completes the group.
    fn rebuild_group(&mut self, r: &mut Reload) -> bool {
        let Some(config) = r.new.groups.get(self.groups.len()) else { return false };
        let id = GroupId(u32::try_from(self.groups.len()).unwrap_or(u32::MAX));
        if let Some(name) = config.members.get(r.seen_members) {
            r.seen_members += 1;
            if let Some(member) = self.instances.named(name) {
                r.members.push(member);
                if let Some(instance) = self.instances.get_mut(member) {
                    instance.group = Some(id);
                    let state = Some(instance.state());
                    r.common =
                        Some(r.common.map_or(state, |common| common.filter(|_| common == state)));
                }
            }
            return true;
        }
        r.seen_members = 0;
        let (members, common) = (core::mem::take(&mut r.members), r.common.take());
        let group = match r.groups.remove(&config.name) {
            Some(group) => group.renewed(config.clone(), members),
            None => {
                // A group of running instances has their state.
                let mut group = Group::new(config.clone(), members);
                group.state = common.flatten().unwrap_or(group.state);
                group
            }
        };
        self.groups.push(group);
        true
    }

    /// Works out what an instance depends on.
    fn rebuild_references(&mut self, r: &Reload, position: usize) -> bool {
        if position == 0 {
            self.trackers.release_all();
        }
        let Some(config) = r.new.instances.get(position) else {
            self.trackers.collect(|id, _| self.scripts.contains_key(&id));
            return false;
        };
        let Some(id) = r.id(position) else { return true };
        if let Some(group) = self.instance(id).and_then(|i| i.group).and_then(|g| self.group_mut(g))
        {
            group.shortest = group.shortest.min(config.advert_int);
            group.frames = group.frames.saturating_add(config.frames_after_lower());
        }
        let group = self.instance(id).and_then(|i| self.group(i.group?));
        let mut references = Vec::new();
        let mut standing = Standing::default();
        for (subject, weight) in tracked(&r.new, config, group.map(|g| &g.config)) {
            self.spend(1);
            let Some(tracker) = self.row(&subject) else { continue };
            let reference = Reference { tracker, weight };
            self.trackers.refer(id, reference);
            standing.add(Effect::of(self.trackers.state(tracker), weight));
            references.push(reference);
        }
        if let Some(instance) = self.instances.get_mut(id) {
            if instance.standing.faults > 0 && standing.faults == 0 {
                instance.history.ended = Some(Ended::Reload);
            }
            instance.references = references;
            instance.standing = standing;
        }
        self.refresh(id);
        self.recount(id);
        true
    }

    /// The row of a tracked object.
    fn row(&mut self, subject: &Subject) -> Option<TrackerId> {
        match subject {
            Subject::Interface(name) => {
                let up = self.is_up(name);
                Some(self.trackers.row(subject, || track::State::of(Some(up))))
            }
            // Created with the scripts themselves.
            Subject::Script(_) => self.trackers.find(subject),
            Subject::File(_) | Subject::Process(_) | Subject::Bfd(_) => {
                let state = self.reported(subject);
                Some(self.trackers.row(subject, || state))
            }
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
        self.follow(moment, id, Input::Shutdown, &Blame::Own(Why::Stopped));
        // An instance that never started has nothing to announce.
        let waiting = matches!(self.phase, Phase::Waiting { .. });
        let settings = Arc::clone(&self.config);
        let Some(instance) = self.instance_mut(id) else { return };
        let word =
            if instance.config.notify_deleted { Word::Deleted } else { Word::State(State::Fault) };
        let notice = match word {
            _ if waiting => None,
            Word::State(state) if instance.announced == Some(state) => None,
            word => notify::of_instance(instance, word, &settings),
        };
        moment.out.extend(notice.map(Action::Notify));
        self.stop_listening(moment, id);
        if let Some(instance) = self.instance(id) {
            self.receive_buffer -= u64::from(instance.receive_buffer);
        }
        for timer in
            [Timer::Announce(id), Timer::Notice(id), Timer::HoldDown(id), Timer::Limits(id)]
        {
            self.timers.clear(timer);
        }
        self.instances.remove(id);
        self.current = None;
    }
}

/// Whether a configuration moves an instance to a different election, with other routers. `same_link`: both interface
/// names refer to the same interface.
fn is_elsewhere(old: &model::Instance, new: &model::Instance, same_link: bool) -> bool {
    (old.family, old.vrid, old.version) != (new.family, new.vrid, new.version)
        || (old.interface != new.interface && !same_link)
        || old.unicast().is_some() != new.unicast().is_some()
}

/// For each peer of a new configuration, whether it is known to use the old form of the checksum.
fn remembered(old: &model::Instance, known: &[bool], new: &model::Instance) -> Vec<bool> {
    let of = |instance: &model::Instance| -> Vec<_> {
        instance.unicast().map_or_else(Vec::new, |u| u.peers.iter().map(|p| p.address).collect())
    };
    let before: BTreeMap<_, bool> = of(old).into_iter().zip(known.iter().copied()).collect();
    of(new).iter().map(|peer| before.get(peer).copied().unwrap_or_default()).collect()
}
