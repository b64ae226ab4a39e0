//! The timers of the engine, by name. Each kind has a queue of its own, because kinds that are due together are handled in
//! a fixed order (`Engine::timer`). Only this file makes their keys.

use super::id::{CheckerSlot, ServiceSlot};
use crate::base::{Instant, TimerQueue};

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The next attempt of a check, or the time limit of the one under way.
    Check(CheckerSlot),
    /// The next attempt at operations on a service that the kernel refused.
    Retry(ServiceSlot),
    /// The next attempt to read the table, or the time limit of the one under way; one for all.
    Table,
}

/// The timers of an engine.
#[derive(Debug, Default)]
pub(super) struct Timers {
    checks: TimerQueue,
    retries: TimerQueue,
    table: Option<Instant>,
}

impl Timers {
    /// Sets a timer, replacing the time it had.
    pub fn set(&mut self, timer: Timer, at: Instant) {
        match timer {
            Timer::Check(slot) => self.checks.set(slot.0, at),
            Timer::Retry(slot) => self.retries.set(slot.0, at),
            Timer::Table => self.table = Some(at),
        }
    }

    pub fn clear(&mut self, timer: Timer) {
        match timer {
            Timer::Check(slot) => self.checks.clear(slot.0),
            Timer::Retry(slot) => self.retries.clear(slot.0),
            Timer::Table => self.table = None,
        }
    }

    pub fn get(&self, timer: Timer) -> Option<Instant> {
        match timer {
            Timer::Check(slot) => self.checks.get(slot.0),
            Timer::Retry(slot) => self.retries.get(slot.0),
            Timer::Table => self.table,
        }
    }

    pub fn is_set(&self, timer: Timer) -> bool {
        self.get(timer).is_some()
    }

    pub fn earliest(&mut self) -> Option<Instant> {
        let queues = [self.checks.earliest(), self.retries.earliest(), self.table];
        queues.into_iter().flatten().min()
    }

    /// Takes a timer that is due, except those of checks: retries first, by time, then the table.
    pub fn pop(&mut self, now: Instant) -> Option<Timer> {
        if let Some((slot, _)) = self.retries.pop(now) {
            return Some(Timer::Retry(ServiceSlot(slot)));
        }
        self.table.take_if(|at| *at <= now).map(|_| Timer::Table)
    }

    /// Takes the check that is due first, with the time it was set to.
    pub fn pop_check(&mut self, now: Instant) -> Option<(CheckerSlot, Instant)> {
        self.checks.pop(now).map(|(slot, at)| (CheckerSlot(slot), at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_with_one_number_are_distinct_and_come_by_kind() {
        let at = Instant::from_nanos;
        let all = [Timer::Check(CheckerSlot(0)), Timer::Retry(ServiceSlot(0)), Timer::Table];
        for alone in all {
            let mut timers = Timers::default();
            timers.set(alone, at(5));
            let set: Vec<Timer> = all.into_iter().filter(|timer| timers.is_set(*timer)).collect();
            assert_eq!((set, timers.earliest()), (vec![alone], Some(at(5))));
            timers.clear(alone);
            assert_eq!((timers.get(alone), timers.earliest()), (None, None));
        }
        let mut timers = Timers::default();
        timers.set(Timer::Table, at(1));
        timers.set(Timer::Check(CheckerSlot(7)), at(2));
        timers.set(Timer::Retry(ServiceSlot(3)), at(3));
        assert_eq!(timers.pop(at(0)), None);
        assert_eq!(timers.pop(at(3)), Some(Timer::Retry(ServiceSlot(3))));
        assert_eq!(timers.pop(at(3)), Some(Timer::Table));
        assert_eq!(timers.pop(at(3)), None);
        assert_eq!(timers.pop_check(at(3)), Some((CheckerSlot(7), at(2))));
        assert_eq!(timers.pop_check(at(3)), None);
    }
}
