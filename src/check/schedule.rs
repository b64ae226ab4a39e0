//! When and how often a check is tried, and the effect of its results.
//!
//! A check is tried every `delay_loop`, counted from the start of an attempt, so that its phase neither drifts nor
//! depends on how long a server takes. A failed attempt of a check that is up is repeated after `delay_before_retry`,
//! `retry` times, before it takes the server down; the very first attempt after a start decides at once, because
//! nothing is known yet. A check that is down comes up with the first success.

use core::time::Duration;
use std::sync::Arc;

use super::id::{CheckerPosition, Index, ServerPosition, ServiceSlot};
use super::notify::say;
use super::probe::{Closing, Failure, Kind, ProbeId, Share, Subject, Tries, Verdict};
use super::{Action, CheckerSlot, Engine, Moment, Timer};
use crate::base::Instant;
use crate::model::{self, CheckerKind, Lvs, RealServer};

/// The first attempt comes this long after the start.
const SETTLING: Duration = Duration::from_secs(1);
/// If a time limit is noticed this much too late, the process or the machine was stalled: the attempt is repeated
/// before anything is concluded.
const LATE: Duration = Duration::from_millis(200);
/// TCP checks per second above which the log explains how to avoid connections in TIME_WAIT.
const MANY_PER_SECOND: f64 = 100.0;
/// Largest number of checks that are logged one by one when they begin.
const NAMED: usize = 1000;

/// One check.
#[derive(Debug)]
pub(super) struct Checker {
    pub service: ServiceSlot,
    /// Position of its server in the service.
    pub server: ServerPosition,
    /// Its position among the checks of the server.
    pub position: CheckerPosition,
    /// It finds the server good.
    pub up: bool,
    /// It has had a result.
    pub has_run: bool,
    /// The first failure decides, without retries.
    pub decisive: bool,
    /// Consecutive failed attempts that have not decided yet.
    pub tries: u32,
    /// The next page, of a check that has several.
    pub page: usize,
    /// That page was bad and only it is tried until it is good; then all are tried, from the first one.
    pub alone: bool,
    /// When the last regular attempt was due or the next one is.
    pub due: Instant,
    pub attempt: Option<Attempt>,
    /// It is due and waits for another attempt to end.
    pub waiting: bool,
    pub last: Option<Verdict>,
    /// The share it last determined for its server.
    pub share: Share,
}

/// An attempt under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub serial: u64,
    /// It repeats one that was judged too late.
    pub repeated: bool,
}

/// The place of a check in the configuration.
#[derive(Clone, Copy)]
pub(super) struct Place<'c> {
    pub service: &'c model::Service,
    pub server: &'c RealServer,
    pub checker: &'c model::Checker,
    pub kind: Kind<'c>,
}

impl Place<'_> {
    /// Its server and service, for texts.
    fn subject(&self) -> Subject {
        Subject { server: self.server.display(&self.service.key), service: self.service.id() }
    }
}

/// How a new check begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    pub up: bool,
    pub decisive: bool,
    /// Its server is out of service until it has a result: do not wait for the whole warm-up.
    pub early: bool,
}

impl Engine {
    /// Adds a check and schedules its first attempt.
    pub(super) fn add_checker(
        &mut self,
        moment: &Moment<'_>,
        (service, server, position): (ServiceSlot, ServerPosition, CheckerPosition),
        checker: &model::Checker,
        beginning: Beginning,
    ) -> CheckerSlot {
        let warmup = if beginning.early { checker.warmup.min(SETTLING) } else { checker.warmup };
        let spread = u64::try_from(warmup.as_nanos()).unwrap_or(u64::MAX);
        let due = self.due_by_report(moment.now, &checker.kind).unwrap_or_else(|| {
            let random = self.rng.below(spread.saturating_add(1).max(1));
            moment.now + SETTLING + Duration::from_nanos(random)
        });
        let slot = self.checkers.insert(Checker {
            service,
            server,
            position,
            up: beginning.up,
            has_run: false,
            decisive: beginning.decisive,
            tries: 0,
            page: 0,
            alone: false,
            due,
            attempt: None,
            waiting: false,
            last: None,
            share: Share::Configured,
        });
        self.timers.set(Timer::Check(slot), due);
        slot
    }

    /// Ends a check.
    pub(super) fn remove_checker(&mut self, moment: &mut Moment<'_>, slot: CheckerSlot) {
        self.drop_attempt(moment, slot);
        self.timers.clear(Timer::Check(slot));
        self.checkers.remove(slot);
    }

    /// Abandons the attempt under way, if there is one.
    pub(super) fn drop_attempt(&mut self, moment: &mut Moment<'_>, slot: CheckerSlot) {
        let Some(checker) = self.checkers.get_mut(slot) else {
            return;
        };
        checker.waiting = false;
        if let Some(attempt) = checker.attempt.take() {
            self.running = self.running.saturating_sub(1);
            let probe = ProbeId { checker: slot, serial: attempt.serial };
            moment.out.push(Action::CancelProbe { probe });
        }
    }

    /// Moves a check to the next configuration: state and phase stay.
    pub(super) fn keep_checker(
        &mut self,
        moment: &Moment<'_>,
        slot: CheckerSlot,
        (server, position): (ServerPosition, CheckerPosition),
        old: &model::Checker,
        new: &model::Checker,
    ) {
        let Some(checker) = self.checkers.get_mut(slot) else {
            return;
        };
        checker.server = server;
        checker.position = position;
        checker.tries = checker.tries.min(new.retry);
        if Kind::of(&new.kind).is_told() {
            // Under the new settings the same report may lead to another verdict.
            self.timers.set(Timer::Check(slot), moment.now);
            return;
        }
        if new.delay_loop < old.delay_loop && checker.attempt.is_none() && checker.tries == 0 {
            checker.due = checker.due.min(moment.now + new.delay_loop);
            if !checker.waiting {
                self.timers.set(Timer::Check(slot), checker.due);
            }
        }
    }

    /// Decides once per configuration what depends on all checks together.
    pub(super) fn weigh_checks(&mut self) {
        let rate: f64 = self
            .config
            .services
            .iter()
            .flat_map(|service| &service.servers)
            .flat_map(|server| &server.checkers)
            .filter(|checker| matches!(checker.kind, CheckerKind::Tcp(_)))
            .map(|checker| 1.0 / checker.delay_loop.as_secs_f64().max(1e-6))
            .sum();
        let closing = if self.config.close_by_reset { Closing::Reset } else { Closing::Orderly };
        if closing == Closing::Orderly && rate > MANY_PER_SECOND {
            tracing::info!(
                "{rate:.0} TCP checks a second: each connection stays in TIME_WAIT for a minute, \
                 checker_close_by_reset avoids that"
            );
        }
        self.closing = closing;
    }

    /// Logs which checks begin.
    pub(super) fn say_beginning(&self, slots: &[CheckerSlot]) {
        let suspended = |slot: &&CheckerSlot| {
            self.place(&self.config, **slot).is_some_and(|place| self.is_suspended(place.service))
        };
        if slots.len() > NAMED {
            let waiting = slots.iter().filter(suspended).count();
            tracing::info!("Activating {} healthcheckers", slots.len() - waiting);
            if waiting > 0 {
                tracing::info!("Deactivating {waiting} healthcheckers");
            }
            return;
        }
        for slot in slots {
            self.say_check(*slot, if suspended(&slot) { "Deactivating" } else { "Activating" });
        }
    }

    /// Logs what becomes of a check.
    pub(super) fn say_check(&self, slot: CheckerSlot, verb: &str) {
        if let Some(place) = self.place(&self.config, slot) {
            let Subject { server, service } = place.subject();
            say!(info, service, "{verb} healthchecker for service {server} for VS {service}");
        }
    }

    pub(super) fn place<'c>(&self, config: &'c Lvs, slot: CheckerSlot) -> Option<Place<'c>> {
        let checker = self.checkers.get(slot)?;
        let service = self.config_of(config, checker.service)?;
        let server = service.servers.get(checker.server.index())?;
        let checker = server.checkers.get(checker.position.index())?;
        let kind = Kind::of(&checker.kind);
        Some(Place { service, server, checker, kind })
    }

    /// A timer of a check is due: the time limit of its attempt, or the start of one.
    pub(super) fn check_due(&mut self, moment: &mut Moment<'_>, slot: CheckerSlot, due: Instant) {
        let Some(checker) = self.checkers.get(slot) else {
            return;
        };
        let (service, attempt) = (checker.service, checker.attempt);
        self.enter(service);
        match attempt {
            None => self.try_check(moment, slot, false),
            Some(attempt) => {
                self.drop_attempt(moment, slot);
                if moment.now.since(due) > LATE && !attempt.repeated {
                    self.counters.repeated += 1;
                    self.try_check(moment, slot, true);
                } else {
                    let config = Arc::clone(&self.config);
                    if let Some(place) = self.place(&config, slot) {
                        self.judge(moment, slot, place.kind.unanswered());
                    }
                }
                self.try_waiting(moment);
            }
        }
    }

    /// An attempt ended. Answers to abandoned attempts are ignored.
    pub(super) fn probed(&mut self, moment: &mut Moment<'_>, probe: ProbeId, verdict: Verdict) {
        let Some(checker) = self.checkers.get_mut(probe.checker) else {
            return;
        };
        if checker.attempt.is_none_or(|attempt| attempt.serial != probe.serial) {
            return;
        }
        checker.attempt = None;
        let service = checker.service;
        self.running = self.running.saturating_sub(1);
        self.enter(service);
        self.judge(moment, probe.checker, verdict);
        self.try_waiting(moment);
    }

    fn try_check(&mut self, moment: &mut Moment<'_>, slot: CheckerSlot, repeated: bool) {
        let config = Arc::clone(&self.config);
        let page = self.checkers.get(slot).map_or(0, |checker| checker.page);
        let place = self.place(&config, slot);
        if let Some(Place { kind: Kind::Unusable(check), .. }) = place {
            self.judge(moment, slot, Verdict::Failure(Failure::Answer(check.reason.clone())));
            return;
        }
        if place.is_some_and(|place| place.kind.is_told()) {
            self.judge_report(moment, slot);
            return;
        }
        // It is scheduled again when the address is present.
        let Some(request) = place
            .filter(|place| !self.is_suspended(place.service))
            .and_then(|place| place.kind.request(page))
        else {
            return;
        };
        let Some(checker) = self.checkers.get_mut(slot) else {
            return;
        };
        if self.running >= self.limits.probes {
            if !checker.waiting {
                checker.waiting = true;
                self.waiting.push_back(slot);
            }
            return;
        }
        self.running += 1;
        self.serial += 1;
        self.counters.attempts += 1;
        checker.attempt = Some(Attempt { serial: self.serial, repeated });
        self.timers.set(Timer::Check(slot), moment.now + request.limit());
        let probe = ProbeId { checker: slot, serial: self.serial };
        let closing = request.closing(self.closing);
        moment.out.push(Action::StartProbe { probe, request, closing });
    }

    fn try_waiting(&mut self, moment: &mut Moment<'_>) {
        while self.running < self.limits.probes {
            let Some(slot) = self.waiting.pop_front() else {
                return;
            };
            // The check may have been removed and its number reused.
            if let Some(checker) = self.checkers.get_mut(slot)
                && core::mem::take(&mut checker.waiting)
            {
                self.try_check(moment, slot, false);
            }
        }
    }

    /// Evaluates a verdict: nothing yet, or a result of the check.
    pub(super) fn judge(&mut self, moment: &mut Moment<'_>, slot: CheckerSlot, verdict: Verdict) {
        let config = Arc::clone(&self.config);
        let Some(place) = self.place(&config, slot) else {
            return;
        };
        let Some(checker) = self.checkers.get_mut(slot) else {
            return;
        };
        let settings = place.checker;
        let before = checker.last.replace(verdict.clone());
        let first = !checker.has_run;
        let (result, share) = match &verdict {
            Verdict::Untried { .. } => {
                self.counters.untried += 1;
                if before.as_ref() != Some(&verdict) {
                    let (keyword, Subject { server, service }) =
                        (place.kind.keyword(), place.subject());
                    say!(warn, service, "{keyword} on service {server}: {verdict}. Rescheduling");
                }
                (None, Share::Configured)
            }
            Verdict::Success(share) => {
                self.counters.succeeded += 1;
                checker.tries = 0;
                if !checker.up
                    && let subject = place.subject()
                    && let Some(line) = place.kind.page_line(&subject, checker.page)
                {
                    say!(info, subject.service, "{line}");
                }
                if checker.turn_page(place.kind.pages()) {
                    let hurried = place.kind.hurries() && (first || !checker.up);
                    checker.due = next_point(checker.due, settings.delay_loop, moment.now);
                    self.timers
                        .set(Timer::Check(slot), if hurried { moment.now } else { checker.due });
                    return;
                }
                if (first && !place.kind.is_told()) || !checker.up {
                    let subject = place.subject();
                    say!(info, subject.service, "{}", place.kind.success_line(&subject));
                }
                (Some(true), *share)
            }
            Verdict::Failure(failure) => {
                self.counters.failed += 1;
                let again = checker.up
                    && !checker.decisive
                    && !place.kind.is_told()
                    && checker.tries < settings.retry;
                if checker.up && settings.log_all_failures {
                    let tries = Tries { so_far: checker.tries, all: settings.retry, again };
                    let subject = place.subject();
                    if let Some(line) = place.kind.attempt_line(&subject, failure, tries) {
                        say!(info, subject.service, "{line}");
                    }
                }
                if again {
                    checker.tries += 1;
                    self.timers.set(Timer::Check(slot), moment.now + settings.delay_before_retry);
                    return;
                }
                if first || checker.up {
                    let tries = Tries { so_far: checker.tries, all: settings.retry, again: false };
                    let subject = place.subject();
                    let line = place.kind.failure_line(&subject, failure, tries);
                    say!(info, subject.service, "{line}");
                }
                checker.alone = true;
                (Some(false), Share::Configured)
            }
        };
        checker.due = next_point(checker.due, settings.delay_loop, moment.now);
        if result == Some(false) && place.kind.waits_while_down() {
            checker.due = checker.due.max(moment.now + settings.delay_before_retry);
        }
        self.timers.set(Timer::Check(slot), checker.due);
        if let Some(up) = result {
            checker.tries = 0;
            checker.decisive = false;
            // In either case the server is in the table with one weight only.
            if up {
                self.share(moment, slot, share);
                self.report(moment, slot, up);
            } else {
                self.report(moment, slot, up);
                self.share(moment, slot, share);
            }
        }
    }
}

impl Checker {
    /// Continues with the next page after a good one; false if that was the last one.
    fn turn_page(&mut self, pages: usize) -> bool {
        let again = core::mem::take(&mut self.alone) && self.page != 0;
        self.page = if again { 0 } else { self.page + 1 };
        let more = self.page < pages;
        if !more {
            self.page = 0;
        }
        more
    }
}

/// The first time after `now` in the series given by `due` and `period`.
fn next_point(due: Instant, period: Duration, now: Instant) -> Instant {
    if due > now {
        return due;
    }
    let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).max(1);
    let behind = now.as_nanos() - due.as_nanos();
    let steps = behind / period + 1;
    due + Duration::from_nanos(period.saturating_mul(steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phase_stays() {
        let at = Instant::from_nanos;
        let period = Duration::from_nanos(10);
        assert_eq!(next_point(at(3), period, at(3)), at(13));
        assert_eq!(next_point(at(3), period, at(12)), at(13));
        assert_eq!(next_point(at(3), period, at(13)), at(23));
        assert_eq!(next_point(at(3), period, at(39)), at(43));
        assert_eq!(next_point(at(50), period, at(39)), at(50));
        assert_eq!(next_point(at(3), Duration::MAX, at(39)), Instant::from_nanos(u64::MAX));
    }
}
