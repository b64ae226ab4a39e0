//! Why each instance changed its state: the causes of the last changes, as values.
//!
//! Whoever changes a state says why in a few words for the engine ([`Why`]); the cause that a reader gets is worked out
//! from it when the state changes, with what was heard and what is tracked. Nothing is recorded, and nothing
//! allocated, while no state changes.

use std::sync::Arc;

use super::event::InstanceId;
use super::health::{Health, OwnFault};
use super::instance::Instance;
use super::{Engine, Position};
use crate::base::{Instant, Name};
use crate::status::cause::{
    CHANGES, Cause, Change, Fault, Histories, InstanceHistory, Kind, NAMED, Ours, Tracked,
};
use crate::status::vrrp::State;
use crate::track::{self, Effect, Subject, TrackerId};

/// Why a state is about to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// A better master was heard.
    Advert(core::net::IpAddr, u8),
    /// One that advertises another number of addresses.
    Disagreement(core::net::IpAddr, u8),
    /// The master-down timer expired.
    Timer,
    /// The process was held up for this long.
    HeldUp(core::time::Duration),
    /// It cannot take part, or can again.
    Health,
    /// It starts as master.
    Start,
    /// A reload made it another virtual router.
    Moved,
    /// It ends.
    Stopped,
}

/// How an instance came into being.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Origin {
    #[default]
    Start,
    /// A reload added it.
    Added,
    /// A reload made it another virtual router.
    Moved,
}

/// What made an instance fit again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Own(OwnFault),
    Tracked(TrackerId),
    /// A reload: it does not track that object any more.
    Reload,
}

/// Why a member of a group changes its state.
#[derive(Clone, Debug)]
pub(super) enum Blame {
    /// By itself.
    Own(Why),
    /// It follows this member, which has this cause.
    Member(Arc<(Name, Cause)>),
}

/// The last changes of state of an instance.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// The newest one is last.
    changes: Vec<Change>,
    pub origin: Origin,
    /// The last fault that ended.
    pub ended: Option<Ended>,
}

impl History {
    /// Adds a change.
    pub fn add(&mut self, change: Change) {
        if self.changes.len() >= CHANGES {
            self.changes.remove(0);
        }
        self.changes.push(change);
    }
}

impl Engine {
    /// The cause of a change of state that an instance makes by itself, now.
    pub(super) fn cause(&self, now: Instant, id: InstanceId, why: Why) -> Cause {
        let Some(instance) = self.instance(id) else { return Cause::Started };
        let ours = || self.ours(instance);
        match why {
            Why::Advert(from, priority) => Cause::Advert { from, priority, ours: ours() },
            Why::Disagreement(from, priority) => {
                Cause::Disagreement { from, priority, ours: ours() }
            }
            Why::HeldUp(time) => Cause::HeldUp { time },
            Why::Moved => Cause::Moved,
            Why::Stopped => Cause::Stopped,
            Why::Start if instance.owns_and_starts() && !instance.was_master => Cause::Owner,
            Why::Start => Cause::Resumed,
            Why::Timer => self.cause_of_silence(now, instance),
            Why::Health if instance.health() == Health::Unfit => {
                Cause::Faults(self.some_faults(instance))
            }
            Why::Health if instance.state() == State::Fault => {
                Cause::Recovered(self.ended(instance))
            }
            Why::Health => match instance.history.origin {
                Origin::Start => Cause::Started,
                Origin::Added => Cause::Added,
                Origin::Moved => Cause::Moved,
            },
        }
    }

    /// Why the master-down timer of an instance expired: the master that it follows is worse or silent, or a router left
    /// after the last advert of that. Others may be heard as well, which the instance does not follow.
    fn cause_of_silence(&self, now: Instant, instance: &Instance) -> Cause {
        let latest = instance
            .senders
            .latest()
            .filter(|(_, said)| instance.master.is_none() || said.priority == 0);
        let followed = || {
            let (source, _) = instance.master?;
            Some((source, instance.senders.last_of(source)?))
        };
        let Some((from, said)) = latest.or_else(followed) else {
            return Cause::Silence { of: None, time: now.since(instance.since) };
        };
        let time = now.since(said.at);
        let recent = time < instance.master_down();
        match said.priority {
            0 if recent => Cause::Farewell { from },
            priority if recent && priority < instance.effective_priority => {
                Cause::Lower { from, priority, ours: self.ours(instance) }
            }
            _ if said.at < instance.since => {
                Cause::Silence { of: None, time: now.since(instance.since) }
            }
            priority => Cause::Silence { of: Some((from, priority)), time },
        }
    }

    /// The priority of an instance, and what changes it.
    fn ours(&self, instance: &Instance) -> Ours {
        let (effective, configured) = (instance.effective_priority, instance.config.priority.get());
        let effects = instance.references.iter().filter_map(|reference| {
            let effect = Effect::of(self.trackers.state(reference.tracker), reference.weight);
            (effect.priority != 0)
                .then(|| Some((self.tracked(reference.tracker)?, effect.priority)))?
        });
        let by = if effective == configured { Vec::new() } else { effects.take(NAMED).collect() };
        Ours { effective, configured, by }
    }

    /// The first reasons why an instance cannot take part.
    fn some_faults(&self, instance: &Instance) -> Vec<Fault> {
        let own = self.own_fault_texts(instance).map(Fault::Own);
        let references = instance.references.iter();
        let bad = references
            .filter(|r| Effect::of(self.trackers.state(r.tracker), r.weight).fault)
            .filter_map(|r| self.tracked(r.tracker).map(Fault::Tracked));
        own.chain(bad).take(NAMED).collect()
    }

    /// The fault of an instance that ended last, as its present state.
    fn ended(&self, instance: &Instance) -> Option<Fault> {
        let (link, own) = (&instance.config.interface, instance.history.ended?);
        let text = match own {
            Ended::Reload => "a reload changed what it tracks".into(),
            Ended::Tracked(tracker) => return self.tracked(tracker).map(Fault::Tracked),
            Ended::Own(fault) => match fault {
                OwnFault::Quarantined => return None,
                OwnFault::NoInterface => format!("interface {link} exists"),
                OwnFault::InterfaceDown => format!("interface {link} is up"),
                OwnFault::NotInVrf => format!("interface {link} is in its VRF"),
                OwnFault::NoUpper => "the interface for it can be created".into(),
                OwnFault::NoSource => "it has a source address".into(),
                OwnFault::NoPeer => "it has a peer".into(),
                OwnFault::NotJoined => format!("it receives adverts on {link}"),
                OwnFault::HeldDown => "it tries again to add its addresses".into(),
            },
        };
        Some(Fault::Own(text))
    }

    /// A tracked object with its state.
    fn tracked(&self, tracker: TrackerId) -> Option<Tracked> {
        let (kind, name) = match self.trackers.subject(tracker)? {
            Subject::Interface(name) => (Kind::Interface, Name::from(name.as_str())),
            Subject::Script(name) => (Kind::Script, name.clone()),
            Subject::File(name) => (Kind::File, name.clone()),
            Subject::Process(name) => (Kind::Process, name.clone()),
            Subject::Bfd(name) => (Kind::Bfd, name.clone()),
            Subject::VirtualServers => (Kind::VirtualServers, Name::default()),
        };
        let (good, value) = match self.trackers.state(tracker) {
            track::State::Unknown | track::State::Awaited => (None, None),
            track::State::Good => (Some(true), None),
            track::State::Bad => (Some(false), None),
            track::State::Value(value) => (None, Some(value)),
        };
        Some(Tracked { kind, name, good, value })
    }

    /// The cause of a change of state that a member of a group makes.
    pub(super) fn cause_of(&self, now: Instant, id: InstanceId, blame: &Blame) -> Cause {
        match blame {
            Blame::Own(why) => self.cause(now, id, *why),
            Blame::Member(led) => {
                let (member, cause) = (**led).clone();
                Cause::Group { member, cause: Box::new(cause) }
            }
        }
    }

    /// A part of the view of the causes: at most `count` instances from `begin` on, and where the next part begins, if
    /// there are more. [`Histories::joined`] puts parts together.
    #[must_use]
    pub fn part_of_histories(
        &self,
        now: Instant,
        begin: Position,
        count: usize,
    ) -> (Histories, Option<Position>) {
        let all = &self.config.instances;
        let some = all.iter().skip(begin.object()).take(count);
        let instances = some.filter_map(|config| {
            let instance = self.instances.named(&config.name).and_then(|id| self.instance(id))?;
            self.instances.view(instance.history.changes.len());
            Some(InstanceHistory {
                name: config.name.clone(),
                state: instance.state(),
                since: instance.since,
                ours: self.ours(instance),
                master: instance.master,
                changes: instance.history.changes.iter().rev().cloned().collect(),
            })
        });
        let view = Histories { at: now, instances: instances.collect() };
        (view, begin.after(count.min(all.len()), all.len()))
    }
}
