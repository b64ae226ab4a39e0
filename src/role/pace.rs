//! Distinguishes a slow process from a wedged one while an answer of it is outstanding.

use crate::sys::process::Effort;

/// Processor time, in ticks of 10 ms, after which a process that has not answered is considered wedged even if it
/// still works.
const MOST: u64 = 6_000;

/// The progress of a process whose answer is outstanding, from one check to the next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Its processor time when the answer was requested, in ticks of 10 ms.
    begun: u64,
    /// The same at the last check.
    seen: u64,
}

impl Pace {
    /// An answer is requested of a process that has done this much work. The default is a process that has just begun.
    pub fn since(effort: Option<Effort>) -> Self {
        let begun = effort.map_or(0, |effort| effort.ticks);
        Self { begun, seen: begun }
    }

    /// Whether to continue waiting: the process has used processor time since the last check, or is runnable and gets
    /// no processor, and its total since the request is below a minute.
    pub fn goes_on(&mut self, effort: Option<Effort>) -> bool {
        self.goes_on_below(MOST, effort)
    }

    /// The same with another limit, in ticks of 10 ms.
    pub fn goes_on_below(&mut self, most: u64, effort: Option<Effort>) -> bool {
        let Some(Effort { ticks, runnable }) = effort else {
            return false;
        };
        let worked = ticks > self.seen;
        self.seen = ticks;
        (worked || runnable) && ticks.saturating_sub(self.begun) < most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_works_or_wants_to_is_waited_for() {
        let mut pace = Pace::default();
        let mut look = |ticks, runnable| pace.goes_on(Some(Effort { ticks, runnable }));
        assert!(look(1, false), "it has begun");
        assert!(!look(1, false), "it sleeps");
        assert!(look(1, true), "it gets no processor");
        assert!(look(2, false), "slow, but it gets on");
        assert!(look(MOST - 1, true));
        assert!(!look(MOST, true), "it would go on for ever");
        assert!(!pace.goes_on(None), "it has ended");
    }

    #[test]
    fn what_a_process_did_before_does_not_count() {
        let effort = |ticks| Some(Effort { ticks, runnable: false });
        let old = 100 * MOST;
        let mut pace = Pace::since(effort(old));
        assert!(!pace.goes_on(effort(old)), "it has not begun");
        assert!(pace.goes_on(effort(old + 1)));
        assert!(pace.goes_on(effort(old + MOST - 1)));
        assert!(!pace.goes_on(effort(old + MOST)), "it would go on for ever");
    }
}
