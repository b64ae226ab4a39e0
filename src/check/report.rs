//! Checks that wait for reports of other processes instead of making attempts: numbers in tracked files and states of
//! BFD sessions.
//!
//! At the start the table is not read before all numbers are known, so that no server is added and removed again, or
//! the reverse. The wait for a missing report is limited by the timer of such a check. A session reports only changes:
//! before the first one its check is good, or with `alpha` not.

use core::time::Duration;
use std::sync::Arc;

use super::probe::{Kind, Verdict};
use super::{CheckerSlot, Engine, Moment, Phase, Timer};
use crate::base::{Instant, Name};
use crate::model::{CheckerKind, Lvs};
use crate::status::vrrp::TrackerKind;
use crate::status::{Reading, TrackReport};

/// Longest wait for a report, which normally takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

impl Engine {
    /// Applies a new configuration.
    pub(super) fn forget_reports(&mut self, config: &Lvs) {
        let wanted: Vec<&Name> = files(config).collect();
        // Reports that the previous configuration did not need may have arrived early for this one.
        self.files.retain(|name, _| wanted.contains(&name));
        let wanted: Vec<&Name> = checks(config).filter_map(session).collect();
        self.sessions.retain(|name, _| wanted.contains(&name));
    }

    /// Reads the table once the reports that decide which servers are in it are known.
    pub(super) fn begin_when_told(&mut self, moment: &mut Moment<'_>) {
        if files(&self.config).all(|name| self.files.contains_key(name)) {
            self.read_table(moment);
        } else if !self.timers.is_set(Timer::Table) {
            self.timers.set(Timer::Table, moment.now + PATIENCE);
        }
    }

    /// Processes a report about a tracked object.
    pub(super) fn observed(&mut self, moment: &mut Moment<'_>, report: TrackReport) {
        let TrackReport { kind, name, reading } = report;
        match (kind, reading) {
            (TrackerKind::File, Reading::Number(value)) => self.report_of_file(moment, name, value),
            (TrackerKind::Bfd, Reading::Condition { good, .. }) => {
                self.report_of_session(moment, name, good);
            }
            // No check depends on these; a file has a number, and a session has none.
            (TrackerKind::File, Reading::Condition { .. })
            | (TrackerKind::Bfd, Reading::Number(_))
            | (TrackerKind::Script | TrackerKind::Process, _) => {}
        }
    }

    /// Processes the number of a file.
    fn report_of_file(&mut self, moment: &mut Moment<'_>, name: Name, value: i32) {
        let before = self.files.insert(name.clone(), value);
        if matches!(self.phase, Phase::Idle) {
            if self.timers.is_set(Timer::Table) {
                self.begin_when_told(moment);
            }
            return;
        }
        if before != Some(value) {
            let concerns = |kind: Kind<'_>| matches!(kind, Kind::File(check) if check.file == name);
            self.judge_reports(moment, concerns);
        }
    }

    /// Processes a change of a BFD session.
    fn report_of_session(&mut self, moment: &mut Moment<'_>, name: Name, up: bool) {
        let before = self.sessions.insert(name.clone(), up);
        if before != Some(up) && !matches!(self.phase, Phase::Idle) {
            self.judge_reports(
                moment,
                |kind| matches!(kind, Kind::Bfd(session) if *session == name),
            );
        }
    }

    /// Judges the checks that a report concerns.
    fn judge_reports(&mut self, moment: &mut Moment<'_>, concerns: impl Fn(Kind<'_>) -> bool) {
        let config = Arc::clone(&self.config);
        let about = |slot: &CheckerSlot| {
            self.place(&config, *slot).is_some_and(|place| concerns(place.kind))
        };
        let concerned: Vec<CheckerSlot> = self.checkers.numbers().filter(about).collect();
        for slot in concerned {
            if let Some(checker) = self.checkers.get(slot) {
                self.enter(checker.service);
                self.judge_report(moment, slot);
            }
        }
    }

    /// The verdict of a check for a report; none for checks that make attempts.
    pub(super) fn judge_report(&mut self, moment: &mut Moment<'_>, slot: CheckerSlot) {
        let config = Arc::clone(&self.config);
        let Some(place) = self.place(&config, slot) else {
            return;
        };
        let Some(verdict) = self.reported(place.kind) else {
            return;
        };
        if let Kind::File(check) = place.kind
            && !self.is_known(place.kind)
        {
            tracing::warn!("no value of track_file {} yet, 0 is assumed", check.file);
        }
        self.judge(moment, slot, verdict);
        self.timers.clear(Timer::Check(slot));
    }

    /// The known verdict, or the assumed one until a report arrives; none for checks that make attempts, and for a
    /// session before its first change.
    pub(super) fn reported(&self, kind: Kind<'_>) -> Option<Verdict> {
        match kind {
            Kind::File(check) => {
                let value = self.files.get(&check.file).copied().unwrap_or(0);
                Some(super::probe::file::verdict(check, value))
            }
            Kind::Bfd(session) => {
                let up = *self.sessions.get(session)?;
                Some(super::probe::bfd::verdict(session, up))
            }
            _ => None,
        }
    }

    /// Whether the report for the check has arrived.
    pub(super) fn is_known(&self, kind: Kind<'_>) -> bool {
        match kind {
            Kind::File(check) => self.files.contains_key(&check.file),
            Kind::Bfd(session) => self.sessions.contains_key(session),
            _ => false,
        }
    }

    /// When a check that waits for reports is judged: at once if its report is known, else at the time limit.
    pub(super) fn due_by_report(&self, now: Instant, kind: &CheckerKind) -> Option<Instant> {
        match kind {
            CheckerKind::File(check) if self.files.contains_key(&check.file) => Some(now),
            CheckerKind::File(_) => Some(now + PATIENCE),
            CheckerKind::Bfd(_) => Some(now),
            _ => None,
        }
    }
}

/// The tracked files that checks refer to.
fn files(config: &Lvs) -> impl Iterator<Item = &Name> {
    checks(config).filter_map(|kind| match kind {
        CheckerKind::File(check) => Some(&check.file),
        _ => None,
    })
}

/// The BFD session that a check refers to.
const fn session(kind: &CheckerKind) -> Option<&Name> {
    match kind {
        CheckerKind::Bfd(session) => Some(session),
        _ => None,
    }
}

fn checks(config: &Lvs) -> impl Iterator<Item = &CheckerKind> {
    let servers = config.services.iter().flat_map(|service| &service.servers);
    servers.flat_map(|server| &server.checkers).map(|checker| &checker.kind)
}
