//! Sync groups: instances that are master together or not at all.
//!
//! What a decision needs to know about all members is counted as it changes ([`Counts`]), never computed on demand. A
//! change of state reaches the members one after the other in a [`Walk`], in slices, so that a large group does not
//! delay the adverts of others.

use core::time::Duration;
use std::sync::Arc;

use super::event::InstanceId;
use super::fsm::{self, Input, Step};
use super::health::Health;
use super::history::{Blame, Why};
use super::instance::Instance;
use super::limit::Pace;
use super::notify::{self, Word};
use super::{Action, Engine, Moment};
use crate::base::{Instant, Name};
use crate::model;
use crate::status::cause::Cause;
use crate::status::vrrp::State;

/// Pieces of a job (see `job::EFFORT`) that a change of state costs.
const ENTRY: usize = 3;

/// Position in the list of groups; stable from one reload to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupId(pub u32);

/// A running sync group.
#[derive(Debug)]
pub(super) struct Group {
    pub config: model::SyncGroup,
    pub members: Vec<InstanceId>,
    pub counts: Counts,
    /// The shortest advert interval of its members.
    pub shortest: Duration,
    /// Frames of one set of announcements of all members after an advert of lower priority.
    pub frames: u32,
    /// The rate of these sets.
    pub sets: Pace,
    /// A change of state that has not reached all members.
    walk: Option<Walk>,
    pub state: State,
    /// A state to announce after those of the members.
    pub unannounced: Option<State>,
    pub announced: Option<State>,
    pub mailed: Option<State>,
}

/// What a group has counted for one member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    init: bool,
    fault: bool,
    master: bool,
    /// Master, or ready to become master.
    ready: bool,
    unfit: bool,
    unknown: bool,
    unannounced: bool,
    owner: bool,
    was_master: bool,
}

/// Numbers of members by property.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub init: u32,
    pub fault: u32,
    pub masters: u32,
    pub ready: u32,
    pub unfit: u32,
    pub unknown: u32,
    pub unannounced: u32,
    /// Members that own their addresses and start as master.
    pub owners: u32,
    /// Members that were master in the previous process.
    pub were_master: u32,
}

/// The progress of a change of state through the members.
#[derive(Clone, Debug)]
struct Walk {
    input: Input,
    /// The member that the others follow, and why that one changes its state, once that is known.
    led: Option<Arc<(Name, Cause)>>,
    /// Position of the next member; counted further in a second round.
    next: usize,
}

impl Tally {
    fn of(instance: &Instance) -> Self {
        let (state, health) = (instance.state(), instance.health());
        Self {
            init: state == State::Init,
            fault: state == State::Fault,
            master: state == State::Master,
            ready: state == State::Master || instance.willing,
            unfit: health == Health::Unfit,
            unknown: health == Health::Unknown,
            unannounced: instance.unannounced.is_some(),
            owner: instance.owns_and_starts(),
            was_master: instance.was_master,
        }
    }
}

impl Counts {
    fn replace(&mut self, before: Tally, after: Tally) {
        for (count, before, after) in [
            (&mut self.init, before.init, after.init),
            (&mut self.fault, before.fault, after.fault),
            (&mut self.masters, before.master, after.master),
            (&mut self.ready, before.ready, after.ready),
            (&mut self.unfit, before.unfit, after.unfit),
            (&mut self.unknown, before.unknown, after.unknown),
            (&mut self.unannounced, before.unannounced, after.unannounced),
            (&mut self.owners, before.owner, after.owner),
            (&mut self.were_master, before.was_master, after.was_master),
        ] {
            *count = (*count + u32::from(after)).saturating_sub(u32::from(before));
        }
    }

    /// The worst health of the members.
    const fn health(&self) -> Health {
        if self.unfit > 0 {
            Health::Unfit
        } else if self.unknown > 0 {
            Health::Unknown
        } else {
            Health::Fit
        }
    }
}

impl Group {
    pub fn new(config: model::SyncGroup, members: Vec<InstanceId>) -> Self {
        Self {
            config,
            members,
            counts: Counts::default(),
            shortest: Duration::MAX,
            frames: 0,
            sets: Pace::default(),
            walk: None,
            state: State::Init,
            unannounced: None,
            announced: None,
            mailed: None,
        }
    }

    /// The same group with the members and settings of a new configuration; counters start at zero.
    pub fn renewed(self, config: model::SyncGroup, members: Vec<InstanceId>) -> Self {
        let (counts, shortest) = (Counts::default(), Duration::MAX);
        Self { config, members, counts, shortest, frames: 0, walk: None, ..self }
    }

    /// Whether this is the number of all members.
    fn is_all(&self, count: u32) -> bool {
        count as usize == self.members.len()
    }
}

impl Engine {
    pub(super) fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(id.0 as usize)
    }

    pub(super) fn group_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.groups.get_mut(id.0 as usize)
    }

    fn group_of(&self, id: InstanceId) -> Option<(GroupId, &Group)> {
        let group = self.instance(id)?.group?;
        Some((group, self.group(group)?))
    }

    /// Whether an instance and its whole group own their addresses and start as master.
    pub(super) fn all_own(&self, id: InstanceId) -> bool {
        match self.group_of(id) {
            Some((_, group)) => group.is_all(group.counts.owners),
            None => self.instance(id).is_some_and(Instance::owns_and_starts),
        }
    }

    /// Whether an instance and its whole group were master in the previous process of this role so recently that no
    /// backup can have taken over.
    pub(super) fn all_were_master(&self, id: InstanceId, now: Instant) -> bool {
        match self.group_of(id) {
            Some((_, group)) => {
                group.is_all(group.counts.were_master) && self.is_recent(group.shortest, now)
            }
            None => self.instance(id).is_some_and(|i| self.was_master_until(i, now)),
        }
    }

    /// Updates the counters of the group of an instance: to be called after each change of its state, health,
    /// willingness or announcements.
    pub(super) fn recount(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let after = Tally::of(instance);
        let before = core::mem::replace(&mut instance.counted, after);
        if before != after
            && let Some(group) = instance.group
            && let Some(group) = self.group_mut(group)
        {
            group.counts.replace(before, after);
        }
    }

    /// The health of an instance together with its group.
    pub(super) fn common_health(&self, id: InstanceId) -> Health {
        match self.group_of(id) {
            Some((_, group)) => group.counts.health(),
            None => self.instance(id).map_or(Health::Fit, Instance::health),
        }
    }

    /// Whether a member whose master-down timer expired may become master: every other member is master or ready to
    /// become master. The member itself counts as willing.
    pub(super) fn all_ready(&self, id: InstanceId) -> bool {
        self.group_of(id).is_none_or(|(_, group)| group.is_all(group.counts.ready))
    }

    /// Whether some member of the group of an instance is master.
    pub(super) fn any_master(&self, id: InstanceId) -> bool {
        match self.group_of(id) {
            Some((_, group)) => group.counts.masters > 0,
            None => self.instance(id).is_some_and(Instance::is_master),
        }
    }

    /// Whether an instance and its whole group have not started.
    pub(super) fn all_in_init(&self, id: InstanceId) -> bool {
        match self.group_of(id) {
            Some((_, group)) => group.is_all(group.counts.init),
            None => self.instance(id).is_some_and(|i| i.state() == State::Init),
        }
    }

    /// Whether an instance, or any member of its group, does not take part yet.
    pub(super) fn any_waits(&self, id: InstanceId) -> bool {
        match self.group_of(id) {
            Some((_, group)) => group.counts.init > 0 || group.counts.fault > 0,
            None => {
                self.instance(id).is_some_and(|i| matches!(i.state(), State::Init | State::Fault))
            }
        }
    }

    /// Whether an instance and its whole group are in FAULT.
    pub(super) fn all_in_fault(&self, id: InstanceId) -> bool {
        match self.group_of(id) {
            Some((_, group)) => group.is_all(group.counts.fault),
            None => self.instance(id).is_some_and(|i| i.state() == State::Fault),
        }
    }

    /// The change of state that is in progress in the group of an instance.
    pub(super) fn under_way(&self, id: InstanceId) -> Option<Input> {
        self.group_of(id).and_then(|(_, group)| group.walk.as_ref()).map(|walk| walk.input)
    }

    /// Applies `input` to an instance, for this reason, and then to the other members of its group.
    pub(super) fn lead(&mut self, moment: &mut Moment<'_>, id: InstanceId, input: Input, why: Why) {
        // The member that has the fault goes first.
        let first =
            input != Input::Unfit || self.instance(id).is_some_and(|i| i.health() == Health::Unfit);
        let group = self.instance(id).and_then(|i| i.group);
        let led = group.filter(|_| first).and_then(|_| self.led(moment, id, why));
        if first {
            self.follow(moment, id, input, &Blame::Own(why));
        }
        let Some(group) = group else { return };
        if let Some(entry) = self.group_mut(group)
            && entry.walk.replace(Walk { input, led, next: 0 }).is_none()
        {
            self.walking.push_back(group);
        }
        self.walk(moment);
    }

    /// Applies `input` to this instance alone: the only caller of [`Engine::enter`], so that no state is entered that the
    /// transition table does not give.
    pub(super) fn follow(
        &mut self,
        moment: &mut Moment<'_>,
        id: InstanceId,
        input: Input,
        blame: &Blame,
    ) {
        let Some(state) = self.instance(id).map(Instance::state) else { return };
        if let Step::Enter(to) = fsm::step(state, input) {
            if input == Input::Unfit {
                self.log_faults(id);
            }
            self.spend(ENTRY);
            let cause = self.cause_of(moment.now, id, blame);
            self.enter(moment, id, cause, to);
        }
    }

    /// A member and the cause of its change of state, for the others.
    fn led(&self, moment: &Moment<'_>, id: InstanceId, why: Why) -> Option<Arc<(Name, Cause)>> {
        let name = self.instance(id)?.config.name.clone();
        Some(Arc::new((name, self.cause(moment.now, id, why))))
    }

    /// Continues changes of state through their groups, up to one slice.
    pub(super) fn walk(&mut self, moment: &mut Moment<'_>) {
        while self.may_go_on()
            && let Some(group) = self.walking.front().copied()
        {
            if self.walk_on(moment, group) {
                self.walking.pop_front();
            }
        }
        if !self.walking.is_empty() {
            self.go_on_later(moment);
        }
    }

    /// True when the change has reached all members.
    fn walk_on(&mut self, moment: &mut Moment<'_>, id: GroupId) -> bool {
        while self.may_go_on() {
            let Some(group) = self.group_mut(id) else { return true };
            let Some(walk) = &mut group.walk else { return true };
            let (input, count, next) = (walk.input, group.members.len(), walk.next);
            // Members with a fault of their own go to FAULT before those that follow them.
            let rounds = if input == Input::Unfit { 2 } else { 1 };
            if count == 0 || next >= count * rounds {
                group.walk = None;
                self.group_entered(moment, id, input);
                return true;
            }
            walk.next += 1;
            self.spend(1);
            let Some(group) = self.group(id) else { return true };
            let Some(member) = group.members.get(next % count).copied() else { continue };
            let is_unfit = |i: &Instance| i.health() == Health::Unfit;
            if input == Input::Unfit && self.instance(member).is_some_and(is_unfit) {
                self.blame(moment, id, member);
                self.follow(moment, member, input, &Blame::Own(Why::Health));
            } else if next >= count * (rounds - 1) {
                let walk = self.group(id).and_then(|group| group.walk.as_ref());
                let blame = match walk.and_then(|walk| walk.led.clone()) {
                    // All members start.
                    Some(led) if matches!(led.1, Cause::Owner | Cause::Resumed) => {
                        Blame::Own(Why::Start)
                    }
                    Some(led) if !led.1.is_of_configuration() => Blame::Member(led),
                    _ => Blame::Own(Why::Health),
                };
                self.follow(moment, member, input, &blame);
            }
        }
        false
    }

    /// The members without a fault of their own follow this one, unless another one is known.
    fn blame(&mut self, moment: &Moment<'_>, id: GroupId, member: InstanceId) {
        let open = |group: &Group| group.walk.as_ref().is_some_and(|walk| walk.led.is_none());
        if self.group(id).is_some_and(open) {
            let led = self.led(moment, member, Why::Health);
            if let Some(walk) = self.group_mut(id).and_then(|group| group.walk.as_mut()) {
                walk.led = led;
            }
        }
    }

    /// Notes and logs the state of a group after its members changed theirs.
    fn group_entered(&mut self, moment: &mut Moment<'_>, id: GroupId, input: Input) {
        let state = match input {
            Input::Rise => State::Master,
            Input::Unfit => State::Fault,
            _ => State::Backup,
        };
        let Some(group) = self.group_mut(id) else { return };
        // A member that joins a group of masters waits as backup for its turn; the others keep their state.
        let joins = input == Input::Fit && group.counts.masters > 0;
        if group.state == state || joins {
            return;
        }
        group.state = state;
        group.unannounced = Some(state);
        tracing::info!(
            state = state.word(),
            "VRRP_Group({}) Syncing instances to {state} state",
            group.config.name
        );
        self.announce_group(moment, id);
    }

    /// Announces the state of a group once all its members have announced theirs.
    pub(super) fn announce_group(&mut self, moment: &mut Moment<'_>, id: GroupId) {
        let settings = Arc::clone(&self.config);
        let Some(group) = self.group_mut(id).filter(|g| g.counts.unannounced == 0) else { return };
        let Some(state) = group.unannounced.take() else { return };
        if group.announced.replace(state) == Some(state) {
            return;
        }
        if let Some(notice) = notify::of_group(group, Word::State(state), &settings) {
            moment.out.push(Action::Notify(notice));
        }
        moment.out.push(Action::Report);
    }

    /// Checks that the counters of groups match their members. For tests.
    #[cfg(test)]
    pub(super) fn check_counts(&self) {
        for (n, group) in self.groups.iter().enumerate() {
            let mut counts = Counts::default();
            for member in group.members.iter().filter_map(|id| self.instance(*id)) {
                assert_eq!(member.group.map(|g| g.0 as usize), Some(n));
                counts.replace(Tally::default(), Tally::of(member));
            }
            assert_eq!(group.counts, counts, "{}", group.config.name);
        }
        let buffers = self.instances.iter().map(|i| u64::from(self.receive_buffer_of(i)));
        assert_eq!(self.receive_buffer, buffers.sum::<u64>());
        for instance in self.instances.iter() {
            let mut standing = crate::track::Standing::default();
            for reference in &instance.references {
                let state = self.trackers.state(reference.tracker);
                standing.add(crate::track::Effect::of(state, reference.weight));
            }
            assert_eq!(instance.standing, standing, "{}", instance.config.name);
            assert_eq!(instance.own_faults, self.own_faults(instance), "{}", instance.config.name);
            assert_eq!(
                instance.awaits_upper,
                self.awaits_upper(instance),
                "{}",
                instance.config.name
            );
        }
    }
}
