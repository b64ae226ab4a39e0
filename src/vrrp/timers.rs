//! The timers of the engine, by name. The adverts of masters have a queue of their own, so that received packets never
//! delay them; the other kinds share one. Only this file makes its keys.

use super::event::InstanceId;
use crate::base::{Instant, TimerQueue};
use crate::plan::ObjectId;
use crate::track::TrackerId;

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The next advert of a master.
    Advert(InstanceId),
    /// The master-down timer of a backup.
    Silence(InstanceId),
    /// Gratuitous frames are due.
    Announce(InstanceId),
    /// The kernel took too long to answer: announce the state anyway.
    Notice(InstanceId),
    /// The next run of a script.
    Script(TrackerId),
    /// The next attempt for an entry of the address table.
    Retry(ObjectId),
    /// The next attempt to join multicast groups; one for all.
    Join,
    /// An instance whose addresses the kernel refused may try again.
    HoldDown(InstanceId),
    /// What was delayed by the rate limits.
    Limits(InstanceId),
    /// The next slice of a step that was cut; one for all.
    Slice,
    /// Reports of files and processes are overdue; one for all.
    Reports,
    /// A change of a link has lasted long enough; one for all.
    Delays,
    /// Suppressed log lines about unknown virtual router ids are to be reported; one for all.
    UnknownVrids,
}

const KINDS: u32 = 16;

impl Timer {
    /// Its key in the shared queue.
    const fn key(self) -> u32 {
        let (kind, id) = match self {
            Self::Advert(id) | Self::Silence(id) => (0, id.0),
            Self::Announce(id) => (1, id.0),
            Self::Notice(id) => (2, id.0),
            Self::Script(id) => (3, id.0),
            Self::Retry(id) => (4, id.0),
            Self::Join => (5, 0),
            Self::HoldDown(id) => (6, id.0),
            Self::Slice => (7, 0),
            Self::Limits(id) => (8, id.0),
            Self::Reports => (9, 0),
            Self::Delays => (10, 0),
            Self::UnknownVrids => (11, 0),
        };
        id * KINDS + kind
    }

    const fn from_key(key: u32) -> Self {
        let id = key / KINDS;
        match key % KINDS {
            0 => Self::Silence(InstanceId(id)),
            1 => Self::Announce(InstanceId(id)),
            2 => Self::Notice(InstanceId(id)),
            3 => Self::Script(TrackerId(id)),
            4 => Self::Retry(ObjectId(id)),
            5 => Self::Join,
            6 => Self::HoldDown(InstanceId(id)),
            8 => Self::Limits(InstanceId(id)),
            9 => Self::Reports,
            10 => Self::Delays,
            11 => Self::UnknownVrids,
            _ => Self::Slice,
        }
    }
}

/// The timers of an engine.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// By instance.
    adverts: TimerQueue,
    /// By instance.
    silences: TimerQueue,
    others: TimerQueue,
}

impl Timers {
    fn queue(&self, timer: Timer) -> (&TimerQueue, u32) {
        match timer {
            Timer::Advert(id) => (&self.adverts, id.0),
            Timer::Silence(id) => (&self.silences, id.0),
            _ => (&self.others, timer.key()),
        }
    }

    fn queue_mut(&mut self, timer: Timer) -> (&mut TimerQueue, u32) {
        match timer {
            Timer::Advert(id) => (&mut self.adverts, id.0),
            Timer::Silence(id) => (&mut self.silences, id.0),
            _ => (&mut self.others, timer.key()),
        }
    }

    /// Sets a timer, replacing the time it had.
    pub fn set(&mut self, timer: Timer, at: Instant) {
        let (queue, key) = self.queue_mut(timer);
        queue.set(key, at);
    }

    pub fn clear(&mut self, timer: Timer) {
        let (queue, key) = self.queue_mut(timer);
        queue.clear(key);
    }

    /// Clears all timers except adverts.
    pub fn keep_adverts(&mut self) {
        (self.silences, self.others) = (TimerQueue::default(), TimerQueue::default());
    }

    pub fn get(&self, timer: Timer) -> Option<Instant> {
        let (queue, key) = self.queue(timer);
        queue.get(key)
    }

    pub fn earliest_advert(&mut self) -> Option<Instant> {
        self.adverts.earliest()
    }

    /// The earliest timer that judges a master's silence.
    pub fn earliest_silence(&mut self) -> Option<Instant> {
        self.silences.earliest()
    }

    /// The earliest timer except adverts.
    pub fn earliest_other(&mut self) -> Option<Instant> {
        self.silences.earliest().into_iter().chain(self.others.earliest()).min()
    }

    /// Takes the instance whose advert is due first, with the time it was set to.
    pub fn pop_advert(&mut self, now: Instant) -> Option<(InstanceId, Instant)> {
        self.adverts.pop(now).map(|(id, at)| (InstanceId(id), at))
    }

    /// Takes the timer other than an advert that is due first, with the time it was set to.
    pub fn pop(&mut self, now: Instant) -> Option<(Timer, Instant)> {
        let other = self.others.earliest();
        if self.silences.earliest().is_some_and(|at| other.is_none_or(|other| at <= other)) {
            return self.silences.pop(now).map(|(id, at)| (Timer::Silence(InstanceId(id)), at));
        }
        self.others.pop(now).map(|(key, at)| (Timer::from_key(key), at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind of timer with this number, by walking from one to the next.
    fn all_of(n: u32) -> Vec<Timer> {
        let (id, tracker, entry) = (InstanceId(n), TrackerId(n), ObjectId(n));
        let following = |timer: &Timer| match timer {
            Timer::Advert(_) => Some(Timer::Silence(id)),
            Timer::Silence(_) => Some(Timer::Announce(id)),
            Timer::Announce(_) => Some(Timer::Notice(id)),
            Timer::Notice(_) => Some(Timer::Script(tracker)),
            Timer::Script(_) => Some(Timer::Retry(entry)),
            Timer::Retry(_) => Some(Timer::HoldDown(id)),
            Timer::HoldDown(_) => Some(Timer::Limits(id)),
            Timer::Limits(_) => Some(Timer::Join),
            Timer::Join => Some(Timer::Slice),
            Timer::Slice => Some(Timer::Reports),
            Timer::Reports => Some(Timer::Delays),
            Timer::Delays => Some(Timer::UnknownVrids),
            Timer::UnknownVrids => None,
        };
        core::iter::successors(Some(Timer::Advert(id)), following).collect()
    }

    /// Whether there is one such timer for each instance, script or object.
    const fn is_numbered(timer: Timer) -> bool {
        use Timer::{Delays, Join, Reports, Slice, UnknownVrids};
        !matches!(timer, Join | Slice | Reports | Delays | UnknownVrids)
    }

    #[test]
    fn each_timer_has_a_key_of_its_own() {
        let mut keys = std::collections::BTreeSet::new();
        for n in [0, 1, 77, u32::MAX / KINDS] {
            for timer in all_of(n) {
                // Adverts have a queue of their own.
                if matches!(timer, Timer::Advert(_)) || (n > 0 && !is_numbered(timer)) {
                    continue;
                }
                assert_eq!(Timer::from_key(timer.key()), timer);
                assert!(keys.insert(timer.key()), "{timer:?}");
            }
        }
    }

    #[test]
    fn each_timer_is_taken_as_what_was_set() {
        let now = Instant::from_nanos(1_000);
        for timer in all_of(3) {
            let mut timers = Timers::default();
            timers.set(timer, now);
            assert_eq!(timers.get(timer), Some(now));
            match timer {
                Timer::Advert(id) => assert_eq!(timers.pop_advert(now), Some((id, now))),
                _ => assert_eq!(timers.pop(now), Some((timer, now))),
            }
            assert_eq!((timers.pop_advert(now), timers.pop(now)), (None, None));
        }
    }
}
