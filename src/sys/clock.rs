//! Clocks.

use nix::time::{ClockId, clock_gettime};

use crate::base::{Instant, WallTime};

/// Now, by `CLOCK_MONOTONIC`: the same count in every process of this machine since it started.
#[must_use]
pub fn now() -> Instant {
    match clock_gettime(ClockId::CLOCK_MONOTONIC) {
        Ok(t) => Instant::from_nanos(
            u64::try_from(t.tv_sec())
                .unwrap_or(0)
                .saturating_mul(1_000_000_000)
                .saturating_add(u64::try_from(t.tv_nsec()).unwrap_or(0)),
        ),
        // The kernel has this clock since 2.6; an answer is required nevertheless.
        Err(_) => Instant::ZERO,
    }
}

/// The time of day. Never used for timers.
#[must_use]
pub fn wall() -> WallTime {
    clock_gettime(ClockId::CLOCK_REALTIME)
        .map(|t| WallTime {
            secs: u64::try_from(t.tv_sec()).unwrap_or(0),
            nanos: u32::try_from(t.tv_nsec()).unwrap_or(0),
        })
        .unwrap_or_default()
}

/// A local time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Year of our era.
    pub year: i32,
    /// 0 to 11.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60.
    pub second: u8,
    /// 0 to 6, Sunday first.
    pub weekday: u8,
    /// Minutes east of Greenwich.
    pub offset: i32,
}

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl LocalTime {
    /// The local time at `time`; UTC if the time zone cannot be determined.
    #[must_use]
    pub fn at(time: WallTime) -> Self {
        let secs: libc::time_t = time.secs.try_into().unwrap_or(libc::time_t::MAX);
        // SAFETY: `tm` is plain numbers and one pointer, for which zero bits are valid.
        let mut tm: libc::tm = unsafe { core::mem::zeroed() };
        // SAFETY: both pointers are to live values of the right type; localtime_r keeps neither. It reads the
        // environment's TZ, which nothing in this program changes.
        let answer = unsafe { libc::localtime_r(&raw const secs, &raw mut tm) };
        if answer.is_null() {
            // SAFETY: as above.
            unsafe { libc::gmtime_r(&raw const secs, &raw mut tm) };
        }
        let small = |n: libc::c_int| u8::try_from(n).unwrap_or(0);
        Self {
            year: tm.tm_year.saturating_add(1900),
            month: small(tm.tm_mon),
            day: small(tm.tm_mday),
            hour: small(tm.tm_hour),
            minute: small(tm.tm_min),
            second: small(tm.tm_sec),
            weekday: small(tm.tm_wday),
            offset: i32::try_from(tm.tm_gmtoff / 60).unwrap_or(0),
        }
    }

    /// Three letters of the weekday.
    #[must_use]
    pub fn day_name(&self) -> &'static str {
        DAYS.get(usize::from(self.weekday)).unwrap_or(&"???")
    }

    /// Three letters of the month.
    #[must_use]
    pub fn month_name(&self) -> &'static str {
        MONTHS.get(usize::from(self.month)).unwrap_or(&"???")
    }
}

impl core::fmt::Display for LocalTime {
    /// As `%c` of the C library in the C locale: `Mon Nov 23 19:32:36 2026`.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "{} {} {:2} {:02}:{:02}:{:02} {}",
            self.day_name(),
            self.month_name(),
            self.day,
            self.hour,
            self.minute,
            self.second,
            self.year
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_moves_forward() {
        let a = now();
        let b = now();
        assert!(b >= a && a > Instant::ZERO);
    }

    #[test]
    fn prints_as_the_c_library_does() {
        let t = LocalTime {
            year: 2026,
            month: 10,
            day: 3,
            hour: 9,
            minute: 2,
            second: 6,
            weekday: 2,
            offset: 60,
        };
        assert_eq!(t.to_string(), "Tue Nov  3 09:02:06 2026");
    }

    #[test]
    fn knows_the_calendar() {
        // Independent of the zone: half a year later it is another month, and noon UTC is day 1 or 2 everywhere.
        let t = LocalTime::at(WallTime {
            secs: 1_767_268_800, // 2026-01-01 12:00:00 UTC, a Thursday
            nanos: 0,
        });
        assert_eq!((t.year, t.month), (2026, 0));
        assert!(matches!((t.day, t.weekday), (1, 4) | (2, 5)));
    }
}
