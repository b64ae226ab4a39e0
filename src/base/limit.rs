//! Rate limits.

use core::time::Duration;

use super::time::Instant;

/// A token bucket: `burst` at once, then one for every `period`.
#[derive(Clone, Debug)]
pub struct Limit {
    period: Duration,
    burst: u32,
    /// The time at which the bucket admits the next one without using the burst (virtual scheduling).
    empty_at: Instant,
}

impl Limit {
    /// A full bucket. `burst` is at least 1.
    #[must_use]
    pub fn new(burst: u32, period: Duration) -> Self {
        Self { period, burst: burst.max(1), empty_at: Instant::ZERO }
    }

    /// Takes one token; false if there is none left.
    pub fn take(&mut self, now: Instant) -> bool {
        let start = if self.empty_at > now { self.empty_at } else { now };
        let next = start + self.period;
        if next.since(now) > self.period * self.burst {
            return false;
        }
        self.empty_at = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_a_period() {
        let mut l = Limit::new(3, Duration::from_secs(1));
        let t = Instant::from_nanos(1_000_000_000);
        assert_eq!([l.take(t), l.take(t), l.take(t), l.take(t)], [true, true, true, false]);
        assert!(!l.take(t + Duration::from_millis(999)));
        assert!(l.take(t + Duration::from_secs(1)));
        assert!(!l.take(t + Duration::from_secs(1)));
    }
}
