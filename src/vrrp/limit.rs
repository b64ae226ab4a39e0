//! What others on the segment can make an instance do is limited in rate: corrections of a master of lower
//! priority, and lines in the log.
//!
//! Who sends one advert gets its answer at once. Who sends thousands a second gets a few a second, the last one after
//! the last advert, so that caches end up right; and the log gets a line a minute and a count.

use core::time::Duration;

use super::event::InstanceId;
use super::instance::say;
use super::{Cx, Engine, Timer};
use crate::base::Instant;

/// Corrections in a row, as when several routers were masters at once.
const BURST: u32 = 3;
/// Time between two corrections after that. With more addresses it is longer:
const CORRECTION: Duration = Duration::from_millis(100);
/// so much for each frame of an announcement.
const FRAME: Duration = Duration::from_micros(200);
/// Lines of one kind in this time are limited,
const PERIOD: Duration = Duration::from_secs(60);
/// to so many for kinds of which each may matter.
const SEVERAL: u32 = 5;

/// Corrections of a master of lower priority.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Corrections {
    /// Those so far are worked off by then.
    until: Instant,
    /// Time for one of them.
    pause: Duration,
    /// What was heard since the last one asks for one,
    held: Option<Correction>,
    /// the last time at this moment.
    heard: Instant,
}

/// How a master answers another one; the greater includes the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Correction {
    /// With an advert.
    Advert,
    /// And by announcing its addresses.
    Announce,
}

/// Kinds of lines that others cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// A refused advert, see `Refusal::kind`.
    Refused(usize),
    /// Other addresses than ours.
    OtherAddresses,
    /// A backup heard a lower priority.
    Discarded,
    /// A master heard a lower priority.
    Lower,
    /// Our own priority and address.
    Echo,
    /// Another master than before.
    NewMaster,
    /// An advert could not be sent.
    Unsent,
}

/// Kinds of refusals.
const REFUSALS: usize = 12;
const KINDS: usize = REFUSALS + 6;

impl Reason {
    const fn index(self) -> usize {
        match self {
            Self::Refused(kind) if kind < REFUSALS => kind,
            Self::Refused(_) | Self::OtherAddresses => REFUSALS,
            Self::Discarded => REFUSALS + 1,
            Self::Lower => REFUSALS + 2,
            Self::Echo => REFUSALS + 3,
            Self::NewMaster => REFUSALS + 4,
            Self::Unsent => REFUSALS + 5,
        }
    }

    const fn lines(index: usize) -> u32 {
        // Of a refusal one line says it all.
        if index <= REFUSALS + 1 || index == REFUSALS + 5 { 1 } else { SEVERAL }
    }

    const WORDS: [&'static str; KINDS] = [
        "wrong destination address",
        "wrong TTL",
        "wrong version",
        "wrong type",
        "wrong length",
        "wrong checksum",
        "unknown authentication",
        "other authentication",
        "wrong password",
        "wrong interval",
        "own addresses",
        "wrong address count",
        "other addresses than ours",
        "lower priority, discarded",
        "lower priority, answered",
        "our own priority and address",
        "another master",
        "advert not sent",
    ];
}

/// Lines logged and left out, by kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines([Kind; KINDS]);

#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    /// End of the period.
    until: Instant,
    /// Lines in it, those left out included.
    seen: u32,
}

impl Corrections {
    /// When the next one may go.
    fn next(&self) -> Instant {
        self.until - self.pause.saturating_mul(BURST - 1)
    }
}

impl Lines {
    /// Whether a line of this kind is to be logged now; it is counted otherwise. The second value: the first one is
    /// left out, and must be told of later.
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

    /// The kinds whose period is over and of which lines were left out, with their number.
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
    /// Whether a line that others caused is to be logged now. What is left out is counted and told of later.
    pub(super) fn admits(&mut self, id: InstanceId, reason: Reason, now: Instant) -> bool {
        let Some(instance) = self.instance_mut(id) else { return false };
        let (logged, first) = instance.lines.admit(reason, now);
        if first {
            self.arm_limits(id);
        }
        logged
    }

    /// Whether a master may answer another one now. If not, it does so later.
    pub(super) fn may_correct(&mut self, cx: &Cx<'_>, id: InstanceId, what: Correction) -> bool {
        let Some(instance) = self.instance_mut(id) else { return false };
        if cx.now < instance.corrections.next() {
            let first = instance.corrections.held.is_none();
            instance.corrections.held = instance.corrections.held.max(Some(what));
            instance.corrections.heard = cx.now;
            if first {
                self.arm_limits(id);
            }
            return false;
        }
        let frames = match what {
            Correction::Advert => 0,
            Correction::Announce => {
                let addresses = u32::try_from(instance.entries.len()).unwrap_or(u32::MAX);
                addresses.saturating_mul(instance.config.garp.lower_prio_repeat)
            }
        };
        let pause = CORRECTION.max(FRAME.saturating_mul(frames));
        let until = instance.corrections.until.max(cx.now) + pause;
        instance.corrections = Corrections { until, pause, held: None, heard: cx.now };
        true
    }

    /// A correction that was held back may go, or lines that were left out are to be told of.
    pub(super) fn limits_due(&mut self, cx: &mut Cx<'_>, id: InstanceId) {
        let Some(instance) = self.instance_mut(id) else { return };
        let mut lines = core::mem::take(&mut instance.lines);
        for (words, count) in lines.left_out(cx.now) {
            say!(info, *instance, "{count} more in the last minute were not logged: {words}");
        }
        instance.lines = lines;
        let heard = instance.corrections.heard;
        let held = match instance.corrections.next() <= cx.now {
            true => instance.corrections.held.take(),
            false => None,
        };
        if let Some(what) = held.filter(|_| instance.is_master()) {
            self.correct(cx, id, what, heard);
        }
        self.arm_limits(id);
    }

    fn arm_limits(&mut self, id: InstanceId) {
        let Some(instance) = self.instance(id) else { return };
        let held = instance.corrections.held.map(|_| instance.corrections.next());
        let next = held.into_iter().chain(instance.lines.next()).min();
        self.set_timer(Timer::Limits(id), next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_minute_and_a_count() {
        let mut lines = Lines::default();
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
