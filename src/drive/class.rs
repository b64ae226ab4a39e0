//! The scheduling class of a thread: real-time priority, its limit, and how it rises when timers run late.

use core::time::Duration;

use crate::sys::sched;

/// If a real-time thread works this long, in microseconds, without waiting, it is out of control: the kernel kills
/// the process, which is restarted.
const RUNAWAY: u64 = 500_000;
/// Upper bound of the time a real-time thread works without waiting.
const BUSY: Duration = Duration::from_millis(50);
/// The same as a fraction (divisor) of its limit.
const PARTS: u32 = 4;

/// The configured scheduling of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RealTime {
    /// SCHED_RR priority, 1 to 99; none: the normal class.
    pub priority: Option<u8>,
    /// Limit of processor time without waiting, in microseconds; none: half a second.
    pub limit: Option<u32>,
    /// The highest priority that the thread may raise itself to; none: the priority is not raised.
    pub most: Option<u8>,
    /// The priority is raised when a timer is later than this.
    pub delay: Duration,
}

/// The class of the calling thread.
#[derive(Debug, Default)]
pub struct Class {
    wanted: RealTime,
    /// Its current priority.
    now: Option<u8>,
    /// The kernel refused a setting, so it is not retried each time.
    refused: bool,
}

impl Class {
    /// Applies the configured scheduling. A raised priority is kept while the configuration still permits it.
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

    /// Reports that a timer was this late; may raise the priority.
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

    /// The priority to raise the thread to, if this delay calls for it.
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

    /// Runs a long computation in the normal class, so that it does not delay other programs.
    pub fn calmly<T>(&self, work: impl FnOnce() -> T) -> T {
        let Some(priority) = self.now else { return work() };
        let left = sched::normal().is_ok();
        let done = work();
        if left && let Err(e) = sched::real_time(priority) {
            tracing::warn!("cannot use real-time priority {priority}: {e}");
        }
        done
    }

    /// A thread that is assumed to have this priority.
    #[cfg(test)]
    pub fn of_priority(priority: u8) -> Self {
        Self { now: Some(priority), ..Self::default() }
    }

    /// How long the thread may work before it must wait briefly, so as not to block other programs; none in the
    /// normal class.
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
        // Starting from a configured priority.
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
