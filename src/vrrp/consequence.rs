//! What a change means for many instances: one piece for each of them, in slices.
//!
//! A link, an address or a tracked object may concern a thousand instances. An event only notes which ones; the pieces
//! follow in that order, as many in one step as there is room for. Until all are done the engine is occupied (see
//! `job`): no packet, silence or other event is judged when only some instances know of a change. Adverts that are due
//! meanwhile are sent, but not on a link that is down or gone (`Engine::may_advertise`).

use std::sync::Arc;

use super::event::InstanceId;
use super::history::Ended;
use super::instance::say;
use super::job::{Job, Progress};
use super::object::Claimant;
use super::{Engine, Moment, Timer};
use crate::base::{IfIndex, IfName};
use crate::model::Weight;
use crate::plan::{Identity, Object, ObjectId, Position};
use crate::track::{Effect, State, TrackerId};

/// What follows from a change.
#[derive(Debug)]
pub(super) enum Consequence {
    /// Each of these instances takes note of it.
    Each { what: What, ids: std::vec::IntoIter<InstanceId> },
    /// The state of what these instances track has changed. `line`: each one logs this.
    Tracked {
        tracker: TrackerId,
        before: State,
        after: State,
        line: Option<String>,
        users: std::vec::IntoIter<(InstanceId, Weight)>,
    },
    /// These lost an object to another program: it counts for each of them, and one of them logs it.
    Restored { object: Arc<Object>, claimants: Vec<Claimant>, next: usize, logged: bool },
    /// Instances and groups whose health or priority changed change their state.
    Act,
    /// The objects of a deleted interface are forgotten. `affected` are compared with the kernel at the end.
    Forget { link: IfIndex, affected: Vec<ObjectId> },
    /// The objects on an interface with another index get their places. They are compared with the kernel at the end.
    Place { name: IfName, changed: bool, at: Position, entries: Vec<ObjectId> },
    /// The created interfaces on this one carry the original values of its settings.
    Record { name: IfName, at: Position },
    /// The kernel may have removed routes on a changed interface: those that are not wanted are forgotten,
    Vanish { name: IfName, after: Option<Identity<IfIndex>>, again: bool },
    /// and the others are in doubt. Then all objects on it are compared with the kernel.
    Doubt { name: IfName, at: Position, entries: Vec<ObjectId>, again: bool },
    /// These objects are compared with the kernel. `again`: masters announce their addresses among them.
    Settle { entries: Vec<ObjectId>, again: bool },
    /// Masters announce those of their addresses that are among these objects.
    Announce(std::vec::IntoIter<ObjectId>),
}

/// What an instance does about a change.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// It is reconsidered.
    Reconsider,
    /// Its own faults may have changed.
    Refresh,
    /// The same, if it uses this interface.
    RefreshOn(IfIndex),
    /// The source of its adverts may have changed.
    Source,
    /// The interface of this name has this index now.
    Bind(IfName, Option<IfIndex>),
    /// A packet filter of it was changed by another program.
    Restored(crate::base::Family),
}

/// Pieces of a job (see `job::EFFORT`) that one instance costs.
const PIECE: usize = 1;
/// The same if the instance logs a line.
const LINE: usize = 2;
/// Objects that are put in doubt for one such piece,
const OBJECTS: usize = 4;
/// and those that get other places.
const PLACES: usize = 2;

impl Engine {
    /// Notes what follows for these instances.
    pub(super) fn each(&mut self, what: What, ids: Vec<InstanceId>) {
        if !ids.is_empty() {
            self.consequences.push_back(Consequence::Each { what, ids: ids.into_iter() });
        }
    }

    /// Notes that the instances concerned act on what they learned so far.
    pub(super) fn then_act(&mut self) {
        self.consequences.push_back(Consequence::Act);
    }

    /// Notes that objects are compared after the changes of state so far.
    pub(super) fn then_settle(&mut self, entries: Vec<ObjectId>, again: bool) {
        if !entries.is_empty() {
            self.consequences.push_back(Consequence::Settle { entries, again });
        }
    }

    /// Notes that the objects on a changed interface are compared after the changes of state so far.
    pub(super) fn then_compare(&mut self, name: IfName, again: bool) {
        self.consequences.push_back(Consequence::Vanish { name, after: None, again });
    }

    /// Notes that the objects of a deleted interface are forgotten.
    pub(super) fn then_forget(&mut self, link: IfIndex) {
        self.consequences.push_back(Consequence::Forget { link, affected: Vec::new() });
    }

    /// Notes that created interfaces carry the original values of the settings of this one.
    pub(super) fn then_record(&mut self, name: &IfName) {
        let (name, at) = (name.clone(), Position::default());
        self.consequences.push_back(Consequence::Record { name, at });
    }

    /// The interface of this name has another index, or none: notes that the objects on it get other places.
    pub(super) fn then_place(&mut self, name: &IfName, index: Option<IfIndex>) {
        let changed = self.objects.note_link(name, index);
        let (name, at, entries) = (name.clone(), Position::default(), Vec::new());
        self.consequences.push_back(Consequence::Place { name, changed, at, entries });
    }

    /// Notes that another program removed an object of these claimants.
    pub(super) fn then_count_restored(&mut self, object: Arc<Object>, claimants: Vec<Claimant>) {
        let (next, logged) = (0, false);
        self.consequences.push_back(Consequence::Restored { object, claimants, next, logged });
    }

    /// Notes a new state of a tracked object.
    pub(super) fn note_tracker(&mut self, tracker: TrackerId, after: State) {
        let Some(before) = self.trackers.set(tracker, after) else { return };
        let users = self.trackers.users(tracker).to_vec().into_iter();
        let line =
            self.trackers.subject(tracker).and_then(|s| super::tracker::line_of_user(s, after));
        self.consequences.push_back(Consequence::Tracked { tracker, before, after, line, users });
    }

    /// The state of a tracked object is known or has changed.
    pub(super) fn tracker_is(&mut self, moment: &mut Moment<'_>, tracker: TrackerId, state: State) {
        self.note_tracker(tracker, state);
        self.then_act();
        self.work(moment);
    }

    /// Reconsiders these instances.
    pub(super) fn reconsider_all(&mut self, moment: &mut Moment<'_>, ids: Vec<InstanceId>) {
        self.each(What::Reconsider, ids);
        self.then_act();
        self.work(moment);
    }

    /// Chooses the source of adverts again for these instances, and applies the consequences.
    pub(super) fn reconsider_sources(&mut self, moment: &mut Moment<'_>, ids: Vec<InstanceId>) {
        self.each(What::Source, ids);
        self.then_act();
        self.work(moment);
    }

    /// Continues with what follows from changes, as far as there is room. Returns whether something is left.
    pub(super) fn follow_up(&mut self, moment: &mut Moment<'_>) -> bool {
        while self.has_room() {
            // A piece is taken before it is done: after a panic the rest follows.
            match self.consequences.front_mut() {
                None => return false,
                Some(Consequence::Each { what, ids }) => {
                    if let Some(id) = ids.next() {
                        let what = what.clone();
                        self.spend(PIECE);
                        self.take_note(moment, id, what);
                    } else {
                        self.consequences.pop_front();
                    }
                }
                Some(Consequence::Tracked { tracker, before, after, line, users }) => {
                    if let Some((id, weight)) = users.next() {
                        let (tracker, before, after) = (*tracker, *before, *after);
                        let cost = if line.is_some() { LINE } else { PIECE };
                        if let Some(instance) = self.instances.get_mut(id) {
                            if let Some(line) = line {
                                say!(info, *instance, "{line}");
                            }
                            let effects = (Effect::of(before, weight), Effect::of(after, weight));
                            instance.standing.replace(effects.0, effects.1);
                            if effects.0.fault && !effects.1.fault {
                                instance.history.ended = Some(Ended::Tracked(tracker));
                            }
                        }
                        self.spend(cost);
                        self.recount(id);
                        self.enqueue(id);
                    } else {
                        self.consequences.pop_front();
                    }
                }
                Some(Consequence::Restored { object, claimants, next, logged }) => {
                    let Some(claimant) = claimants.get(*next) else {
                        self.consequences.pop_front();
                        continue;
                    };
                    *next += 1;
                    let (id, always) = match claimant {
                        Claimant::Instance(id) => (Some(*id), false),
                        Claimant::Link(id) => (Some(*id), true),
                        Claimant::Standby(_) | Claimant::Host => (None, false),
                    };
                    if let Some(instance) = id.and_then(|id| self.instances.get_mut(id))
                        && (always || instance.is_master())
                    {
                        instance.counters.objects_restored += 1;
                        if !core::mem::replace(logged, true) {
                            let others = match claimants.len() {
                                0 | 1 => String::new(),
                                all => format!(" ({all} instances use it)"),
                            };
                            say!(
                                warn,
                                *instance,
                                "{object} was removed by another program, restoring it{others}"
                            );
                        }
                    }
                    self.spend(PIECE);
                }
                Some(Consequence::Act) => {
                    self.act(moment);
                    if self.is_acting() {
                        break;
                    }
                    self.consequences.pop_front();
                }
                Some(Consequence::Forget { link, affected }) => {
                    if !self.objects.forget_some_on(*link, PLACES, affected) {
                        let entries = core::mem::take(affected);
                        self.consequences.pop_front();
                        self.then_settle(entries, false);
                    }
                    self.spend(PIECE);
                }
                Some(Consequence::Place { name, changed, at, entries }) => {
                    let some = self.objects.place_some(name, *changed, at, PLACES);
                    entries.extend_from_slice(&some);
                    if some.len() < PLACES {
                        let entries = core::mem::take(entries);
                        self.consequences.pop_front();
                        if self.running() {
                            self.then_settle(entries, false);
                        }
                    }
                    self.spend(PIECE);
                }
                Some(Consequence::Record { name, at }) => {
                    let some = self.objects.some_on_interface(name, at, OBJECTS);
                    let name = name.clone();
                    if some.len() < OBJECTS {
                        self.consequences.pop_front();
                    }
                    self.record_originals(&name, &some);
                    self.spend(PIECE);
                }
                Some(Consequence::Vanish { name, after, again }) => {
                    if !self.objects.forget_vanished(name, after, OBJECTS) {
                        let (name, again) = (name.clone(), *again);
                        let (at, entries) = (Position::default(), Vec::new());
                        self.consequences.pop_front();
                        let doubt = Consequence::Doubt { name, at, entries, again };
                        self.consequences.push_front(doubt);
                    }
                    self.spend(PIECE);
                }
                Some(Consequence::Doubt { name, at, entries, again }) => {
                    let some = self.objects.some_on_interface(name, at, OBJECTS);
                    some.iter().for_each(|id| self.objects.doubt(*id));
                    entries.extend_from_slice(&some);
                    if some.len() < OBJECTS {
                        let (entries, again) = (core::mem::take(entries), *again);
                        self.consequences.pop_front();
                        self.consequences.push_front(Consequence::Settle { entries, again });
                    }
                    self.spend(PIECE);
                }
                Some(Consequence::Settle { entries, again }) => {
                    let (entries, again) = (core::mem::take(entries), *again);
                    self.consequences.pop_front();
                    self.settle(moment, &entries);
                    if again {
                        self.consequences.push_front(Consequence::Announce(entries.into_iter()));
                    }
                }
                Some(Consequence::Announce(entries)) => {
                    if let Some(entry) = entries.next() {
                        self.spend(PIECE);
                        self.announce_again(moment, entry);
                    } else {
                        self.consequences.pop_front();
                    }
                }
            }
        }
        !self.consequences.is_empty()
    }

    fn take_note(&mut self, moment: &mut Moment<'_>, id: InstanceId, what: What) {
        match what {
            What::Reconsider => {}
            What::Refresh => self.refresh(id),
            What::RefreshOn(link) => {
                let ends = self.instance(id).map(|i| [i.link, i.upper]);
                if !ends.is_some_and(|ends| ends.contains(&Some(link))) {
                    return;
                }
                self.refresh(id);
            }
            What::Source => {
                if !self.choose_source(moment, id) {
                    return;
                }
            }
            What::Bind(name, index) => return self.bind(moment, id, &name, index),
            What::Restored(family) => return self.count_restored(id, family),
        }
        self.enqueue(id);
    }

    /// After a step: if consequences are left, the engine is occupied with them.
    pub(super) fn occupy(&mut self, moment: &Moment<'_>) {
        if self.job.is_none() && !self.consequences.is_empty() {
            self.job = Some(Job::Consequences);
            self.timers.set(Timer::Slice, moment.now);
        }
    }

    /// Continues with consequences by one slice.
    pub(super) fn consequences_on(&mut self, moment: &mut Moment<'_>) -> Progress {
        if self.follow_up(moment) { Progress::Sliced } else { Progress::Complete }
    }
}
