//! The state of authentication: sequence numbers of AH and of the HMAC trailer, sent and heard.

use core::net::IpAddr;
use core::time::Duration;

use crate::base::limit::Limit;
use crate::base::{Instant, WallTime};
use crate::model::extras::Hmac;
use crate::status::vrrp::AhSummary;

/// Highest AH sequence number, as in keepalived; a new mastership starts over.
const LAST: u32 = u32::MAX - 2;
/// AH numbers by the time of day begin in 2020, here in seconds since 1970, and advance by this many a second: twice as
/// fast as a master, so that those used for additional adverts are soon made up for.
const EPOCH: u64 = 1_577_836_800;
const RATE: u32 = 2;
/// They stop here (in 2071), so that the following ones are not used up for decades.
const MOST: u32 = 0xc000_0000;
/// AH numbers, sent or heard, that need not be reported in addition to [`RATE`] ...
const BURST: u32 = 16;
/// ... and those that may be used before a report arrives as well.
const SLACK: u32 = 2 * BURST;
/// Number of multicast senders whose sequence is remembered.
pub const SENDERS: usize = 4;

/// The sequence numbers of one virtual router.
#[derive(Clone, Debug)]
pub struct Sequences {
    /// Of the last AH advert, sent or heard: a new master continues the numbers of the old one.
    ah: u32,
    /// The last number was sent by this router.
    own: bool,
    /// Up to here the previous processes of this role may have used AH numbers. Those of a current master, which may be
    /// lower, are accepted, but none of them is sent again.
    used: u32,
    /// AH numbers that need not be reported to the next process of this role.
    pace: Limit,
    /// The AH numbers are used up.
    exhausted: bool,
    /// Of the last trailer sent.
    sent: u64,
    /// Of the last trailer heard from each sender, and when; the most recent sender is last.
    heard: Vec<(IpAddr, u64, Instant)>,
}

impl Default for Sequences {
    fn default() -> Self {
        Self {
            ah: 0,
            own: false,
            used: 0,
            pace: full(),
            exhausted: false,
            sent: 0,
            heard: Vec::new(),
        }
    }
}

impl Sequences {
    /// The last AH number.
    #[must_use]
    pub const fn ah(&self) -> u32 {
        self.ah
    }

    /// The AH numbers that the next process of this role has to know.
    #[must_use]
    pub fn report(&self, now: Instant, time: WallTime) -> AhSummary {
        AhSummary { last: self.ah, used: self.used.max(self.ah).max(by_clock(time)), at: now }
    }

    /// The number of the next AH advert, and whether it should be reported to the next process of this role. It is the
    /// one that belongs to the time of day, or the one after all that were used: others keep the last number and do not
    /// know that this router was restarted, was another virtual router meanwhile, or was cut off from the master that
    /// they have heard.
    //= rfc2402 3.3.2: the sender increments the Sequence Number for this SA
    // departs: by more than one, as the time of day does. A receiver accepts every higher number (3.4.3). If the clock
    // is not set, the numbers begin with 1.
    pub fn next_ah(&mut self, now: Instant, time: WallTime) -> (u32, bool) {
        let last = self.ah.max(self.used.min(LAST + 1));
        let number = if last > LAST { last } else { (last + 1).max(by_clock(time)) };
        self.exhausted |= last > LAST;
        let report = self.advance(number, now, time);
        self.own = true;
        (number, report)
    }

    /// Whether an AH advert with this number was received before. One with the number of our last advert was not: it
    /// comes from another router that was master as well and has not received ours. If it were refused, two masters
    /// that send at the same time would both stay master, since each would see the other one repeat its numbers.
    #[must_use]
    pub const fn is_old_ah(&self, number: u32) -> bool {
        number < self.ah || number == self.ah && !self.own
    }

    /// Notes the number of a valid AH advert; true if it should be reported to the next process of this role.
    pub fn note_ah(&mut self, number: u32, now: Instant, time: WallTime) -> bool {
        self.own = false;
        self.advance(number, now, time)
    }

    /// A report accounts for the numbers by the time of day and [`RATE`] others a second after it; if more are used,
    /// another one is needed.
    fn advance(&mut self, number: u32, now: Instant, time: WallTime) -> bool {
        let count = number.saturating_sub(self.ah.max(by_clock(time))).min(SLACK);
        self.ah = number;
        let report = !(0..count).all(|_| self.pace.take(now));
        if report {
            self.pace = full();
        }
        report
    }

    /// Continues from what the previous process of this role reported. It has sent or heard more since. The current
    /// master may have continued from an earlier one, so all after the last one reported are still accepted.
    pub fn resume(&mut self, told: AhSummary, now: Instant) {
        let seconds = u32::try_from(now.since(told.at).as_secs()).unwrap_or(u32::MAX);
        let since = seconds.saturating_mul(RATE).saturating_add(SLACK);
        (self.ah, self.own) = (told.last, false);
        self.used = told.used.max(told.last).saturating_add(since);
    }

    /// A new mastership begins.
    pub const fn renew(&mut self) {
        if self.exhausted {
            (self.ah, self.used, self.exhausted) = (0, 0, false);
        }
    }

    /// The sequence of the next trailer: the time, or one more than the last one if the clock has not advanced.
    pub fn next_stamp(&mut self, hmac: &Hmac, now: WallTime) -> u64 {
        let clock = stamp(now);
        let ahead = seconds(self.sent).wrapping_sub(seconds(clock)).cast_signed();
        let window = i64::try_from(hmac.window.as_secs()).unwrap_or(i64::MAX);
        let restart = !hmac.monotonic && i64::from(ahead) > window;
        self.sent =
            if restart || is_newer(clock, self.sent) { clock } else { self.sent.wrapping_add(1) };
        self.sent
    }

    /// The sequence heard last from a sender.
    #[must_use]
    pub fn last(&self, sender: IpAddr) -> Option<u64> {
        self.heard.iter().find(|(known, ..)| *known == sender).map(|(_, sequence, _)| *sequence)
    }

    /// The sequence heard last from each sender, and when.
    #[must_use]
    pub fn heard(&self) -> &[(IpAddr, u64, Instant)] {
        &self.heard
    }

    /// Continues from what the previous process of this role had heard until `end`, its last sign of life. It reported
    /// only some adverts, but sequences are times: whatever it heard later has at most the reported sequence plus the
    /// time since, and what a sender sends from now on has more.
    pub fn resume_heard(&mut self, mut heard: Vec<(IpAddr, u64, Instant)>, end: Instant) {
        for (_, sequence, at) in &mut heard {
            *sequence = sequence.wrapping_add(span(end.since(*at)));
            *at = end.max(*at);
        }
        self.heard = heard;
    }

    /// Notes the sequence of a verified trailer; `peers`: the number of unicast senders, none for multicast. For
    /// multicast, the sender that was silent longest is replaced. True if this sender was unknown.
    pub fn note_stamp(
        &mut self,
        (sender, sequence): (IpAddr, u64),
        peers: Option<usize>,
        now: Instant,
    ) -> bool {
        let before = self.heard.len();
        self.heard.retain(|(known, ..)| *known != sender);
        let new = self.heard.len() == before;
        if self.heard.len() >= peers.unwrap_or(SENDERS) && !self.heard.is_empty() {
            self.heard.remove(0);
        }
        self.heard.push((sender, sequence, now));
        new
    }
}

/// The AH number that belongs to a time of day.
fn by_clock(time: WallTime) -> u32 {
    let halves = time.secs.saturating_sub(EPOCH).saturating_mul(u64::from(RATE));
    let halves = halves.saturating_add(u64::from(time.nanos >= 500_000_000));
    u32::try_from(halves).unwrap_or(MOST).min(MOST)
}

fn full() -> Limit {
    Limit::new(BURST, Duration::from_secs(1) / RATE)
}

/// How far a sequence advances in this time.
fn span(time: Duration) -> u64 {
    let time = WallTime { secs: time.as_secs(), nanos: time.subsec_nanos() };
    stamp(time)
}

/// A time as a sequence: seconds, fraction in 1/65536, no counter.
fn stamp(time: WallTime) -> u64 {
    let fraction = (u64::from(time.nanos) << 16) / 1_000_000_000;
    (time.secs & u64::from(u32::MAX)) << 32 | fraction << 16
}

/// The seconds of a sequence, the low 32 bits of those since 1970.
#[must_use]
pub const fn seconds(sequence: u64) -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "the upper half")]
    let seconds = (sequence >> 32) as u32;
    seconds
}

/// Whether a sequence comes after another one, in arithmetic that wraps around (RFC 1982).
#[must_use]
pub const fn is_newer(sequence: u64, than: u64) -> bool {
    sequence.wrapping_sub(than).cast_signed() > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::extras::HmacMode;

    fn hmac(monotonic: bool) -> Hmac {
        let window = Duration::from_secs(10);
        Hmac { keys: Vec::new(), active: 1, window, monotonic, mode: HmacMode::Enforce }
    }

    fn next(sequences: &mut Sequences) -> u32 {
        sequences.next_ah(Instant::ZERO, WallTime::default()).0
    }

    #[test]
    fn trailers_are_never_sent_twice() {
        let time = |secs, nanos| WallTime { secs, nanos };
        let mut sequences = Sequences::default();
        let first = sequences.next_stamp(&hmac(false), time(0x1_6800_0000, 500_000_000));
        assert_eq!(first, 0x6800_0000_8000_0000);
        // The clock stands still, and goes back by less than the window.
        assert_eq!(sequences.next_stamp(&hmac(false), time(0x6800_0000, 500_000_000)), first + 1);
        assert_eq!(sequences.next_stamp(&hmac(false), time(0x6800_0000 - 10, 0)), first + 2);
        // By more: then it counts, unless only growth does.
        assert_eq!(sequences.next_stamp(&hmac(true), time(0x6800_0000 - 11, 0)), first + 3);
        let back = sequences.next_stamp(&hmac(false), time(0x6800_0000 - 11, 0));
        assert_eq!(back, 0x67ff_fff5_0000_0000);
    }

    #[test]
    fn a_sender_makes_room_for_a_newer_one() {
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let mut sequences = Sequences::default();
        let news = [1, 2, 3, 4, 1, 5].map(|last| {
            sequences.note_stamp((address(last), u64::from(last)), None, Instant::ZERO)
        });
        assert_eq!(news, [true, true, true, true, false, true]);
        assert_eq!(sequences.last(address(2)), None);
        assert_eq!([1, 3, 4, 5].map(|last| sequences.last(address(last))), [1, 3, 4, 5].map(Some));
        // Peers have a place each.
        for last in 1..=9 {
            sequences.note_stamp((address(last), 7), Some(9), Instant::ZERO);
        }
        assert!((1..=9).all(|last| sequences.last(address(last)) == Some(7)));
    }

    #[test]
    fn what_the_last_process_heard_is_not_heard_again() {
        let sender = IpAddr::from([10, 0, 0, 1]);
        // A sender whose clock is 3 s behind, heard at each second.
        let told = |second: u64| {
            let at = Instant::from_nanos(second * 1_000_000_000);
            (stamp(WallTime { secs: 0x6800_0000 + second - 3, nanos: 0 }), at)
        };
        let (sequence, at) = told(100);
        let mut next = Sequences::default();
        // The last summary was made at 100 s, and the process lived until just after the advert of 104 s.
        next.resume_heard(vec![(sender, sequence, at)], told(104).1 + Duration::from_millis(1));
        let last = next.last(sender).unwrap();
        assert!((100..=104).all(|second| !is_newer(told(second).0, last)));
        assert!(is_newer(told(105).0, last));
        assert_eq!(next.last(IpAddr::from([10, 0, 0, 2])), None);
    }

    #[test]
    fn ah_numbers_begin_again_with_a_new_mastership() {
        let mut sequences = Sequences { ah: u32::MAX - 3, ..Sequences::default() };
        let numbers: Vec<u32> = (0..4).map(|_| next(&mut sequences)).collect();
        assert_eq!(numbers, [u32::MAX - 2, u32::MAX - 1, u32::MAX - 1, u32::MAX - 1]);
        sequences.renew();
        assert_eq!(next(&mut sequences), 1);
        sequences.renew();
        assert_eq!(next(&mut sequences), 2);
    }

    #[test]
    fn ah_numbers_follow_the_time_of_day_where_that_is_higher() {
        let mut sequences = Sequences::default();
        let times =
            [(EPOCH - 1, 0), (EPOCH + 500, 0), (EPOCH + 499, 0), (EPOCH + 501, 500_000_000)];
        let numbers =
            times.map(|(secs, nanos)| sequences.next_ah(Instant::ZERO, WallTime { secs, nanos }).0);
        assert_eq!(numbers, [1, 1000, 1001, 1003]);
        // Centuries later there is still room.
        for secs in [1 << 33, u64::MAX] {
            let late = WallTime { secs, nanos: 999_999_999 };
            assert_eq!(Sequences::default().next_ah(Instant::ZERO, late).0, MOST);
        }
    }

    /// Sends `rate` adverts every `interval` seconds and replaces the process after each; returns how often it reports.
    fn reports(clock: u64, interval: u64, rate: u32) -> u32 {
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let time = |seconds: u64| WallTime { secs: clock + seconds, nanos: 0 };
        let mut sequences = Sequences::default();
        let (mut told, mut reports) = (sequences.report(at(0), time(0)), 0);
        for second in (1..=600).step_by(usize::try_from(interval).unwrap()) {
            for _ in 0..rate {
                let (number, report) = sequences.next_ah(at(second), time(second));
                let mut next_one = Sequences::default();
                next_one.resume(told, at(second));
                // The clock may have been set back meanwhile.
                assert!(next_one.clone().next_ah(at(second), time(second)).0 > number);
                assert!(next_one.next_ah(at(second), time(0)).0 > number);
                if report {
                    (told, reports) = (sequences.report(at(second), time(second)), reports + 1);
                }
            }
        }
        reports
    }

    #[test]
    fn what_is_not_reported_is_skipped_by_the_next_process() {
        for clock in [0, EPOCH + 1_000_000] {
            assert_eq!([reports(clock, 1, 1), reports(clock, 40, 1)], [0, 0]);
            let many = reports(clock, 1, 10);
            assert!(many > 50 && many < 600, "{many}");
        }
        // A process accepts the adverts of a master that continued earlier, and the one after it does as well.
        let none = WallTime::default();
        let told = AhSummary { last: 7, used: 7, at: Instant::ZERO };
        let now = Instant::from_nanos(10_000_000_000);
        let mut second = Sequences::default();
        second.resume(told, now);
        assert!(second.is_old_ah(7) && !second.is_old_ah(8));
        assert!(!second.note_ah(8, now, none));
        let mut third = Sequences::default();
        third.resume(second.report(now, none), now);
        assert!(!third.is_old_ah(9) && next(&mut third) > 27);
    }

    #[test]
    fn the_number_of_our_own_advert_is_new_in_that_of_another_router_once() {
        let mut sequences = Sequences::default();
        assert!(sequences.is_old_ah(0));
        let number = next(&mut sequences);
        assert_eq!(
            [number - 1, number, number + 1].map(|n| sequences.is_old_ah(n)),
            [true, false, false]
        );
        sequences.note_ah(number, Instant::ZERO, WallTime::default());
        assert!(sequences.is_old_ah(number));
        let told = sequences.report(Instant::ZERO, WallTime::default());
        sequences.resume(told, Instant::ZERO);
        assert!(sequences.is_old_ah(number) && !sequences.is_old_ah(number + 1));
    }

    #[test]
    fn newer_is_meant_over_the_end_of_numbers() {
        assert!(is_newer(1, 0) && is_newer(0, u64::MAX) && is_newer(5, u64::MAX - 5));
        assert!(!is_newer(0, 0) && !is_newer(0, 1) && !is_newer(u64::MAX, 3));
    }
}
