//! What the engine waits for, by name. Timers of all kinds share one queue, whose keys are made here and
//! nowhere else.

use super::event::InstanceId;
use crate::base::{Instant, TimerQueue};
use crate::track::TrackerId;

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The advert of a master, the silence of its master for a backup.
    Protocol(InstanceId),
    /// Gratuitous frames.
    Announce(InstanceId),
    /// The kernel took too long to answer: announce the state anyway.
    Notice(InstanceId),
    /// The next run of a script.
    Script(TrackerId),
    /// The next attempt for an entry of the address table.
    Retry(u32),
    /// The next attempt to join multicast groups; one for all.
    Join,
    /// An instance whose addresses the kernel refused may try again.
    HoldDown(InstanceId),
    /// The rest of a step that was cut into slices; one for all.
    Slice,
}

const KINDS: u32 = 8;

impl Timer {
    const fn key(self) -> u32 {
        let (kind, id) = match self {
            Self::Protocol(id) => (0, id.0),
            Self::Announce(id) => (1, id.0),
            Self::Notice(id) => (2, id.0),
            Self::Script(id) => (3, id.0),
            Self::Retry(id) => (4, id),
            Self::Join => (5, 0),
            Self::HoldDown(id) => (6, id.0),
            Self::Slice => (7, 0),
        };
        id * KINDS + kind
    }

    const fn from_key(key: u32) -> Self {
        let id = key / KINDS;
        match key % KINDS {
            0 => Self::Protocol(InstanceId(id)),
            1 => Self::Announce(InstanceId(id)),
            2 => Self::Notice(InstanceId(id)),
            3 => Self::Script(TrackerId(id)),
            4 => Self::Retry(id),
            5 => Self::Join,
            6 => Self::HoldDown(InstanceId(id)),
            _ => Self::Slice,
        }
    }
}

/// The timers of an engine.
#[derive(Debug, Default)]
pub(super) struct Timers(TimerQueue);

impl Timers {
    /// Sets a timer, replacing the time it had.
    pub fn set(&mut self, timer: Timer, at: Instant) {
        self.0.set(timer.key(), at);
    }

    pub fn clear(&mut self, timer: Timer) {
        self.0.clear(timer.key());
    }

    pub fn get(&self, timer: Timer) -> Option<Instant> {
        self.0.get(timer.key())
    }

    pub fn earliest(&mut self) -> Option<Instant> {
        self.0.earliest()
    }

    /// Takes the timer that is due first, with the time it was set to.
    pub fn pop(&mut self, now: Instant) -> Option<(Timer, Instant)> {
        self.0.pop(now).map(|(key, at)| (Timer::from_key(key), at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_timer_has_a_key_of_its_own() {
        let mut keys = std::collections::BTreeSet::new();
        for n in [0, 1, 77, u32::MAX / KINDS] {
            let id = InstanceId(n);
            let of_one = [Timer::Protocol(id), Timer::Announce(id), Timer::Notice(id)];
            let others = [Timer::Script(TrackerId(n)), Timer::Retry(n), Timer::HoldDown(id)];
            for timer in of_one.into_iter().chain(others) {
                assert_eq!(Timer::from_key(timer.key()), timer);
                assert!(keys.insert(timer.key()), "{timer:?}");
            }
        }
        for timer in [Timer::Join, Timer::Slice] {
            assert_eq!(Timer::from_key(timer.key()), timer);
            assert!(keys.insert(timer.key()), "{timer:?}");
        }
    }
}
