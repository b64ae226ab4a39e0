//! Rate limits for what other routers on the segment can cause: corrections of a master of lower priority, and log
//! lines.
//!
//! A single advert is answered at once. Thousands a second get a few answers a second, the last one after the last
//! advert, so that ARP caches end up correct; the log gets one line a minute and a count.

use core::time::Duration;

use super::event::InstanceId;
use super::instance::{Machine, peer};
use super::{Action, Engine, Moment, Timer, notify};
use crate::base::Instant;
use crate::base::limit::Limit;
use crate::status::PEER;
use crate::status::peer::REFUSALS;

/// Number of corrections without a pause, for the case of several masters at once.
const BURST: u32 = 3;
/// Time between two corrections after that. Announcements of many addresses take longer:
const CORRECTION: Duration = Duration::from_millis(100);
/// this time per frame.
const FRAME: Duration = Duration::from_micros(200);
/// Period in which lines of one kind are limited,
const PERIOD: Duration = Duration::from_secs(60);
/// to this number for kinds of which each line may matter.
const SEVERAL: u32 = 5;
/// Number of consecutive lines about unknown VRIDs (`log_unknown_vrids`);
const UNKNOWN: u32 = 20;
/// after that one in this time.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(3);

/// Answers to masters of lower priority, and to those that leave.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Corrections {
    adverts: Pace,
    /// Notices to scripts about masters of lower priority.
    notices: Pace,
    /// Announcements of the addresses, if it is in no group.
    sets: Pace,
    /// When an advert was last requested, if none has been sent since.
    advert_owed: Option<Instant>,
    /// A notice is due because of what was heard since the last one.
    notice_owed: bool,
    /// An announcement is due because of what was heard since the last one.
    set_owed: bool,
}

/// A rate: a burst, then once per pause.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// When the budget is full again.
    until: Instant,
    /// Time per action.
    pause: Duration,
}

impl Pace {
    /// When the next action is allowed.
    fn next(&self) -> Instant {
        self.until - self.pause.saturating_mul(BURST - 1)
    }

    fn take(&mut self, now: Instant, pause: Duration) {
        *self = Self { until: self.until.max(now) + pause, pause };
    }
}

/// Kinds of log lines that other routers cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// A refused advert, see `Refusal::kind`.
    Refused(usize),
    /// Addresses that differ from ours.
    OtherAddresses,
    /// A backup heard a lower priority.
    Discarded,
    /// A master heard a lower priority.
    Lower,
    /// Our own priority and address.
    Echo,
    /// A different master than before.
    NewMaster,
    /// An advert could not be sent.
    Unsent,
    /// The peer uses the other form of the checksum.
    Checksum,
    /// The sender's clock differs from ours.
    Clock,
    /// A master leaves (priority 0).
    Farewell,
    /// The delay of a preemption begins or ends.
    Preemption,
}

const KINDS: usize = REFUSALS.len() + 10;

impl Reason {
    const fn index(self) -> usize {
        const FIRST: usize = REFUSALS.len();
        match self {
            Self::Refused(kind) if kind < FIRST => kind,
            Self::Refused(_) | Self::OtherAddresses => FIRST,
            Self::Discarded => FIRST + 1,
            Self::Lower => FIRST + 2,
            Self::Echo => FIRST + 3,
            Self::NewMaster => FIRST + 4,
            Self::Unsent => FIRST + 5,
            Self::Checksum => FIRST + 6,
            Self::Clock => FIRST + 7,
            Self::Farewell => FIRST + 8,
            Self::Preemption => FIRST + 9,
        }
    }

    const fn lines(index: usize) -> u32 {
        const LOWER: usize = Reason::Lower.index();
        const NEW_MASTER: usize = Reason::NewMaster.index();
        const FAREWELL: usize = Reason::Farewell.index();
        // One line per refusal is enough.
        if matches!(index, LOWER..=NEW_MASTER | FAREWELL..) { SEVERAL } else { 1 }
    }

    #[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
    const WORDS: [&'static str; KINDS] = {
        let mut words = [""; KINDS];
        let mut kind = 0;
        while kind < KINDS {
            words[kind] = if kind < REFUSALS.len() {
                REFUSALS[kind].1
            } else {
                Self::OTHERS[kind - REFUSALS.len()]
            };
            kind += 1;
        }
        words
    };

    /// Words for those that are no refusals.
    const OTHERS: [&'static str; 10] = [
        "other addresses than ours",
        "lower priority, discarded",
        "lower priority, answered",
        "our own priority and address",
        "another master",
        "advert not sent",
        "another form of checksum",
        "another time of day",
        "priority 0",
        "preempt delay",
    ];
}

/// Log lines written and suppressed, by kind.
#[derive(Clone, Debug, Default)]
pub(super) struct LogLimits([Kind; KINDS]);

/// Log lines about virtual router ids that no instance has (`log_unknown_vrids`).
#[derive(Clone, Debug)]
pub(super) struct UnknownVrids {
    lines: Limit,
    left_out: u32,
}

impl Default for UnknownVrids {
    fn default() -> Self {
        Self { lines: Limit::new(UNKNOWN, UNKNOWN_PAUSE), left_out: 0 }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    /// End of the period.
    until: Instant,
    /// Lines in the period, including suppressed ones.
    seen: u32,
}

impl LogLimits {
    /// Whether a line of this kind is to be logged now; otherwise it is counted. The second value: this is the first
    /// suppressed one, so a summary must be logged later.
    fn admit(&mut self, reason: Reason, now: Instant) -> (bool, bool) {
        let index = reason.index();
        let Some(kind) = self.0.get_mut(index) else { return (true, false) };
        if now >= kind.until {
            *kind = Kind { until: now + PERIOD, seen: 0 };
        }
        kind.seen = kind.seen.saturating_add(1);
        let lines = Reason::lines(index);
        (kind.seen <= lines, kind.seen == lines + 1)
    }

    /// The kinds whose period is over and that had suppressed lines, with their number.
    fn left_out(&mut self, now: Instant) -> impl Iterator<Item = (&'static str, u32)> {
        self.0.iter_mut().enumerate().zip(Reason::WORDS).filter_map(
            move |((index, kind), words)| {
                let left_out = kind.seen.saturating_sub(Reason::lines(index));
                if left_out == 0 || kind.until > now {
                    return None;
                }
                *kind = Kind::default();
                Some((words, left_out))
            },
        )
    }

    fn next(&self) -> Option<Instant> {
        let open = |(index, kind): &(usize, &Kind)| kind.seen > Reason::lines(*index);
        self.0.iter().enumerate().filter(open).map(|(_, kind)| kind.until).min()
    }
}

impl Engine {
    /// Whether a line that other routers caused is to be logged now. Suppressed lines are counted and reported later.
    #[cfg_attr(test, track_caller)]
    pub(super) fn admits(&mut self, id: InstanceId, reason: Reason, now: Instant) -> bool {
        #[cfg(test)]
        if sites::pass(core::panic::Location::caller()) {
            return true;
        }
        let Some(instance) = self.instance_mut(id) else { return false };
        let (logged, first) = instance.log_limits.admit(reason, now);
        if first {
            self.arm_limits(id);
        }
        logged
    }

    /// Whether a line about a packet for an unknown virtual router id is to be logged now. Suppressed lines are counted
    /// and reported later.
    #[cfg_attr(test, track_caller)]
    pub(super) fn admits_unknown_vrid(&mut self, now: Instant) -> bool {
        #[cfg(test)]
        if sites::pass(core::panic::Location::caller()) {
            return true;
        }
        let logged = self.unknown_vrids.lines.take(now);
        if !logged {
            if self.unknown_vrids.left_out == 0 {
                self.timers.set(Timer::UnknownVrids, now + PERIOD);
            }
            self.unknown_vrids.left_out = self.unknown_vrids.left_out.saturating_add(1);
        }
        logged
    }

    /// Reports the suppressed lines about unknown virtual router ids.
    pub(super) fn report_unknown_vrids(&mut self) {
        let count = core::mem::take(&mut self.unknown_vrids.left_out);
        tracing::info!(
            target: PEER,
            "{count} more in the last minute were not logged: unknown VRID"
        );
    }

    /// A master heard another one: it sends an advert, and corrects ARP caches unless the other one leaves. Corrections
    /// beyond the limit are delayed.
    pub(super) fn correct(&mut self, moment: &mut Moment<'_>, id: InstanceId, lower: bool) {
        let Some(instance) = self.instance_mut(id) else { return };
        let corrections = &mut instance.corrections;
        // `lower_prio_no_advert` concerns lower priorities: a farewell is answered nevertheless, and an answer that is
        // not sent does not count against the limit.
        if !(lower && instance.config.lower_prio_no_advert) {
            corrections.advert_owed = Some(moment.now);
        }
        corrections.notice_owed |= lower;
        corrections.set_owed |= lower;
        self.correct_now(moment, id);
        self.arm_limits(id);
    }

    /// Sends the corrections that are due and allowed now.
    fn correct_now(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        let sets = self.sets_of(id);
        let Some(instance) = self.instance_mut(id) else { return };
        let Machine::Master { next_advert } = instance.machine() else { return };
        let sent = next_advert - instance.config.advert_int;
        let corrections = &mut instance.corrections;
        let may = |pace: &Pace| pace.next() <= moment.now;
        let advert = corrections.advert_owed.take_if(|_| may(&corrections.adverts));
        // A regular advert that was sent meanwhile is sufficient.
        let advert = advert.is_some_and(|heard| sent <= heard);
        if advert {
            corrections.adverts.take(moment.now, CORRECTION);
        }
        let notice = corrections.notice_owed && may(&corrections.notices);
        if notice {
            corrections.notices.take(moment.now, CORRECTION);
            corrections.notice_owed = false;
        }
        let set = corrections.set_owed && may(&sets);
        let notice = if notice { notify::of_lower_priority(instance) } else { None };
        if advert {
            self.send_advert_now(moment, id);
        }
        moment.out.extend(notice.map(Action::Notify));
        if set {
            self.correct_caches(moment, id);
        }
    }

    /// Announces the addresses. This counts against the limit of all members of the group.
    fn correct_caches(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        let Some(instance) = self.instance_mut(id) else { return };
        instance.corrections.set_owed = false;
        let frames = instance.config.frames_after_lower();
        let pause = |frames: u32| CORRECTION.max(FRAME.saturating_mul(frames));
        match instance.group {
            None => {
                instance.corrections.sets.take(moment.now, pause(frames));
                self.announce_after_lower(moment, id);
            }
            Some(group) => {
                if let Some(group) = self.group_mut(group) {
                    group.sets.take(moment.now, pause(group.frames));
                }
                self.correcting.push_back((group, 0));
                self.correct_on(moment);
            }
        }
    }

    /// Continues with the announcements of the members of groups, as far as this step has room.
    pub(super) fn correct_on(&mut self, moment: &mut Moment<'_>) {
        while self.effort > 0
            && let Some((group, next)) = self.correcting.front_mut()
        {
            let (id, position) = (*group, *next);
            *next += 1;
            self.spend(1);
            match self.group(id).and_then(|group| group.members.get(position).copied()) {
                Some(member) => self.announce_after_lower(moment, member),
                None => _ = self.correcting.pop_front(),
            }
        }
        if !self.correcting.is_empty() {
            self.timers.set(Timer::Slice, moment.now);
        }
    }

    /// The rate of announcements after adverts of lower priority: members of a group share it.
    fn sets_of(&self, id: InstanceId) -> Pace {
        let Some(instance) = self.instance(id) else { return Pace::default() };
        let group = instance.group.and_then(|group| self.group(group));
        group.map_or(instance.corrections.sets, |group| group.sets)
    }

    /// A delayed correction may be sent, or suppressed lines are to be reported.
    pub(super) fn limits_due(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        let Some(instance) = self.instance_mut(id) else { return };
        let mut limits = core::mem::take(&mut instance.log_limits);
        for (words, count) in limits.left_out(moment.now) {
            peer!(info, *instance, "{count} more in the last minute were not logged: {words}");
        }
        instance.log_limits = limits;
        self.correct_now(moment, id);
        self.arm_limits(id);
    }

    fn arm_limits(&mut self, id: InstanceId) {
        let Some(instance) = self.instance(id) else { return };
        let corrections = &instance.corrections;
        let advert = corrections.advert_owed.map(|_| corrections.adverts.next());
        let notice = corrections.notice_owed.then(|| corrections.notices.next());
        let set = corrections.set_owed.then(|| self.sets_of(id).next());
        let next = [advert, notice, set, instance.log_limits.next()].into_iter().flatten().min();
        self.set_timer(Timer::Limits(id), next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_lines_words_and_a_count_of_its_own() {
        let now = Instant::from_nanos(1_000_000_000);
        let refused = (0..REFUSALS.len()).map(Reason::Refused);
        let others = [
            (Reason::OtherAddresses, 1),
            (Reason::Discarded, 1),
            (Reason::Lower, SEVERAL),
            (Reason::Echo, SEVERAL),
            (Reason::NewMaster, SEVERAL),
            (Reason::Unsent, 1),
            (Reason::Checksum, 1),
            (Reason::Clock, 1),
            (Reason::Farewell, SEVERAL),
            (Reason::Preemption, SEVERAL),
        ];
        let all: Vec<(Reason, u32)> = refused.map(|reason| (reason, 1)).chain(others).collect();
        assert_eq!(all.len(), Reason::WORDS.len());
        for ((reason, most), words) in all.into_iter().zip(Reason::WORDS) {
            let mut lines = LogLimits::default();
            let logged = (0..10).filter(|_| lines.admit(reason, now).0).count();
            assert_eq!(logged, most as usize, "{words}");
            let left_out: Vec<_> = lines.left_out(now + PERIOD).collect();
            assert_eq!(left_out, [(words, 10 - most)]);
        }
    }

    #[test]
    fn a_line_a_minute_and_a_count() {
        let mut lines = LogLimits::default();
        let at = |secs: u64| Instant::from_nanos(secs * 1_000_000_000);
        let reason = Reason::Refused(5);
        assert_eq!(lines.admit(reason, at(1)), (true, false));
        assert_eq!(lines.admit(reason, at(2)), (false, true));
        assert_eq!(lines.admit(reason, at(3)), (false, false));
        assert_eq!(lines.admit(Reason::Refused(6), at(3)), (true, false));
        assert_eq!(lines.left_out(at(60)).next(), None);
        assert_eq!(lines.next(), Some(at(61)));
        assert_eq!(lines.left_out(at(61)).collect::<Vec<_>>(), [("wrong checksum", 2)]);
        assert_eq!((lines.next(), lines.left_out(at(61)).next()), (None, None));
        assert_eq!(lines.admit(reason, at(61)), (true, false));
    }
}

/// The places that ask for admission, for a test that removes each of them.
#[cfg(test)]
pub(super) mod sites {
    use core::cell::{Cell, RefCell};
    use core::panic::Location;
    use std::collections::BTreeSet;

    /// File and line.
    pub type Site = (&'static str, u32);

    thread_local! {
        /// Those that asked.
        pub static ASKED: RefCell<BTreeSet<Site>> = const { RefCell::new(BTreeSet::new()) };
        /// The one that logs every line, as if it did not ask.
        pub static REMOVED: Cell<Option<Site>> = const { Cell::new(None) };
    }

    /// Notes the place. Whether it is the removed one.
    pub fn pass(caller: &'static Location<'static>) -> bool {
        let site = (caller.file(), caller.line());
        ASKED.with_borrow_mut(|asked| asked.insert(site));
        REMOVED.get() == Some(site)
    }
}
