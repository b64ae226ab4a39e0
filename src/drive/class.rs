//! The scheduling class of a thread: real-time priority, its limit, and how it rises when timers run late.

use core::time::Duration;

use crate::sys::sched;

/// A real-time thread that works this long, in microseconds, without waiting once has gone wild: the kernel ends
/// the process, which is started again.
const RUNAWAY: u64 = 500_000;
/// How long a real-time thread goes on without waiting once, at most,
const BUSY: Duration = Duration::from_millis(50);
/// and in parts of its limit.
const PARTS: u32 = 4;

/// What the configuration says of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RealTime {
    /// SCHED_RR priority, 1 to 99; none: the normal class.
    pub priority: Option<u8>,
    /// Microseconds of processor time without waiting; none: half a second.
    pub limit: Option<u32>,
    /// The highest priority that it may give itself; none: it keeps what it has.
    pub most: Option<u8>,
    /// Timers that are later than this are a reason to.
    pub delay: Duration,
}

/// The class of the calling thread.
#[derive(Debug, Default)]
pub struct Class {
    wanted: RealTime,
    /// The priority it has.
    now: Option<u8>,
    /// Settings that the kernel refused are not tried again and again.
    refused: bool,
}

impl Class {
    /// Takes what the configuration says. A priority that rose stays while that is allowed.
    pub fn set(&mut self, wanted: RealTime) {
        let before = core::mem::replace(&mut self.wanted, wanted);
        let rose = self.now.filter(|now| {
            wanted.most.is_some_and(|most| *now <= most)
                && before.priority == wanted.priority
                && Some(*now) > wanted.priority
        });
        let priority = rose.or(wanted.priority);
        let limited = priority.is_some() && before.limit != wanted.limit;
        self.refused = false;
        if priority != self.now || limited {
            self.take(priority);
        }
    }

    /// A timer was seen this much later than due.
    pub fn late(&mut self, by: Duration) {
        if let Some(priority) = self.next(by) {
            let (seconds, micros) = (by.as_secs(), by.subsec_micros());
            tracing::warn!(
                "timers are {seconds}.{micros:06} s late: using real-time priority {priority} \
                 (max_auto_priority)"
            );
            self.take(Some(priority));
        }
    }

    /// The priority to rise to, if there is reason to.
    fn next(&self, by: Duration) -> Option<u8> {
        let most = self.wanted.most.filter(|_| by > self.wanted.delay && !self.refused)?;
        let next = self.now.map_or(1, |now| now.saturating_add(1));
        (next <= most).then_some(next)
    }

    fn take(&mut self, priority: Option<u8>) {
        let limit = self.wanted.limit.map_or(RUNAWAY, u64::from);
        let result = match priority {
            Some(priority) => {
                sched::limit_real_time(limit).and_then(|()| sched::real_time(priority))
            }
            None => sched::normal(),
        };
        match (result, priority) {
            (Ok(()), _) => {
                self.now = priority;
                return;
            }
            (Err(e), Some(priority)) => {
                tracing::warn!("cannot use real-time priority {priority}: {e}");
            }
            (Err(e), None) => tracing::warn!("cannot leave the real-time class: {e}"),
        }
        self.refused = true;
    }

    /// Does something that takes long without having priority over everybody else.
    pub fn calmly<T>(&self, work: impl FnOnce() -> T) -> T {
        let Some(priority) = self.now else { return work() };
        let left = sched::normal().is_ok();
        let done = work();
        if left && let Err(e) = sched::real_time(priority) {
            tracing::warn!("cannot use real-time priority {priority}: {e}");
        }
        done
    }

    /// One that has this priority as far as it knows.
    #[cfg(test)]
    pub fn of_priority(priority: u8) -> Self {
        Self { now: Some(priority), ..Self::default() }
    }

    /// How long the thread may work before it lets others run; none: the kernel sees to that.
    #[must_use]
    pub fn stretch(&self) -> Option<Duration> {
        self.now?;
        let limit = self.wanted.limit.map(|limit| Duration::from_micros(limit.into()) / PARTS);
        Some(limit.map_or(BUSY, |limit| limit.min(BUSY)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_rises_by_one_for_each_late_timer_and_not_beyond_what_is_allowed() {
        let delay = Duration::from_millis(10);
        let wanted = RealTime { most: Some(2), delay, ..RealTime::default() };
        let mut class = Class { wanted, ..Class::default() };
        assert_eq!(class.next(delay), None);
        let late = delay + Duration::from_micros(1);
        assert_eq!(class.next(late), Some(1));
        class.now = Some(1);
        assert_eq!(class.next(late), Some(2));
        class.now = Some(2);
        assert_eq!(class.next(late), None);
        // From a priority that it was given.
        class.wanted.most = Some(60);
        class.now = Some(50);
        assert_eq!(class.next(late), Some(51));
        class.refused = true;
        assert_eq!(class.next(late), None);
        class.refused = false;
        class.wanted.most = None;
        assert_eq!(class.next(Duration::MAX), None);
    }

    #[test]
    fn a_real_time_thread_lets_others_run_well_before_its_limit() {
        let mut class = Class::default();
        assert_eq!(class.stretch(), None);
        class.now = Some(1);
        assert_eq!(class.stretch(), Some(BUSY));
        assert!(u128::from(RUNAWAY) >= 5 * BUSY.as_micros());
        class.wanted.limit = Some(10_000);
        assert_eq!(class.stretch(), Some(Duration::from_micros(2_500)));
        class.wanted.limit = Some(u32::MAX);
        assert_eq!(class.stretch(), Some(BUSY));
    }
}
