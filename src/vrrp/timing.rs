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

    /// Every priority and every interval that a packet can carry: the skew is the fraction of the RFC rounded down to a
    /// microsecond, and the master-down interval is exactly whole intervals longer.
    #[test]
    fn times_are_the_exact_fractions_rounded_down() {
        let check = |version, interval: Duration, scale: u128| {
            for priority in 0..=255 {
                let exact = (256 - u128::from(priority)) * scale;
                let skew = skew(version, priority, interval);
                assert!(
                    skew.as_nanos().is_multiple_of(1_000),
                    "{version:?} {priority} {interval:?}"
                );
                let micros = skew.as_micros();
                assert!(
                    micros * 256 <= exact && exact < (micros + 1) * 256,
                    "{version:?} {priority} {interval:?}: {skew:?}"
                );
                for adverts in [1, 3, 100] {
                    let wait = master_down(version, adverts, priority, interval).as_micros();
                    assert_eq!(wait, u128::from(adverts) * interval.as_micros() + micros);
                }
            }
        };
        for seconds in 1..=255 {
            // One second, whatever the interval.
            check(Version::V2, Duration::from_secs(seconds), 1_000_000);
        }
        for hundredths in 1..=4095 {
            let interval = Duration::from_millis(hundredths * 10);
            check(Version::V3, interval, interval.as_micros());
        }
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
