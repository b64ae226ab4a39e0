//! Time for the engines: an argument, never a clock.

use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time, in nanoseconds since an arbitrary start that is the same for one machine.
///
/// The daemon counts from boot (`CLOCK_MONOTONIC`), so an instant means the same in every process of one
/// daemon; the simulator counts from the start of a run. Lasts 584 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Instant(u64);

impl Instant {
    /// The start of the count.
    pub const ZERO: Self = Self(0);

    /// The instant `nanos` nanoseconds after the start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates after 584 years instead of wrapping.
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    /// Stops at the start of the count instead of wrapping.
    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Instant {
    /// Seconds with six digits, as in `12.034567`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000_000, self.0 % 1_000_000_000 / 1_000)
    }
}

/// Time of day in UTC, for mail headers, replay protection and reports. Never used for timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct WallTime {
    /// Whole seconds since 1970-01-01 00:00:00 UTC.
    pub secs: u64,
    /// Nanoseconds within the second, 0 to 999,999,999.
    pub nanos: u32,
}

impl WallTime {
    /// The time `by` later.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        let all = Duration::new(self.secs, self.nanos).saturating_add(by);
        Self { secs: all.as_secs(), nanos: all.subsec_nanos() }
    }

    /// This much earlier; the start of 1970 at the least.
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        let all = Duration::new(self.secs, self.nanos).saturating_sub(by);
        Self { secs: all.as_secs(), nanos: all.subsec_nanos() }
    }
}

impl fmt::Display for WallTime {
    /// RFC 3339 in UTC with milliseconds: `2026-11-26T13:20:52.123Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, second) = (self.secs / 86_400, self.secs % 86_400);
        // Days of the proleptic Gregorian calendar in eras of 400 years that begin with March: leap days come last.
        let since_era_0 = day + 719_468;
        let (era, of_era) = (since_era_0 / 146_097, since_era_0 % 146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let date = of_year - (153 * month + 2) / 5 + 1;
        let (month, over) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let year = year + era * 400 + over;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let milli = self.nanos / 1_000_000;
        write!(f, "{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_prints_as_rfc_3339() {
        // As `date -u -d @SECONDS` says.
        for (secs, text) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (951_868_800, "2000-03-01T00:00:00.007Z"),
            (1_767_225_599, "2025-12-31T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            assert_eq!(WallTime { secs, nanos: 7_999_999 }.to_string(), text);
        }
        let t = WallTime { secs: 2, nanos: 0 };
        assert_eq!(t.before(Duration::from_millis(1)), WallTime { secs: 1, nanos: 999_000_000 });
        assert_eq!(t.before(Duration::from_secs(3)), WallTime::default());
    }

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let t = Instant::from_nanos(5);
        assert_eq!(t - Duration::from_secs(1), Instant::ZERO);
        assert_eq!(
            Instant::from_nanos(u64::MAX) + Duration::from_secs(1),
            Instant::from_nanos(u64::MAX)
        );
        assert_eq!(t.since(Instant::from_nanos(9)), Duration::ZERO);
    }

    #[test]
    fn prints_seconds() {
        assert_eq!(Instant::from_nanos(12_034_567_890).to_string(), "12.034567");
    }
}
