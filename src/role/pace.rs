//! Telling a slow process from a wedged one, where it owes an answer.

use crate::sys::process::Effort;

/// Processor time after which a process that has not answered is wedged, whatever it does, in ticks of 10 ms.
const MOST: u64 = 6_000;

/// How a process that owes an answer gets on, from one look at it to the next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Its processor time at the last look.
    seen: u64,
}

impl Pace {
    /// Looks at what it has done so far: whether it is to be waited for. It is if it has been working since the last look,
    /// or would be if the machine let it, but not for ever.
    pub fn goes_on(&mut self, effort: Option<Effort>) -> bool {
        let Some(Effort { ticks, runnable }) = effort else {
            return false;
        };
        let worked = ticks > self.seen;
        self.seen = ticks;
        (worked || runnable) && ticks < MOST
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
}
