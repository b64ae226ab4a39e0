//! Times that follow from priority and interval: arithmetic only.

use core::time::Duration;

use crate::model::vrrp::Version;

/// The skew time: the higher the priority, the sooner a router takes over.
///
/// Version 2: (256 - Priority) / 256 seconds, whatever the interval (RFC 3768 6.1). Version 3:
/// ((256 - Priority) * Master_Adver_Interval) / 256 (RFC 9568 6.1). Both in whole microseconds.
#[must_use]
pub fn skew(version: Version, priority: u8, master_interval: Duration) -> Duration {
    let steps = u64::from(256 - u16::from(priority));
    Duration::from_micros(match version {
        Version::V2 => steps * 1_000_000 / 256,
        Version::V3 => {
            let hundredths = u64::try_from(master_interval.as_millis() / 10).unwrap_or(u64::MAX);
            steps.saturating_mul(hundredths).saturating_mul(625) / 16
        }
    })
}

/// How long a backup waits for an advert before it takes over (Master_Down_Interval, RFC 9568 6.1): `adverts`
/// intervals, 3 in the standard, and the skew.
#[must_use]
pub fn master_down(
    version: Version,
    adverts: u8,
    priority: u8,
    master_interval: Duration,
) -> Duration {
    master_interval * u32::from(adverts) + skew(version, priority, master_interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let s = Duration::from_secs;
        assert_eq!(skew(Version::V2, 100, s(1)), Duration::from_micros(609_375));
        assert_eq!(skew(Version::V2, 100, s(10)), Duration::from_micros(609_375));
        assert_eq!(skew(Version::V2, 255, s(1)), Duration::from_micros(3_906));
        assert_eq!(skew(Version::V3, 100, s(1)), Duration::from_micros(609_375));
        assert_eq!(skew(Version::V3, 100, Duration::from_millis(10)), Duration::from_micros(6_093));
        assert_eq!(master_down(Version::V2, 3, 100, s(1)), Duration::from_micros(3_609_375));
        assert_eq!(master_down(Version::V3, 5, 255, s(2)), Duration::from_micros(10_007_812));
    }

    #[test]
    fn a_higher_priority_never_waits_longer() {
        for version in [Version::V2, Version::V3] {
            for priority in 1..255 {
                let wait = |p| master_down(version, 3, p, Duration::from_millis(100));
                assert!(wait(priority + 1) < wait(priority), "{priority}");
            }
        }
    }
}
