//! Checks that wait for reports instead of making attempts: numbers in tracked files, which another process reads.
//!
//! At the start the table is not read before all numbers are known, so that no server is added and removed again, or
//! the reverse. The wait for a missing report is limited by the timer of such a check.

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
            // No check depends on these, and a file has a number.
            (TrackerKind::File, Reading::Condition { .. })
            | (TrackerKind::Script | TrackerKind::Process | TrackerKind::Bfd, _) => {}
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
        if before == Some(value) {
            return;
        }
        let config = Arc::clone(&self.config);
        let about = |slot: &CheckerSlot| {
            let kind = self.place(&config, *slot).map(|place| place.kind);
            matches!(kind, Some(Kind::File(check)) if check.file == name)
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
            tracing::warn!("nothing is known of track_file {} yet, 0 is assumed", check.file);
        }
        self.judge(moment, slot, verdict);
        self.timers.clear(Timer::Check(slot));
    }

    /// The known verdict, or the assumed one until a report arrives; none for checks that make attempts.
    pub(super) fn reported(&self, kind: Kind<'_>) -> Option<Verdict> {
        match kind {
            Kind::File(check) => {
                let value = self.files.get(&check.file).copied().unwrap_or(0);
                Some(super::probe::file::verdict(check, value))
            }
            _ => None,
        }
    }

    /// Whether the report for the check has arrived.
    pub(super) fn is_known(&self, kind: Kind<'_>) -> bool {
        matches!(kind, Kind::File(check) if self.files.contains_key(&check.file))
    }

    /// When a check that waits for reports is judged: at once if its report is known, else at the time limit.
    pub(super) fn due_by_report(&self, now: Instant, kind: &CheckerKind) -> Option<Instant> {
        match kind {
            CheckerKind::File(check) if self.files.contains_key(&check.file) => Some(now),
            CheckerKind::File(_) => Some(now + PATIENCE),
            _ => None,
        }
    }
}

/// The tracked files that checks refer to.
fn files(config: &Lvs) -> impl Iterator<Item = &Name> {
    let servers = config.services.iter().flat_map(|service| &service.servers);
    servers.flat_map(|server| &server.checkers).filter_map(|checker| match &checker.kind {
        CheckerKind::File(check) => Some(&check.file),
        _ => None,
    })
}
