//! A kernel that does not answer.
//!
//! A thread that reads and writes the table can hang in the kernel: a lock that is never released, a module that is
//! being removed. This cannot be repaired here, but it must be noticed: after a minute without any outstanding answer
//! the virtual servers count as not served, so that virtual routers go to FAULT, and a stop does not wait any longer.
//! The next answer restores the normal state.

use core::time::Duration;

use super::start::TIMED_OUT;
use super::{Action, Engine, Event, Phase};
use crate::base::Instant;

/// Longest time from one answer of the kernel to the next; a list of a large table takes a few seconds.
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// Outstanding answers of the kernel.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// Number of outstanding answers.
    open: u64,
    /// Deadline of the next answer; none if none is outstanding, or the deadline has passed.
    until: Option<Instant>,
    /// The deadline has passed.
    is_silent: bool,
}

impl Silence {
    /// When the kernel has been silent for too long.
    pub const fn due(&self) -> Option<Instant> {
        self.until
    }

    /// Whether it has been silent for too long.
    pub const fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// Processes an event that may be an answer.
    pub fn answered(&mut self, now: Instant, event: &Event) {
        if !matches!(event, Event::Table { .. } | Event::Listed(_) | Event::Applied { .. }) {
            return;
        }
        self.open = self.open.saturating_sub(1);
        self.until = (self.open > 0).then(|| now + LONGEST);
        if core::mem::take(&mut self.is_silent) {
            tracing::info!("IPVS: the kernel answers again");
        }
    }

    /// Processes requested actions.
    pub fn asked<'a>(&mut self, now: Instant, actions: impl Iterator<Item = &'a Action>) {
        let answers = |action: &Action| match action {
            Action::Read { .. } | Action::List => 1,
            Action::Apply { ops, .. } => u64::try_from(ops.len()).unwrap_or(u64::MAX),
            _ => 0,
        };
        let more: u64 = actions.map(answers).sum();
        if self.open == 0 && more > 0 {
            self.until = Some(now + LONGEST);
        }
        self.open = self.open.saturating_add(more);
    }
}

impl Engine {
    /// The deadline of an answer has passed.
    pub(super) fn silent(&mut self) {
        self.silence.until = None;
        if matches!(self.phase, Phase::Reading { .. } | Phase::Waiting { .. }) {
            // The first read has a deadline of its own, and is retried.
            return;
        }
        self.silence.is_silent = true;
        let seconds = LONGEST.as_secs();
        tracing::error!("IPVS: the kernel has not answered for {seconds} s (error {TIMED_OUT})");
        if matches!(self.phase, Phase::Stopping { .. }) {
            tracing::error!("IPVS: stopping without access to it, entries may remain");
            let fronts = self.services.values().flat_map(|service| &service.fronts);
            self.owned.extend(fronts.map(|front| front.key));
            self.services.clear();
            self.phase = Phase::Stopping { flushing: false };
        }
    }
}
