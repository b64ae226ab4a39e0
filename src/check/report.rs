//! Checks that wait for reports instead of trying something: numbers in tracked files, which another process reads.
//!
//! At the start nothing is begun before all are known, so that a server that is to be out is never in, nor the other way
//! round; a report that does not come is not waited for without end. The timer of such a check is that limit.

use core::time::Duration;
use std::sync::Arc;

use super::probe::{Kind, Verdict};
use super::{Engine, Moment, Phase, number};
use crate::base::{Instant, Name};
use crate::model::{CheckerKind, Lvs};

/// How long a report is waited for. It takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

impl Engine {
    /// A new configuration is there.
    pub(super) fn forget_reports(&mut self, config: &Lvs) {
        let wanted: Vec<&Name> = files(config).collect();
        // What the configuration before did not name may have been reported for this one.
        self.files.retain(|name, _| wanted.contains(&name));
    }

    /// Reads the table as soon as all is known that decides who is in it.
    pub(super) fn begin_when_told(&mut self, moment: &mut Moment<'_>) {
        if files(&self.config).all(|name| self.files.contains_key(name)) {
            self.read_table(moment);
        } else if self.table_retry.is_none() {
            self.table_retry = Some(moment.now + PATIENCE);
        }
    }

    /// The number in a file.
    pub(super) fn report_of_file(&mut self, moment: &mut Moment<'_>, name: Name, value: i32) {
        let before = self.files.insert(name.clone(), value);
        if matches!(self.phase, Phase::Idle) {
            if self.table_retry.is_some() {
                self.begin_when_told(moment);
            }
            return;
        }
        if before == Some(value) {
            return;
        }
        let config = Arc::clone(&self.config);
        let about = |slot: &u32| {
            let kind = self.place(&config, *slot).map(|place| place.kind);
            matches!(kind, Some(Kind::File(check)) if check.file == name)
        };
        let slots = self.checkers.iter().map(|(slot, _)| number(slot));
        let concerned: Vec<u32> = slots.filter(about).collect();
        for slot in concerned {
            if let Some(checker) = self.checkers.get(slot as usize) {
                self.enter(checker.service);
                self.judge_report(moment, slot);
            }
        }
    }

    /// What the report amounts to for a check. Nothing for one that tries something.
    pub(super) fn judge_report(&mut self, moment: &mut Moment<'_>, slot: u32) {
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
        self.checks.clear(slot);
    }

    /// What is known, or assumed while it is not; none for a check that tries something.
    pub(super) fn reported(&self, kind: Kind<'_>) -> Option<Verdict> {
        match kind {
            Kind::File(check) => {
                let value = self.files.get(&check.file).copied().unwrap_or(0);
                Some(super::probe::file::verdict(check, value))
            }
            _ => None,
        }
    }

    /// Whether what the check waits for was reported.
    pub(super) fn is_known(&self, kind: Kind<'_>) -> bool {
        matches!(kind, Kind::File(check) if self.files.contains_key(&check.file))
    }

    /// When a check that waits for reports is judged by what is known: at once, unless that is nothing.
    pub(super) fn due_by_report(&self, now: Instant, kind: &CheckerKind) -> Option<Instant> {
        match kind {
            CheckerKind::File(check) if self.files.contains_key(&check.file) => Some(now),
            CheckerKind::File(_) => Some(now + PATIENCE),
            _ => None,
        }
    }
}

/// The tracked files that checks wait for.
fn files(config: &Lvs) -> impl Iterator<Item = &Name> {
    let servers = config.services.iter().flat_map(|service| &service.servers);
    servers.flat_map(|server| &server.checkers).filter_map(|checker| match &checker.kind {
        CheckerKind::File(check) => Some(&check.file),
        _ => None,
    })
}
